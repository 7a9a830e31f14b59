"""Read models that other runtimes saved in formats of their own: GGUF of llama.cpp, model.bin of CTranslate2."""
