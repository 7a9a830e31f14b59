"""Small random models of further families, each of three layers, as Hugging Face directories."""

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.support.models import VOCABULARY, make_tokenizer

_BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}
_LLAMA = _BERT | {"num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 1, "eos_token_id": 2}
_T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
_BART = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
_XLM = {
    "vocab_size": VOCABULARY,
    "emb_dim": 32,
    "n_langs": 1,
    "n_layers": 3,
    "n_heads": 4,
    "max_position_embeddings": 66,
    "pad_index": 0,
    "pad_token_id": 0,
}
_GPT = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 66,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

OTHER_FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "roformer": ("RoFormerModel", "RoFormerConfig", _BERT),
    "esm": ("EsmModel", "EsmConfig", _BERT | {"position_embedding_type": "rotary", "mask_token_id": 4}),
    "rembert": ("RemBertModel", "RemBertConfig", _BERT | {"input_embedding_size": 16, "output_embedding_size": 16}),
    "megatron-bert": ("MegatronBertModel", "MegatronBertConfig", _BERT),
    "ernie": ("ErnieModel", "ErnieConfig", _BERT),
    "data2vec-text": ("Data2VecTextModel", "Data2VecTextConfig", _BERT | {"type_vocab_size": 1}),
    "xlm-roberta-xl": ("XLMRobertaXLModel", "XLMRobertaXLConfig", _BERT | {"type_vocab_size": 1}),
    "xmod": ("XmodModel", "XmodConfig", _BERT | {"type_vocab_size": 1, "languages": ["en"], "default_language": "en"}),
    "splinter": ("SplinterModel", "SplinterConfig", _BERT),
    "big_bird": ("BigBirdModel", "BigBirdConfig", _BERT | {"attention_type": "original_full"}),
    "bert-generation": ("BertGenerationEncoder", "BertGenerationConfig", _BERT),
    "roberta-prelayernorm": ("RobertaPreLayerNormModel", "RobertaPreLayerNormConfig", _BERT | {"type_vocab_size": 1}),
    "luke": ("LukeModel", "LukeConfig", _BERT | {"entity_vocab_size": 10, "entity_emb_size": 16, "type_vocab_size": 1}),
    "ibert": ("IBertModel", "IBertConfig", _BERT | {"type_vocab_size": 1}),
    "nomic_bert": ("NomicBertModel", "NomicBertConfig", _BERT),
    "eurobert": ("EuroBertModel", "EuroBertConfig", _LLAMA),
    "jina_embeddings_v3": ("JinaEmbeddingsV3Model", "JinaEmbeddingsV3Config", _BERT | {"type_vocab_size": 1}),
    "convbert": (
        "ConvBertModel",
        "ConvBertConfig",
        _BERT | {"embedding_size": 16, "head_ratio": 2, "conv_kernel_size": 3},
    ),
    "squeezebert": ("SqueezeBertModel", "SqueezeBertConfig", _BERT | {"embedding_size": 32}),
    "deberta": (
        "DebertaModel",
        "DebertaConfig",
        _BERT
        | {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "max_relative_positions": -1,
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    "flaubert": ("FlaubertModel", "FlaubertConfig", _XLM),
    "xlm": ("XLMModel", "XLMConfig", _XLM),
    "fnet": ("FNetModel", "FNetConfig", {k: v for k, v in _BERT.items() if k != "num_attention_heads"}),
    "markuplm": ("MarkupLMModel", "MarkupLMConfig", _BERT | {"xpath_unit_hidden_size": 8, "max_depth": 4}),
    "dpr": ("DPRQuestionEncoder", "DPRConfig", _BERT),
    "t5": ("T5EncoderModel", "T5Config", _T5),
    "umt5": ("UMT5EncoderModel", "UMT5Config", _T5),
    "mt5": ("MT5EncoderModel", "MT5Config", _T5),
    "bart": ("BartForSequenceClassification", "BartConfig", _BART),
    "mbart": ("MBartForSequenceClassification", "MBartConfig", _BART),
    "qwen2": ("Qwen2Model", "Qwen2Config", _LLAMA),
    "qwen3": ("Qwen3Model", "Qwen3Config", _LLAMA),
    "llama": ("LlamaModel", "LlamaConfig", _LLAMA),
    "mistral": ("MistralModel", "MistralConfig", _LLAMA | {"sliding_window": 8}),
    "gemma3_text": (
        "Gemma3TextModel",
        "Gemma3TextConfig",
        _LLAMA | {"sliding_window": 8, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
    ),
    "embedding-gemma": (
        "Gemma3TextModel",
        "Gemma3TextConfig",
        _LLAMA
        | {
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "use_bidirectional_attention": True,
        },
    ),
    "gemma": ("GemmaModel", "GemmaConfig", _LLAMA),
    "gemma2": ("Gemma2Model", "Gemma2Config", _LLAMA | {"sliding_window": 8}),
    "phi3": ("Phi3Model", "Phi3Config", _LLAMA),
    "gpt2": ("GPT2Model", "GPT2Config", _GPT),
    "gpt_neo": (
        "GPTNeoModel",
        "GPTNeoConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_layers": 4,
            "num_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 66,
            "attention_types": [[["global", "local"], 2]],
            "window_size": 8,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
    "gpt_neox": ("GPTNeoXModel", "GPTNeoXConfig", _BERT),
    "opt": (
        "OPTModel",
        "OPTConfig",
        {k: v for k, v in _BERT.items() if k != "intermediate_size"}
        | {"ffn_dim": 64, "word_embed_proj_dim": 32, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "clip_text_model": (
        "CLIPTextModel",
        "CLIPTextConfig",
        _BERT | {"bos_token_id": 1, "eos_token_id": 2, "projection_dim": 16},
    ),
    "siglip_text_model": (
        "SiglipTextModel",
        "SiglipTextConfig",
        _BERT | {"bos_token_id": 1, "eos_token_id": 2, "projection_size": 32},
    ),
    "longformer": (
        "LongformerModel",
        "LongformerConfig",
        _BERT | {"attention_window": 8, "type_vocab_size": 1, "sep_token_id": 2},
    ),
    "nystromformer": (
        "NystromformerModel",
        "NystromformerConfig",
        _BERT | {"segment_means_seq_len": 64, "num_landmarks": 64, "conv_kernel_size": 3},
    ),
    "funnel": (
        "FunnelBaseModel",
        "FunnelConfig",
        {"vocab_size": VOCABULARY, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "block_sizes": [1, 1, 1]},
    ),
    "canine": ("CanineModel", "CanineConfig", _BERT | {"num_hash_buckets": 64, "local_transformer_stride": 8}),
    "xlnet": (
        "XLNetModel",
        "XLNetConfig",
        {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 3, "n_head": 4, "d_inner": 64, "pad_token_id": 0},
    ),
    "layoutlm": ("LayoutLMModel", "LayoutLMConfig", _BERT),
    "lilt": ("LiltModel", "LiltConfig", _BERT | {"type_vocab_size": 1}),
    "yoso": ("YosoModel", "YosoConfig", _BERT | {"use_expectation": True}),
    "mra": ("MraModel", "MraConfig", _BERT),
    "esmc": ("EsmcModel", "EsmcConfig", _BERT),
    "bros": ("BrosModel", "BrosConfig", _BERT | {"dim_bbox": 8}),
    "tapas": ("TapasModel", "TapasConfig", _BERT),
    "visual_bert": ("VisualBertModel", "VisualBertConfig", _BERT),
}
"""Family → class of the model, class of its config, settings."""


def make_other(directory: Path, family: str, **changes: Any) -> Path:
    """Write a random model of `family` with its tokenizer to `directory`; `changes` go into the config."""
    torch.manual_seed(0)
    name, config_name, settings = OTHER_FAMILIES[family]
    model = getattr(transformers, name)(getattr(transformers, config_name)(**{**settings, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # untrained norms and biases are ones and zeros, which would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(directory)
    make_tokenizer(directory)
    return directory
