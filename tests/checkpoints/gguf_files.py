"""GGUF files as llama.cpp's converter writes them: metadata, tensor infos, aligned blocks."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

F32, F16, Q8_0 = 0, 1, 8

_BERT = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    kind = 8 if isinstance(value[0], str) else 5
    items = b"".join(_text(v) if kind == 8 else struct.pack("<i", v) for v in value)
    return struct.pack("<IIQ", 9, kind, len(value)) + items


def q8_0(array: np.ndarray) -> bytes:
    """Return rows in blocks of 32 integers, each with a 16-bit scale."""
    blocks = array.astype(np.float32).reshape(-1, 32)
    scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float16)
    integers = np.round(blocks / np.maximum(scale.astype(np.float32), 1e-12)).clip(-127, 127).astype(np.int8)
    return b"".join(s.tobytes() + i.tobytes() for s, i in zip(scale, integers, strict=True))


def write_gguf(
    path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, tuple[int, Sequence[int], bytes]]
) -> Path:
    """Write a file; a tensor is its type, its shape (outermost first) and its bytes."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_text(k) + _value(v) for k, v in metadata.items())
    data = b""
    for name, (kind, shape, raw) in tensors.items():
        head += _text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in reversed(shape))
        head += struct.pack("<IQ", kind, len(data))
        data += raw + bytes(-len(raw) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def bert_tensors(model: Any, kind: int = F32) -> dict[str, tuple[int, Sequence[int], bytes]]:
    """Return the tensors of a BERT by ggml's names; matrices are stored as `kind`, everything else as F32."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        stem, _, part = name.rpartition(".")
        layer, inner = (
            (stem.split(".")[2], ".".join(stem.split(".")[3:])) if stem.startswith("encoder") else (None, stem)
        )
        short = _BERT.get(inner)
        if short is None:  # the pooler, which llama.cpp leaves out
            continue
        ours = f"{f'blk.{layer}.' if layer else ''}{short}.{part}"
        tensors[ours] = _stored(ours, tensor, kind)
    return tensors


def bert_metadata(model: Any, pieces: Sequence[str], **changes: Any) -> dict[str, Any]:
    """Return what the converter says of a BERT, its WordPiece vocabulary included."""
    metadata = _encoder_metadata("bert", model.config) | _wordpiece(pieces)
    return {k: v for k, v in (metadata | changes).items() if v is not None}


def _encoder_metadata(name: str, config: Any) -> dict[str, Any]:
    return {
        "general.architecture": name,
        f"{name}.block_count": config.num_hidden_layers,
        f"{name}.context_length": config.max_position_embeddings,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.feed_forward_length": config.intermediate_size,
        f"{name}.attention.head_count": config.num_attention_heads,
        f"{name}.attention.layer_norm_epsilon": config.layer_norm_eps,
        f"{name}.attention.causal": False,
    }


def _wordpiece(pieces: Sequence[str]) -> dict[str, Any]:
    special = [p.startswith("[") and p.endswith("]") for p in pieces]
    tokens = [p if s else p[2:] if p.startswith("##") else f"\u2581{p}" for p, s in zip(pieces, special, strict=True)]
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if s else 1 for s in special],
        **{f"tokenizer.ggml.{k}_token_id": pieces.index(v) for k, v in _SPECIAL.items()},
    }


def nomic_metadata(model: Any, pieces: Sequence[str]) -> dict[str, Any]:
    """Return what the converter says of a NomicBert."""
    base = model.config.rope_parameters["rope_theta"]
    metadata = _encoder_metadata("nomic-bert", model.config) | _wordpiece(pieces)
    return metadata | {"nomic-bert.rope.freq_base": float(base)}


def nomic_tensors(model: Any, kind: int = F32) -> dict[str, tuple[int, Sequence[int], bytes]]:
    """Return the tensors of a NomicBert by ggml's names, queries, keys and values in one; matrices of blocks are stored as `kind`."""
    arrays = {
        "token_embd.weight": model.embeddings.word_embeddings.weight,
        "token_types.weight": model.embeddings.token_type_embeddings.weight,
        "token_embd_norm.weight": model.embeddings.LayerNorm.weight,
        "token_embd_norm.bias": model.embeddings.LayerNorm.bias,
    }
    for i, layer in enumerate(model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        fused = [part.weight.detach().numpy() for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
        arrays |= {
            f"blk.{i}.attn_qkv.weight": np.concatenate(fused),
            f"blk.{i}.attn_output.weight": attention.o_proj.weight,
            f"blk.{i}.ffn_gate.weight": mlp.gate_proj.weight,
            f"blk.{i}.ffn_up.weight": mlp.up_proj.weight,
            f"blk.{i}.ffn_down.weight": mlp.down_proj.weight,
            f"blk.{i}.attn_output_norm.weight": layer.post_attention_layernorm.weight,
            f"blk.{i}.attn_output_norm.bias": layer.post_attention_layernorm.bias,
            f"blk.{i}.layer_output_norm.weight": layer.post_mlp_layernorm.weight,
            f"blk.{i}.layer_output_norm.bias": layer.post_mlp_layernorm.bias,
        }
    return {name: _stored(name, array, kind) for name, array in arrays.items()}


def _stored(name: str, array: Any, kind: int) -> tuple[int, Sequence[int], bytes]:
    """Return a tensor of a file: matrices of blocks as `kind`, everything else as F32."""
    array = array if isinstance(array, np.ndarray) else array.detach().numpy()
    if array.ndim < 2 or not name.startswith("blk."):
        kind = F32
    raw = q8_0(array) if kind == Q8_0 else array.astype(np.float16 if kind == F16 else np.float32).tobytes()
    return kind, tuple(array.shape), raw


_SPECIAL = {"cls": "[CLS]", "seperator": "[SEP]", "padding": "[PAD]", "unknown": "[UNK]", "mask": "[MASK]"}


def pieces_of(tokenizer: Any) -> list[str]:
    """Return a tokenizer's vocabulary by ids."""
    return [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
