"""Name the parts of a GGUF model as transformers does, and make the config of its class."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ....errors import SourceError
from ..checkpoints.integers import Integers, cut_rows
from ..checkpoints.state import StoredTensor, listed
from ..checkpoints.stored import Stored
from .gguf import Gguf
from .gguf_blocks import SHIFTED
from .gguf_tokenizer import token_check, tokenizer_writer

_BERT = {
    "token_embd": "embeddings.word_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
    "attn_q": "encoder.layer.{}.attention.self.query",
    "attn_k": "encoder.layer.{}.attention.self.key",
    "attn_v": "encoder.layer.{}.attention.self.value",
    "attn_output": "encoder.layer.{}.attention.output.dense",
    "attn_output_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "ffn_up": "encoder.layer.{}.intermediate.dense",
    "ffn_down": "encoder.layer.{}.output.dense",
    "layer_output_norm": "encoder.layer.{}.output.LayerNorm",
}

_NOMIC = {
    "token_embd": "embeddings.word_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
    "attn_q": "layers.{}.self_attn.q_proj",
    "attn_k": "layers.{}.self_attn.k_proj",
    "attn_v": "layers.{}.self_attn.v_proj",
    "attn_output": "layers.{}.self_attn.o_proj",
    "attn_output_norm": "layers.{}.post_attention_layernorm",
    "ffn_gate": "layers.{}.mlp.gate_proj",
    "ffn_up": "layers.{}.mlp.up_proj",
    "ffn_down": "layers.{}.mlp.down_proj",
    "layer_output_norm": "layers.{}.post_mlp_layernorm",
}

_LLAMA = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "attn_norm": "layers.{}.input_layernorm",
    "attn_q": "layers.{}.self_attn.q_proj",
    "attn_k": "layers.{}.self_attn.k_proj",
    "attn_v": "layers.{}.self_attn.v_proj",
    "attn_output": "layers.{}.self_attn.o_proj",
    "ffn_norm": "layers.{}.post_attention_layernorm",
    "ffn_gate": "layers.{}.mlp.gate_proj",
    "ffn_up": "layers.{}.mlp.up_proj",
    "ffn_down": "layers.{}.mlp.down_proj",
}


@dataclass(frozen=True)
class _Family:
    """A family of transformers: the settings that all its models have, and the names of its modules by those of ggml."""

    settings: Mapping[str, Any]
    names: Mapping[str, str]
    epsilon: tuple[str, str]
    turned: bool = False
    """Whether llama.cpp reordered the rows of queries and keys for its own rotary embedding."""
    causal: bool = False
    """Whether a token attends to those before it alone."""


_LAYER_NORM = ("attention.layer_norm_epsilon", "layer_norm_eps")
_FAMILIES = {
    "bert": _Family({"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu"}, _BERT, _LAYER_NORM),
    "nomic-bert": _Family(
        {"model_type": "nomic_bert", "architectures": ["NomicBertModel"], "hidden_act": "silu"}, _NOMIC, _LAYER_NORM
    ),
    "llama": _Family(
        {"model_type": "llama", "architectures": ["LlamaModel"], "hidden_act": "silu"},
        _LLAMA,
        ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
        turned=True,
        causal=True,
    ),
}

_REFUSED = {
    "jina-bert-v2": "its attention adds a bias by distance (ALiBi) for which transformers has no class of this family"
}

_COUNTS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "vocab_size": "vocab_size",
}
_HEAD_SIZES = ("attention.key_length", "attention.value_length")
_OTHERS = (
    "attention.causal",
    "pooling_type",
    "rope.freq_base",
    "rope.dimension_count",
    *_HEAD_SIZES,
    "classifier.output_labels",
)
_FREQ_BASE = 10000.0
"""What llama.cpp takes where a file does not say it, as it takes attention to be causal."""

_TYPES = 2
"""How many token types BERT has. A file of DistilBERT has the same architecture and none: each adds nothing then."""

_POOLING = {1: "mean", 2: "cls", 3: "lasttoken"}
_HEADS = ("output.weight", "cls.", "rope_freqs")


def read_model(gguf: Gguf) -> Stored:
    """Return the model of a file. SourceError names the family, the setting or the tensor that is not read."""
    parts = gguf.metadata.get("split.count", 1)
    if parts not in (0, 1):
        raise SourceError(
            f"{gguf.path}: one of {str(parts)[:40]} parts of a model: join them by llama-gguf-split --merge, and give that file"
        )
    name = str(gguf.metadata.get("general.architecture"))[:40]
    family = _FAMILIES.get(name)
    if family is None:
        reason = _REFUSED.get(name, f"these are read: {', '.join(_FAMILIES)}")
        raise SourceError(f"{gguf.path}: a GGUF file of the architecture {name}: {reason}")
    values = {k.removeprefix(f"{name}."): v for k, v in gguf.metadata.items() if k.startswith(f"{name}.")}
    config = _config(gguf, family, values)
    state, integers, left = _renamed(gguf, family, config)
    kinds = sorted(set(gguf.kinds.values()) - {"F32"})
    sentence = f"GGUF file of the architecture {name}, {', '.join(kinds) or 'F32'}: read as the exact values that its numbers stand for"
    shifted = [kind for kind in kinds if kind in SHIFTED]
    if shifted:
        sentence += f"; weights of {', '.join(shifted)} have a minimum for each block and are held as floats"
    if left:
        sentence += f"; {listed(left)} is left out: no task here needs it"
    pooling = _POOLING.get(values.get("pooling_type", 0))
    modules = (
        ()
        if pooling is None
        else (("Pooling", {"word_embedding_dimension": config["hidden_size"], "pooling_mode": pooling}),)
    )
    has_token = token_check(gguf, config["vocab_size"])
    write_tokenizer = tokenizer_writer(gguf, config["max_position_embeddings"])
    return Stored(gguf.path, config, state, sentence, write_tokenizer, modules, integers, has_token)


def _config(gguf: Gguf, family: _Family, values: Mapping[str, Any]) -> dict[str, Any]:
    config = dict(family.settings)
    for key, name in _COUNTS.items():
        if key in values:
            config[name] = values[key]
    missing = [
        k
        for k in ("block_count", "context_length", "embedding_length", "attention.head_count", family.epsilon[0])
        if k not in values
    ]
    unknown = sorted(values.keys() - _COUNTS.keys() - {*_OTHERS, family.epsilon[0]})
    if missing or unknown:
        what = (
            f"no {missing[0]}"
            if missing
            else f"{unknown[0]} = {str(values[unknown[0]])[:40]}, which nothing here follows"
        )
        raise SourceError(f"{gguf.path}: its metadata has {what}: give the model in the format of transformers")
    _check_kinds(gguf, family, values)
    _check_sizes(gguf, family, values)
    config["vocab_size"] = gguf.tensors["token_embd.weight"].shape[0]
    if "token_types" in family.names:
        config["type_vocab_size"] = _type_count(gguf)
    if family.turned:
        config["attention_bias"] = any(name.endswith(".attn_q.bias") for name in gguf.tensors)
        config["mlp_bias"] = any(name.endswith(".ffn_up.bias") for name in gguf.tensors)
    elif config.get("num_key_value_heads") == config["num_attention_heads"]:
        del config["num_key_value_heads"]  # these families have as many of them, and no setting
    if family.epsilon[0] in values:
        config[family.epsilon[1]] = float(
            str(np.float32(values[family.epsilon[0]]))
        )  # the shortest number that is this one
    if family.names is not _BERT:
        theta = float(values.get("rope.freq_base", _FREQ_BASE))
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    size = _head_size(gguf, family, values, config)
    rotated = values.get("rope.dimension_count", size)
    if type(rotated) is not int or rotated != size:
        raise SourceError(
            f"{gguf.path}: rope.dimension_count = {str(rotated)[:40]} of {size} features in a head are rotated, which is "
            "not followed: give the model in the format of transformers"
        )
    _check_heads(gguf, config, size)
    return config


def _head_size(gguf: Gguf, family: _Family, values: Mapping[str, Any], config: dict[str, Any]) -> int:
    """Return how many features a head has, and note it in the config where a family leaves it free."""
    size = config["hidden_size"] // max(config["num_attention_heads"], 1)
    given = {values[key] for key in _HEAD_SIZES if type(values.get(key)) is int}
    wrong = next((key for key in _HEAD_SIZES if key in values and type(values[key]) is not int), None)
    if wrong is not None or len(given) > 1 or (given and given != {size} and not family.turned):
        key = wrong or next(key for key in _HEAD_SIZES if key in values)
        raise SourceError(
            f"{gguf.path}: {key} = {str(values[key])[:40]}, which is not followed beside {size} features in a head: give the model in "
            "the format of transformers"
        )
    if given and family.turned:
        (size,) = given
        config["head_dim"] = size
    return size


def _check_sizes(gguf: Gguf, family: _Family, values: Mapping[str, Any]) -> None:
    """Refuse counts that the tensors do not bear out, before anything of such a size is made."""
    layers = {int(match[1]) for name in gguf.tensors if (match := re.match(r"blk\.(\d{1,6})\.", name))}
    count = values["block_count"]
    if len(layers) != count or (layers and max(layers) != count - 1):
        raise SourceError(
            f"{gguf.path}: block_count = {count}, and its tensors are of {len(layers)} blocks: download it again"
        )
    for key, part, axis in (
        ("context_length", "position_embd", 0),
        ("embedding_length", "token_embd", 1),
        ("feed_forward_length", "ffn_up", 0),
    ):
        if key in values and part in family.names:
            name = f"blk.0.{part}.weight" if "{}" in family.names[part] else f"{part}.weight"
            _check_axis(gguf, f"{key} = {values[key]}", name, axis, values[key])


def _check_heads(gguf: Gguf, config: Mapping[str, Any], size: int) -> None:
    """Refuse counts of heads that queries, keys and values of the first block do not bear out."""
    heads = config["num_attention_heads"]
    shared = config.get("num_key_value_heads") or heads
    said = f"{heads} heads with keys and values of {shared}, each of {size} features"
    fused = {"attn_qkv": heads + 2 * shared}
    parts = fused if "blk.0.attn_qkv.weight" in gguf.tensors else {"attn_q": heads, "attn_k": shared, "attn_v": shared}
    for part, count in parts.items():
        _check_axis(gguf, said, f"blk.0.{part}.weight", 0, count * size)


def _check_axis(gguf: Gguf, said: str, name: str, axis: int, count: int) -> None:
    if name not in gguf.tensors:
        raise SourceError(f"{gguf.path}: the tensor {name} is not there: download it again")
    shape = gguf.tensors[name].shape
    if len(shape) != 2 or shape[axis] != count:
        raise SourceError(f"{gguf.path}: {said}, and {name} is {list(shape)}: download it again")


def _type_count(gguf: Gguf) -> int:
    """Return how many token types the embedding has. SourceError where the file announces some, and has none."""
    key, name = "tokenizer.ggml.token_type_count", "token_types.weight"
    if name in gguf.tensors:
        shape = gguf.tensors[name].shape
        return shape[0] if len(shape) == 2 else 1
    if gguf.metadata.get(key, 0) not in (0, 1):  # converters write 1 for DistilBERT
        raise SourceError(
            f"{gguf.path}: {key} = {str(gguf.metadata[key])[:40]}, and the tensor {name} is not there: download it again"
        )
    return _TYPES


def _check_kinds(gguf: Gguf, family: _Family, values: Mapping[str, Any]) -> None:
    """Refuse settings of the wrong kind, and those by which the model computes something else than its class."""
    wrong = next((k for k in _COUNTS if k in values and (type(values[k]) is not int or values[k] < 1)), None)
    if wrong is not None:
        raise SourceError(f"{gguf.path}: {wrong} = {str(values[wrong])[:40]}: one integer, 1 or more, is expected")
    wrong = next((k for k in ("rope.freq_base", family.epsilon[0]) if not _is_positive(values.get(k, 1.0))), None)
    if wrong is not None:
        raise SourceError(f"{gguf.path}: {wrong} = {str(values[wrong])[:40]}: a number above 0 is expected")
    causal = values.get("attention.causal", True)
    if causal is not family.causal:
        raise SourceError(
            f"{gguf.path}: attention.causal = {str(causal)[:40]}, which {family.settings['architectures'][0]} of transformers "
            "does not follow: give the model in the format of transformers"
        )
    pooling = values.get("pooling_type", 0)
    if type(pooling) is not int or pooling not in (0, *_POOLING):
        raise SourceError(
            f"{gguf.path}: pooling_type = {str(pooling)[:40]}, and {', '.join(f'{n} ({p})' for n, p in _POOLING.items())} are read: "
            "give the model in the format of transformers"
        )


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < float("inf")


def _renamed(
    gguf: Gguf, family: _Family, config: Mapping[str, Any]
) -> tuple[dict[str, StoredTensor], dict[str, Integers], list[str]]:
    """Return tensors and integers by transformers' names, and the names of tensors that only generating text needs."""
    state: dict[str, StoredTensor] = {}
    integers: dict[str, Integers] = {}
    left = []
    for name, tensor in gguf.tensors.items():
        places = _places(gguf, name, tensor.shape, family, config)
        if not places:
            if not name.startswith(_HEADS) or name == "rope_freqs.weight":
                raise SourceError(
                    f"{gguf.path}: the tensor {name} has no place in {config['architectures'][0]} of transformers: give the model in "
                    "the format of transformers"
                )
            left.append(name)
        for path, (take, count) in places.items():
            if path in state:
                raise SourceError(f"{gguf.path}: {name} is {path}, which another tensor is as well: download it again")
            state[path] = tensor.computed(take, shape=(count, *tensor.shape[1:]))
            if name in gguf.integers:
                integers[path] = gguf.integers[name].rows(take, count)
    _put_types(state, config)
    return state, integers, left


def _put_types(state: dict[str, StoredTensor], config: Mapping[str, Any]) -> None:
    """Put the token types of BERT's kind: zeros where a file has none, two axes where a tool left one of a single type out."""
    name = "embeddings.token_type_embeddings.weight"
    if "type_vocab_size" not in config:
        return
    shape = (config["type_vocab_size"], config["hidden_size"])
    if name not in state:
        state[name] = StoredTensor(shape, "float32", lambda: _zeros(shape))
    elif state[name].shape == shape[1:]:
        state[name] = state[name].computed(lambda row: row.reshape(shape), shape=shape)


def _zeros(shape: tuple[int, ...]) -> Any:
    import torch

    return torch.zeros(shape)


_Rows = tuple[Callable[[Any], Any], int]
"""What takes the rows of a tensor, and how many they are."""


def _places(
    gguf: Gguf, name: str, shape: tuple[int, ...], family: _Family, config: Mapping[str, Any]
) -> dict[str, _Rows]:
    """Return transformers' names for a tensor, each with the rows that belong to it; none where the family has no such part."""
    match = re.fullmatch(r"(?:blk\.(\d{1,6})\.)?([a-z_]+)\.(weight|bias)", name)
    if match is None:
        return {}
    layer, part, kind = match.groups()
    if part == "attn_qkv" and "attn_q" in family.names:
        return {
            f"{path.format(layer)}.{kind}": rows for path, rows in _fused(gguf, name, shape, family, config).items()
        }
    path = family.names.get(part)
    if path is None or ("{}" in path) != (layer is not None):
        return {}
    take: Callable[[Any], Any] = partial(cut_rows, begin=0, end=shape[0])
    if family.turned and part in ("attn_q", "attn_k"):
        heads = config.get("num_key_value_heads") if part == "attn_k" else None
        take = partial(_turned, heads=heads or config["num_attention_heads"])
    return {f"{path.format(layer)}.{kind}": (take, shape[0])}


def _fused(
    gguf: Gguf, name: str, shape: tuple[int, ...], family: _Family, config: Mapping[str, Any]
) -> dict[str, _Rows]:
    """Return the names of queries, keys and values, and the rows of each in a tensor that has them one below the other."""
    heads = config["num_attention_heads"]
    shared = config.get("num_key_value_heads") or heads
    size, rest = divmod(shape[0], heads + 2 * shared)
    if rest:
        raise SourceError(
            f"{gguf.path}: {name} has {shape[0]} rows, which are no queries of {heads} heads with keys and values of {shared}: "
            "download it again"
        )
    places: dict[str, _Rows] = {}
    begin = 0
    for part, count in (("attn_q", heads), ("attn_k", shared), ("attn_v", shared)):
        end = begin + count * size
        turned = count if family.turned and part != "attn_v" else None
        places[family.names[part]] = partial(_cut, begin=begin, end=end, heads=turned), end - begin
        begin = end
    return places


def _cut(rows: Any, *, begin: int, end: int, heads: int | None) -> Any:
    """Return some rows, in transformers' order where they are `heads` that llama.cpp reordered."""
    part = cut_rows(rows, begin=begin, end=end)
    return part if heads is None else _turned(part, heads=heads)


def _turned(rows: Any, *, heads: int) -> Any:
    """Return rows in transformers' order: halves of a head one after the other, where llama.cpp has their pairs."""
    if rows.shape[0] % (heads * 2):
        return rows  # the loaded model's class names the shape that it expects
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape).contiguous()
