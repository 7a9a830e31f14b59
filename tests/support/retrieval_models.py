"""Small random models of sentence-transformers that are not plain sentence embeddings, written as its own library writes them."""

import json
from pathlib import Path
from typing import Any

import torch

from . import models

PROMPTS = {"query": "the query: ", "document": "the text: "}

TEXTS = ["the PRICE of bread", "", "a", "rain and TRAIN " * 40, "Time runs, of the large LANGUAGE model!"]
"""With capitals, empty, and longer than the models take."""


def encoder(directory: Path, task: str = "feature-extraction", **settings: Any) -> Any:
    """Return a Transformer module around a random BERT, written below `directory`."""
    from sentence_transformers.base.modules import Transformer

    models.make_model(directory, "bert", task, num_hidden_layers=3)
    named = {"transformer_task": "fill-mask"} if task == "fill-mask" else {}
    return Transformer(str(directory), **named, **settings)


def tokenizer(directory: Path) -> Any:
    """Return a tokenizer, written below `directory`."""
    import transformers

    models.make_tokenizer(directory)
    return transformers.AutoTokenizer.from_pretrained(directory)


def save_sparse(directory: Path, modules: list[Any], **settings: Any) -> Path:
    """Write a SparseEncoder of modules."""
    from sentence_transformers import SparseEncoder

    SparseEncoder(modules=modules, prompts=PROMPTS, **settings).save_pretrained(str(directory))
    return directory


def splade(directory: Path, pooling: str = "max", activation: str = "relu", **settings: Any) -> Path:
    """Write a SPLADE model."""
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    modules = [encoder(directory / "base", "fill-mask"), SpladePooling(pooling, activation)]
    return save_sparse(directory / "model", modules, **settings)


def autoencoder(directory: Path) -> Path:
    """Write a sparse autoencoder on mean embeddings."""
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

    codes = SparseAutoEncoder(32, 64, k=8)
    with torch.no_grad():
        for parameter in codes.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return save_sparse(directory / "model", [encoder(directory / "base"), Pooling(32), codes])


def lookup(directory: Path) -> Any:
    """Return a SparseStaticEmbedding with random weights."""
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

    entries = tokenizer(directory)
    return SparseStaticEmbedding(entries, weight=torch.rand(len(entries)) + 0.1)


def router(directory: Path) -> Path:
    """Write an inference-free SPLADE model: queries are looked up, documents go through the encoder."""
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    documents = [encoder(directory / "base", "fill-mask"), SpladePooling("sum", "log1p_relu")]
    both = Router.for_query_document(query_modules=[lookup(directory / "entries")], document_modules=documents)
    return save_sparse(directory / "model", [both])


def static(directory: Path, **settings: Any) -> Path:
    """Write a SentenceTransformer of a static embedding."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    torch.manual_seed(0)
    modules = [StaticEmbedding(tokenizer(directory / "entries"), embedding_dim=32), Normalize()]
    SentenceTransformer(modules=modules, prompts=PROMPTS, **settings).save_pretrained(str(directory / "model"))
    return directory / "model"


def late_interaction(
    directory: Path, *, expansion: dict[str, Any] | None = None, skipped: Any = None, **settings: Any
) -> Path:
    """Write a MultiVectorEncoder; `expansion` is that of queries, `skipped` the options of its mask."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    torch.manual_seed(0)
    modules = [
        encoder(directory / "base", query_expansion=expansion, **settings),
        Dense(32, 16, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings"),
        MultiVectorMask(**(skipped or {})),
        Normalize(module_input_name="token_embeddings"),
    ]
    MultiVectorEncoder(modules=modules, prompts=PROMPTS).save_pretrained(str(directory / "model"))
    return directory / "model"


def pylate(directory: Path, **settings: Any) -> Path:
    """Write a model as PyLate does: a Transformer, a Dense of its own, and settings beside them."""
    from safetensors.torch import save_file

    made = models.make_model(directory / "model", "bert", num_hidden_layers=3)
    types = {"": "sentence_transformers.models.Transformer", "1_Dense": "pylate.models.Dense.Dense"}
    listed = [{"idx": i, "name": str(i), "path": p, "type": t} for i, (p, t) in enumerate(types.items())]
    (made / "modules.json").write_text(json.dumps(listed))
    sizes = {"in_features": 32, "out_features": 16, "bias": False, "use_residual": False}
    (made / "1_Dense").mkdir()
    (made / "1_Dense" / "config.json").write_text(
        json.dumps({**sizes, "activation_function": "torch.nn.modules.linear.Identity"})
    )
    save_file({"linear.weight": torch.randn(16, 32) * 0.3}, made / "1_Dense" / "model.safetensors")
    known = {"model_type": "ColBERT", "query_prefix": "[MASK]", "document_prefix": "[UNK] ", "query_length": 24}
    known |= {"document_length": 40, "attend_to_expansion_tokens": False, "skiplist_words": ["a", "the"]}
    (made / "config_sentence_transformers.json").write_text(json.dumps(known | settings))
    return made


def stanford_colbert(directory: Path, **metadata: Any) -> Path:
    """Write a checkpoint as Stanford's ColBERT does: encoder and projection in one file, settings in `artifact.metadata`."""
    from safetensors.torch import load_file, save_file

    made = models.make_model(directory / "model", "bert", num_hidden_layers=3)
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    state = {f"bert.{name}": tensor for name, tensor in load_file(made / "model.safetensors").items()}
    torch.manual_seed(0)
    save_file({**state, "linear.weight": torch.randn(16, 32) * 0.3}, made / "model.safetensors", {"format": "pt"})
    known = {"query_token_id": "[MASK]", "doc_token_id": "[UNK]", "query_maxlen": 24, "doc_maxlen": 40, "dim": 16}
    known |= {"attend_to_mask_tokens": False, "mask_punctuation": True, "similarity": "cosine", "lr": 1e-5, "nway": 64}
    (made / "artifact.metadata").write_text(json.dumps(known | metadata))
    return made
