"""compressed-tensors (llm-compressor): packed and plain integers, or 8-bit floats, with `weight_scale` and `weight_zero_point`."""

from collections.abc import Iterator, Mapping
from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..float8_weights import dequantized
from ..integers import Integers, IntegerWeight, needed_order
from ..packing import from_stream, from_words
from ..quantization import beside, check_grid, checked, counted, method_of, per_group, quantized, settings_of
from ..state import StoredTensor

ORDER = 10
NAME = "compressed-tensors"
MARKS = (".weight_packed", ".weight_shape", ".weight_g_idx")

_METHOD = "compressed-tensors"
_USED = ("config_groups", "format", "ignore", "kv_cache_scheme", "sparsity_config", "transform_config")
_FORMATS = ("pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "dense", "mixed-precision")
_PARTS = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")
_RUN_TIME = ("input_scale", "input_zero_point", "output_scale", "output_zero_point")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Unpack `weight_packed` int32 `[out, in · bits / 32]`, or take `weight` in int8 or float8, with their scales and zero points.

    Packed integers are around half their range, lowest bits first; zero points are packed along outputs. Bits come from the scheme
    that the config has for the layer. Rounded activations are computed as floats, and said so. SourceError for other formats, and
    where shapes contradict each other or the config.
    """
    stems = [n.removesuffix(".weight_packed") for n in checkpoint.state if n.endswith(".weight_packed")]
    own = method_of(checkpoint) in (_METHOD, "compressed_tensors")
    if not stems and not own:
        return None
    settings = settings_of(checkpoint, _METHOD, _USED)
    schemes = list(_schemes(checkpoint, settings))
    plain = [
        n.removesuffix(".weight_scale")
        for n in checkpoint.state
        if n.endswith(".weight_scale") and n.removesuffix(".weight_scale") not in stems
    ]
    found = {f"{stem}.weight": _packed(checkpoint, stem, _bits(schemes)) for stem in stems}
    floats: dict[str, StoredTensor] = {}
    for stem in plain:
        weight = beside(checkpoint, f"{stem}.weight_scale", f"{stem}.weight")
        if "float8" in weight.dtype:
            floats[f"{stem}.weight"] = dequantized(
                checkpoint, f"{stem}.weight", f"{stem}.weight_scale", _block(schemes)
            )
        else:
            found[f"{stem}.weight"] = _plain(checkpoint, stem, weight, max(_bits(schemes), default=8))
    if not found and not floats:
        return None
    rounded = [s for s in schemes if s.get("input_activations") or s.get("output_activations")]
    used = [f"{stem}.{part}" for stem in (*stems, *plain) for part in (*_PARTS, *(_RUN_TIME if rounded else ()))]
    used += [f"{stem}.weight" for stem in plain]
    said = [counted(len(found), "read as the exact values of their integers and scales")] if found else []
    said += (
        [counted(len(floats), "dequantized from 8-bit floats, which the artifact holds as floats")] if floats else []
    )
    said += ["activations are computed in floats, which its scheme rounds"] if rounded else []
    return quantized(checkpoint, found, used, f"{_METHOD}: {'; '.join(said)}", floats=floats, marks=MARKS)


def _schemes(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the schemes of the config. SourceError for what they say and nothing here follows."""
    place = f"{checkpoint.directory}: quantization_config of config.json"
    for key in ("kv_cache_scheme", "sparsity_config", "transform_config"):
        if settings.get(key) and (not isinstance(settings[key], Mapping) or settings[key].get("format") != "dense"):
            raise SourceError(f"{place} has {key}, which nothing here follows: save the decompressed model")
    groups = settings.get("config_groups") or {}
    schemes = list(groups.values()) if isinstance(groups, Mapping) else [None]
    for kind in (settings.get("format"), *(s.get("format") for s in schemes if isinstance(s, Mapping))):
        if kind not in (None, *_FORMATS):
            raise SourceError(
                f"{place} has the format {kind}, and {', '.join(_FORMATS)} are read: save the decompressed model"
            )
    for scheme in schemes:
        if not isinstance(scheme, Mapping):
            raise SourceError(f"{place} has config_groups that are not JSON objects: download config.json again")
        yield scheme


def _weights(schemes: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (s["weights"] for s in schemes if isinstance(s.get("weights"), Mapping))


def _bits(schemes: list[Mapping[str, Any]]) -> set[int]:
    return {bits for w in _weights(schemes) if isinstance(bits := w.get("num_bits"), int) and 1 <= bits <= 8}


def _block(schemes: list[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Return the sizes of blocks that a scheme names."""
    sizes = next((w.get("block_structure") for w in _weights(schemes) if w.get("strategy") == "block"), None)
    two = isinstance(sizes, list | tuple) and len(sizes) == 2 and all(isinstance(s, int) and s > 0 for s in sizes)
    return (sizes[0], sizes[1]) if sizes is not None and two else None


def _plain(checkpoint: Checkpoint, stem: str, weight: StoredTensor, bits: int) -> Integers:
    name = f"{stem}.weight"
    if len(weight.shape) != 2 or weight.dtype != "int8":
        raise SourceError(
            f"{checkpoint.directory}: {name} is {weight.dtype}{list(weight.shape)}, int8 or float8 of two axes is expected"
        )
    shape = weight.shape[0], weight.shape[1]
    scale = per_group(checkpoint, name, f"{stem}.weight_scale", shape)
    zero_name = f"{stem}.weight_zero_point"
    zero = per_group(checkpoint, name, zero_name, shape, integer=True) if zero_name in checkpoint.state else None
    return Integers(
        shape, checked(checkpoint, name, lambda: _read(weight.read(), scale(), bits, zero and zero(), None))
    )


def _packed(checkpoint: Checkpoint, stem: str, given: set[int]) -> Integers:
    name, directory = f"{stem}.weight_packed", checkpoint.directory
    packed = checkpoint.state[name]
    shape_of = beside(checkpoint, name, f"{stem}.weight_shape", (2,), integer=True)
    out, inputs = (int(size) for size in shape_of.read())
    words = packed.shape[1] if len(packed.shape) == 2 else 0
    dense = [b for b in range(1, 9) if words and -(-inputs * b // 32) == words]
    loose = [b for b in range(1, 9) if words and -(-inputs // (32 // b)) == words]
    likely = [b for b in dict.fromkeys((*dense, *loose)) if not given or b in given]
    if packed.dtype != "int32" or packed.shape[0] != out or inputs < 1 or not likely:
        said = f" of {' or '.join(map(str, sorted(given)))} bits" if given else ""
        raise SourceError(
            f"{directory}: {name} is {packed.dtype}{list(packed.shape)}, which is not {out} x {inputs}{said} as {stem}.weight_shape says: "
            "download the checkpoint again"
        )
    if len(likely) > 1:
        raise SourceError(
            f"{directory}: {name} may be of {' or '.join(map(str, likely))} bits: give the config.json that says num_bits"
        )
    bits = likely[0]
    unpack = from_stream if bits in dense else from_words
    scale = per_group(checkpoint, name, f"{stem}.weight_scale", (out, inputs))
    zeros, index = checkpoint.state.get(f"{stem}.weight_zero_point"), checkpoint.state.get(f"{stem}.weight_g_idx")
    groups = checkpoint.state[f"{stem}.weight_scale"].shape[-1] if checkpoint.state[f"{stem}.weight_scale"].shape else 1
    half = 2 ** (bits - 1)
    if zeros is not None:
        rows = -(-out * bits // 32) if bits in dense else -(-out // (32 // bits))
        beside(checkpoint, name, f"{stem}.weight_zero_point", (rows, groups), integer=True)
    if index is not None:
        beside(checkpoint, name, f"{stem}.weight_g_idx", (inputs,), integer=True)
    check_grid(checkpoint, name, inputs, groups)

    def load() -> IntegerWeight:
        codes = unpack(packed.read(), bits, inputs).int() - half
        zero = unpack(zeros.read().T.contiguous(), bits, out).int().T - half if zeros is not None else None
        order = index.read() if index is not None and groups > 1 else None
        return _read(codes, scale(), bits, zero, order)

    return Integers((out, inputs), checked(checkpoint, name, load))


def _read(codes: Any, scale: Any, bits: int, zero: Any, order: Any) -> IntegerWeight:
    """Return a weight, without an order that says nothing."""
    given = None if order is None or bool((order == -1).all()) else order
    return IntegerWeight(codes, scale.float(), bits, zero, needed_order(given, codes.shape[1], scale.shape[1]))
