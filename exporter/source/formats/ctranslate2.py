"""Read encoders that CTranslate2 saved: model.bin, its own names and int8 or 16-bit weights, as transformers' BERT or DistilBERT.

The layout is that of CTranslate2's binary version 6: names with their length, shapes, types and bytes, one after the other.
"""

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import SourceError
from ....json_file import read_any_json, read_json
from ..checkpoints.integers import Integers, IntegerWeight, cut_rows
from ..checkpoints.state import StoredTensor
from ..checkpoints.stored import Stored
from .wordpiece import BESIDE, vocabulary_lines, wordpiece

FILE = "model.bin"
_VERSIONS = (4, 5, 6)
_SPEC = "TransformerEncoderSpec"
_TYPES = (("float32", 4), ("int8", 1), ("int16", 2), ("int32", 4), ("float16", 2), ("bfloat16", 2))
_MOST_VARIABLES = 1 << 16
_LONGEST_NAME = 256
_LAYER = re.compile(r"encoder/layer_(\d{1,6})/")
_ACTIVATIONS = {0: "relu", 1: "gelu_new", 2: "silu", 3: "gelu", 4: "quick_gelu"}


@dataclass(frozen=True)
class _Variable:
    """Where a variable lies in the file: `kind` is a torch type's name, `begin` its first byte."""

    path: Path
    shape: tuple[int, ...]
    kind: str
    begin: int

    def numbers(self) -> Any:
        """Return its numbers as a torch tensor."""
        import torch

        raw = np.fromfile(self.path, np.uint8, prod(self.shape) * dict(_TYPES)[self.kind], offset=self.begin)
        return torch.from_numpy(raw).view(getattr(torch, self.kind)).reshape(self.shape)


class _Reader:
    """Reads a file's fields one after the other, and never beyond its end."""

    def __init__(self, path: Path):
        self.path, self.file, self.size = path, path.open("rb"), path.stat().st_size

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def take(self, size: int) -> bytes:
        if size > self.size - self.file.tell():
            raise SourceError(f"{self.path}: truncated or damaged at byte {self.file.tell():,}; copy it again")
        return self.file.read(size)

    def text(self) -> str:
        (size,) = self.numbers("H")
        return self.take(size)[:-1].decode("utf-8", "replace")

    def skip(self, size: int) -> int:
        begin = self.file.tell()
        if size > self.size - begin:
            raise SourceError(
                f"{self.path}: truncated: {size:,} bytes are announced at {begin:,} of {self.size:,}; copy it again"
            )
        self.file.seek(size, 1)
        return begin


def is_ctranslate2(directory: Path) -> bool:
    """Return whether a directory holds a model.bin that begins as CTranslate2's do."""
    path = directory / FILE
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.read(6)
        if len(first) < 6:
            return False
        version, length = struct.unpack("<IH", first)
        name = file.read(length)
        is_cut = len(name) < length  # which is said where the file is read
        return version in range(1, 16) and 4 < length < 64 and (name.endswith(b"Spec\0") or is_cut)


def read_ctranslate2(directory: Path) -> Stored:
    """Return the encoder of a directory. SourceError names the kind of model that is not read, or what is damaged."""
    path = directory / FILE
    variables = _variables(path)
    settings = read_json(directory / "config.json") if (directory / "config.json").is_file() else {}
    numbers = {
        n: int(v.numbers()) for n, v in variables.items() if not v.shape and not v.kind.startswith(("float", "bfloat"))
    }
    config = _config(path, variables, numbers, settings)
    state, integers = _state(path, variables, "bert" if config["model_type"] == "bert" else "distilbert")
    kinds = sorted({v.kind for n, v in variables.items() if n.endswith("/weight")})
    sentence = f"CTranslate2 encoder, {', '.join(kinds)}: read as the exact values that its weights stand for"

    def write(folder: Path) -> None:
        _write_tokenizer(directory, folder, settings, config["max_position_embeddings"])

    def has_token(index: int, piece: str) -> bool:
        return not 0 <= index < len(pieces) or pieces[index] == piece

    _, pieces = _vocabulary(directory)
    return Stored(path, config, state, sentence, write, integers=integers, has_token=has_token)


def _variables(path: Path) -> dict[str, _Variable]:
    reader = _Reader(path)
    with reader.file:
        (version,) = reader.numbers("I")
        spec = reader.text()
        if version not in _VERSIONS:
            raise SourceError(
                f"{path}: CTranslate2's binary version {version}, and {_VERSIONS[0]} to {_VERSIONS[-1]} are read"
            )
        if spec != _SPEC:
            raise SourceError(
                f"{path}: CTranslate2 saved a {spec}, and only encoders ({_SPEC}) are exported: give an encoder"
            )
        _, count = reader.numbers("II")
        if count > _MOST_VARIABLES:
            raise SourceError(f"{path}: damaged: {count:,} variables; copy it again")
        variables: dict[str, _Variable] = {}
        for _ in range(count):
            name = reader.text()
            (rank,) = reader.numbers("B")
            shape = tuple(reader.numbers(f"{rank}I"))
            kind, size = reader.numbers("BI")
            if len(name) > _LONGEST_NAME or not name.isprintable():
                raise SourceError(f"{path}: damaged: a variable is called {name[:40]!r}; copy it again")
            if kind >= len(_TYPES) or prod(shape) * _TYPES[kind][1] != size or name in variables or 0 in shape:
                raise SourceError(
                    f"{path}: damaged: {name} is {list(shape)} of type {kind} in {size:,} bytes; copy it again"
                )
            variables[name] = _Variable(path, shape, _TYPES[kind][0], reader.skip(size))
        (count,) = reader.numbers("I")
        aliases: dict[str, str] = {}
        for _ in range(min(count, _MOST_VARIABLES)):
            alias, name = reader.text(), reader.text()
            if len(alias) > _LONGEST_NAME or not alias.isprintable():
                raise SourceError(f"{path}: damaged: an alias is called {alias[:40]!r}; copy it again")
            if name not in variables or alias in variables:
                what = "which is not there" if name not in variables else "and is a variable itself"
                raise SourceError(f"{path}: damaged: {alias} stands for {name}, {what}; copy it again")
            variables[alias] = variables[name]
            aliases[alias] = name
        if reader.file.tell() < reader.size:
            raise SourceError(f"{path}: damaged: {reader.size - reader.file.tell():,} bytes too many; copy it again")
    for alias, name in aliases.items():  # the file does not list their scales, which its own runtime takes along
        if f"{name}_scale" in variables:
            variables.setdefault(f"{alias}_scale", variables[f"{name}_scale"])
    return variables


def _config(
    path: Path, variables: Mapping[str, _Variable], numbers: Mapping[str, int], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the config of transformers' class that computes the same. SourceError names what makes another computation."""
    _check_settings(path, variables, numbers)
    matrices = {name: variable.shape for name, variable in variables.items() if len(variable.shape) == 2}
    words = matrices.get("encoder/embeddings_0/weight") or matrices.get("encoder/embeddings/weight")
    layers = {match[1] for name in variables if (match := _LAYER.match(name))}
    gap = next((str(number) for number in range(len(layers)) if str(number) not in layers), None)
    if gap is not None:
        raise SourceError(f"{path}: there are {len(layers)} layers, and layer {gap} is none of them: copy it again")
    positions, width = (
        matrices.get(n) for n in ("encoder/position_encodings/encodings", "encoder/layer_0/ffn/linear_0/weight")
    )
    heads = numbers.get("encoder/num_heads", 0)
    if words is None or positions is None or width is None or heads < 1:
        raise SourceError(
            f"{path}: no embeddings, learned positions, layers or heads as BERT has them: give the model of transformers"
        )
    types = matrices.get("encoder/embeddings_1/weight")
    common = {"vocab_size": words[0], "max_position_embeddings": positions[0]}
    activation = _ACTIVATIONS[numbers.get("encoder/activation", 0)]
    epsilon = settings.get("layer_norm_epsilon")
    epsilon = 1e-5 if epsilon is None else epsilon
    if type(epsilon) not in (int, float) or not 0 < epsilon < 1:
        raise SourceError(f"{path}: layer_norm_epsilon = {str(epsilon)[:40]}: a number between 0 and 1 is expected")
    if types is None:
        if epsilon != 1e-12:
            raise SourceError(
                f"{path}: layer_norm_epsilon = {epsilon}, and DistilBERT's is 1e-12: give the model of transformers"
            )
        sizes = {
            "dim": words[1],
            "n_layers": len(layers),
            "n_heads": heads,
            "hidden_dim": width[0],
            "activation": activation,
        }
        return {"model_type": "distilbert", "architectures": ["DistilBertModel"], **common, **sizes}
    sizes = {
        "hidden_size": words[1],
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "intermediate_size": width[0],
    }
    others = {"type_vocab_size": types[0], "hidden_act": activation, "layer_norm_eps": epsilon}
    return {"model_type": "bert", "architectures": ["BertModel"], **common, **sizes, **others}


def _check_settings(path: Path, variables: Mapping[str, _Variable], numbers: Mapping[str, int]) -> None:
    """Refuse settings, also missing ones, by which CTranslate2 computes something other than BERT."""
    expected = {"encoder/pre_norm": 0, "encoder/scale_embeddings": 0, "encoder/multi_query_attention": 0}
    expected |= {"pooler_activation": 5}
    needed = ["encoder/pre_norm", "encoder/scale_embeddings"]
    if "encoder/embeddings_1/weight" in variables:  # added up; one embedding alone is as it is, however it is merged
        needed.append("encoder/embeddings_merge")
        expected["encoder/embeddings_merge"] = 1
    if "pooler_dense/weight" in variables:
        needed.append("pooler_activation")
    if "encoder/num_heads" in numbers:
        expected["encoder/num_heads_kv"] = numbers["encoder/num_heads"]
    known = {*expected, "encoder/embeddings_merge", "encoder/num_heads", "encoder/activation"}
    for name, value in numbers.items():
        if name not in known or expected.get(name, value) != value:
            raise SourceError(f"{path}: {name} = {value} makes another computation than BERT's, which is not read")
    missing = next((name for name in needed if name not in numbers), None)
    if missing is not None:
        raise SourceError(
            f"{path}: {missing} is not there, without which CTranslate2 computes something other than BERT: convert it again"
        )
    activation = numbers.get("encoder/activation", 0)
    if activation not in _ACTIVATIONS:
        raise SourceError(
            f"{path}: encoder/activation = {activation}, and {', '.join(map(str, _ACTIVATIONS))} are read: give the model of transformers"
        )


_NAMES = {
    "bert": {
        "encoder/embeddings_0": "embeddings.word_embeddings",
        "encoder/embeddings_1": "embeddings.token_type_embeddings",
        "encoder/layernorm_embedding": "embeddings.LayerNorm",
        "pooler_dense": "pooler.dense",
        "self_attention/linear_0": "encoder.layer.{}.attention.self.query key value",
        "self_attention/linear_1": "encoder.layer.{}.attention.output.dense",
        "self_attention/layer_norm": "encoder.layer.{}.attention.output.LayerNorm",
        "ffn/linear_0": "encoder.layer.{}.intermediate.dense",
        "ffn/linear_1": "encoder.layer.{}.output.dense",
        "ffn/layer_norm": "encoder.layer.{}.output.LayerNorm",
    },
    "distilbert": {
        "encoder/embeddings_0": "embeddings.word_embeddings",
        "encoder/layernorm_embedding": "embeddings.LayerNorm",
        "self_attention/linear_0": "transformer.layer.{}.attention.q_lin k_lin v_lin",
        "self_attention/linear_1": "transformer.layer.{}.attention.out_lin",
        "self_attention/layer_norm": "transformer.layer.{}.sa_layer_norm",
        "ffn/linear_0": "transformer.layer.{}.ffn.lin1",
        "ffn/linear_1": "transformer.layer.{}.ffn.lin2",
        "ffn/layer_norm": "transformer.layer.{}.output_layer_norm",
    },
}
_PARTS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def _state(
    path: Path, variables: Mapping[str, _Variable], family: str
) -> tuple[dict[str, StoredTensor], dict[str, Integers]]:
    """Return tensors and integers by transformers' names. SourceError names a variable that has none."""
    names = _NAMES[family]
    state: dict[str, StoredTensor] = {}
    integers: dict[str, Integers] = {}
    for name, variable in variables.items():
        if name.endswith("/weight_scale"):
            if not _is_integer(variables.get(name.removesuffix("_scale"))):
                raise SourceError(f"{path}: {name} scales no integers; copy it again")
            continue
        if not variable.shape:
            if variable.kind.startswith(("float", "bfloat")):  # integers are settings, which were read
                raise SourceError(f"{path}: {name} makes another computation than BERT's, which is not read")
            continue
        if name == "encoder/position_encodings/encodings":
            state["embeddings.position_embeddings.weight"] = _floats(path, name, variable)
            continue
        stem, _, part = name.rpartition("/")
        match = _LAYER.match(stem)
        layer = match[1] if match else None
        target = names.get(stem[match.end() :] if match else stem)
        if target is None or part not in (("gamma", "beta") if "norm" in target.lower() else ("weight", "bias")):
            raise SourceError(
                f"{path}: the variable {name} has no place in {family} of transformers: give the model of transformers"
            )
        before, *others = target.format(layer).split(" ")
        paths = [before, *(f"{before.rpartition('.')[0]}.{other}" for other in others)]
        own = {
            f"{p}.{_PARTS[part]}": take for p, take in zip(paths, _shares(variable.shape[0], len(paths)), strict=True)
        }
        count, rest = divmod(variable.shape[0], len(paths))
        if rest:
            raise SourceError(f"{path}: {name} has {variable.shape[0]} rows for {len(paths)} parts; copy it again")
        if part == "weight" and len(variable.shape) == 2 and _is_integer(variable):
            whole = _integers(path, name, variable, variables.get(f"{stem}/weight_scale"))
            parts = {p: whole.rows(take, count) for p, take in own.items()}
            integers |= parts
            state |= {p: found.as_floats() for p, found in parts.items()}
        else:
            tensor = _floats(path, name, variable)
            state |= {p: tensor.computed(take, shape=(count, *tensor.shape[1:])) for p, take in own.items()}
    return state, integers


def _integers(path: Path, name: str, variable: _Variable, scale: _Variable | None) -> Integers:
    """Return the integers of a weight. The file has what they are divided by; its own runtime multiplies by the reciprocals."""
    rows, width = variable.shape
    if variable.kind == "int32":
        raise SourceError(f"{path}: {name} is int32, and weights of 8 and 16 bits are read: convert it again")
    shapes = ((rows,),) if variable.kind == "int8" else ((), (1,))
    if scale is None or _is_integer(scale) or scale.shape not in shapes:
        raise SourceError(f"{path}: {name} is {variable.kind} without scales for its {rows} rows; copy it again")

    def read() -> IntegerWeight:
        codes, divisors = variable.numbers(), scale.numbers().float().reshape(-1, 1).expand(rows, 1)
        # rows of zeros have no largest number by which int16 is scaled
        empty = (divisors == float("inf")) & (codes == 0).all(1, keepdim=True)
        if not bool(((divisors.isfinite() & (divisors != 0)) | empty).all()):
            raise SourceError(f"{path}: {name}_scale has numbers that are 0 or not finite; copy it again")
        return IntegerWeight(codes, (1 / divisors).contiguous(), dict(_TYPES)[variable.kind] * 8)

    return Integers((rows, width), read)


def _is_integer(variable: _Variable | None) -> bool:
    return variable is not None and variable.kind.startswith("int")


def _floats(path: Path, name: str, variable: _Variable) -> StoredTensor:
    if _is_integer(variable):
        raise SourceError(
            f"{path}: {name} is {variable.kind}, and integers are read in matrices alone: convert it without quantization"
        )
    return StoredTensor(variable.shape, "float32", lambda: variable.numbers().float())


def _shares(rows: int, count: int) -> list[Callable[[Any], Any]]:
    """Return what takes each of `count` equal shares of the rows."""
    size = rows // count
    return [partial(cut_rows, begin=i * size, end=(i + 1) * size) for i in range(count)]


def _without_padding(pieces: list[str]) -> list[str]:
    """Return the tokens without those that CTranslate2 appends for rows of the embedding that have none: no text has them."""
    match = re.fullmatch(r"<extra_id_(\d{1,6})>", pieces[-1]) if pieces else None
    count = int(match[1]) + 1 if match else 0
    padding = [f"<extra_id_{i}>" for i in range(count)]
    return pieces[:-count] if count and pieces[-count:] == padding else pieces


def _vocabulary(directory: Path) -> tuple[Path | None, list[str]]:
    """Return the file of a vocabulary, and its tokens by their ids; None and no tokens where there is none."""
    path = next((directory / n for n in ("vocabulary.json", "vocabulary.txt") if (directory / n).is_file()), None)
    if path is None:
        return None, []
    try:
        pieces = read_any_json(path) if path.suffix == ".json" else vocabulary_lines(path)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 text ({error}); copy it again") from error
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise SourceError(f"{path}: a list of tokens is expected")
    return path, _without_padding(pieces)


def _write_tokenizer(directory: Path, folder: Path, settings: Mapping[str, Any], longest: int) -> None:
    """Write the tokenizer of a vocabulary of BERT's kind to `folder`. SourceError where there is none, or one of another kind."""
    from transformers import PreTrainedTokenizerFast

    path, pieces = _vocabulary(directory)
    if path is None:
        raise SourceError(f"{directory}: no vocabulary.json or tokenizer.json: {BESIDE}")
    if not any(piece.startswith("##") for piece in pieces):
        raise SourceError(
            f"{path}: not a vocabulary of BERT's kind, and it does not say how a text is cut into tokens: {BESIDE}"
        )
    special = {"unk_token": str(settings.get("unk_token") or "[UNK]")}
    special |= {role: token for role, token in (("pad_token", "[PAD]"), ("mask_token", "[MASK]")) if token in pieces}
    tokenizer = wordpiece(path, pieces, special)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest, **special).save_pretrained(folder)
