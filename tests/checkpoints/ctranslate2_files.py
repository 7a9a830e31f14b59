"""Encoders as CTranslate2's converter writes them: variables one after the other, queries, keys and values fused."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
Arrays = dict[str, np.ndarray]


_PLACES = ("self_attention/linear_1", "ffn/linear_0", "ffn/linear_1", "self_attention/layer_norm", "ffn/layer_norm")
"""CTranslate2's names for what follows the fused queries, keys and values of a layer: three matrices, two norms."""

_BERT = (
    "encoder.layer",
    ("attention.self.query", "attention.self.key", "attention.self.value"),
    ("attention.output.dense", "intermediate.dense", "output.dense", "attention.output.LayerNorm", "output.LayerNorm"),
)
_DISTILBERT = (
    "transformer.layer",
    ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    ("attention.out_lin", "ffn.lin1", "ffn.lin2", "sa_layer_norm", "output_layer_norm"),
)
"""A family's prefix of layers, its queries, keys and values, and its names for the places above."""


def bert_variables(model: Any, *, quantized: bool = False, kind: str = "float32") -> Arrays:
    """Return the variables of a BERT of transformers, floats of `kind`.

    With `quantized`, matrices are int8 rows whose scales are 127 by their largest number.
    """
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    weights = {
        "encoder/embeddings_0": state["embeddings.word_embeddings.weight"],
        "encoder/embeddings_1": state["embeddings.token_type_embeddings.weight"],
        "pooler_dense": state["pooler.dense.weight"],
    }
    others: Arrays = {
        "encoder/position_encodings/encodings": state["embeddings.position_embeddings.weight"],
        "encoder/layernorm_embedding/gamma": state["embeddings.LayerNorm.weight"],
        "encoder/layernorm_embedding/beta": state["embeddings.LayerNorm.bias"],
        "pooler_dense/bias": state["pooler.dense.bias"],
        "encoder/num_heads": np.int16(model.config.num_attention_heads),
        **{
            f"encoder/{n}": np.int8(v)
            for n, v in {"activation": 3, "embeddings_merge": 1, "pre_norm": 0, "scale_embeddings": 0}.items()
        },
        "pooler_activation": np.int8(5),
    }
    _put_layers(state, model.config.num_hidden_layers, _BERT, weights, others)
    return _stored(weights, others, quantized, kind)


def distilbert_variables(model: Any, *, quantized: bool = False, kind: str = "float32") -> Arrays:
    """Return the variables of a DistilBERT of transformers: one embedding of words, no token types and no pooler."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    weights = {"encoder/embeddings_0": state["embeddings.word_embeddings.weight"]}
    settings = {
        "activation": 3,
        "pre_norm": 0,
        "scale_embeddings": 0,
        "multi_query_attention": 0,
        "embeddings_merge": 0,
    }
    others: Arrays = {
        "encoder/position_encodings/encodings": state["embeddings.position_embeddings.weight"],
        "encoder/layernorm_embedding/gamma": state["embeddings.LayerNorm.weight"],
        "encoder/layernorm_embedding/beta": state["embeddings.LayerNorm.bias"],
        "encoder/num_heads": np.int16(model.config.n_heads),
        **{f"encoder/{name}": np.int8(value) for name, value in settings.items()},
    }
    _put_layers(state, model.config.n_layers, _DISTILBERT, weights, others)
    return _stored(weights, others, quantized, kind)


def _put_layers(
    state: Arrays, count: int, family: tuple[str, Sequence[str], Sequence[str]], weights: Arrays, others: Arrays
) -> None:
    """Put the matrices of all layers into `weights`, and their biases and norms into `others`."""
    prefix, fused, names = family
    for i in range(count):
        here, there = f"{prefix}.{i}.", f"encoder/layer_{i}/"
        weights[f"{there}self_attention/linear_0"] = np.concatenate([state[f"{here}{n}.weight"] for n in fused])
        others[f"{there}self_attention/linear_0/bias"] = np.concatenate([state[f"{here}{n}.bias"] for n in fused])
        for ours, theirs in zip(names, _PLACES, strict=True):
            weight, bias = (state[f"{here}{ours}.{part}"] for part in ("weight", "bias"))
            if theirs.endswith("norm"):
                others |= {f"{there}{theirs}/gamma": weight, f"{there}{theirs}/beta": bias}
            else:
                weights[there + theirs] = weight
                others[f"{there}{theirs}/bias"] = bias


def _stored(weights: Mapping[str, np.ndarray], others: Arrays, quantized: bool, kind: str) -> Arrays:
    floats = np.dtype(ml_dtypes.bfloat16) if kind == "bfloat16" else np.dtype(kind)
    variables = {n: v.astype(floats) if np.asarray(v).dtype == np.float32 else v for n, v in others.items()}
    for name, weight in weights.items():
        if quantized:
            scale = (127 / np.abs(weight).max(1)).astype(np.float32)
            variables[f"{name}/weight"] = np.round(weight * scale[:, None]).astype(np.int8)
            variables[f"{name}/weight_scale"] = scale
        else:
            variables[f"{name}/weight"] = weight.astype(floats)
    return variables


def write_model(
    path: Path,
    variables: Mapping[str, np.ndarray],
    spec: str = "TransformerEncoderSpec",
    aliases: Mapping[str, str] | None = None,
) -> None:
    """Write model.bin, version 6 of its layout; `aliases` are names of variables that are stored under another name."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    raw = struct.pack("<I", 6) + text(spec) + struct.pack("<II", 1, len(variables))
    for name, value in variables.items():
        array = np.asarray(value)
        raw += text(name) + struct.pack("<B", array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape)
        raw += struct.pack("<BI", _TYPES.index(array.dtype.name), array.nbytes) + array.tobytes()
    raw += struct.pack("<I", len(aliases or {}))
    path.write_bytes(raw + b"".join(text(alias) + text(name) for alias, name in (aliases or {}).items()))
