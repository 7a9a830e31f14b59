"""torchao's quantized tensors, flattened in safetensors files or as tensors of their own in a state dict."""

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..float8_weights import dequantized
from ..integers import Integers, IntegerWeight, needed_zero
from ..quantization import checked, counted, per_group, quantized, settings_of
from ..state import StoredTensor

ORDER = 10
NAME = "torchao"
MARKS = ("_qdata", "._weight_scale", "._weight_zero_point")

_DATA = "._weight_qdata"
_RUN_TIME = ("act_pre_scale", "act_quant_scale", "act_quant_zero_point")
_USED = ("quant_type", "quant_type_kwargs", "include_input_output_embeddings", "untie_embedding_weights")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Take `_weight_qdata` int8 `[out, in]` with `_weight_scale` and `_weight_zero_point` (Int8Tensor, IntxUnpackedToInt8Tensor).

    Weights in float8 are dequantized. Integers that all fit 4 bits are stored as such. Activations that are rounded at run time are
    computed as floats. SourceError for packed layouts, which are those of one kind of GPU, and for scales of activations.
    """
    stems = [n.removesuffix(_DATA) for n in checkpoint.state if n.endswith(_DATA)]
    if not stems:
        return None
    settings_of(checkpoint, "torchao", _USED)
    found: dict[str, Integers] = {}
    floats: dict[str, StoredTensor] = {}
    for stem in stems:
        weight = checkpoint.state[stem + _DATA]
        scaled = next((p for p in _RUN_TIME if f"{stem}._weight_{p}" in checkpoint.state), None)
        if scaled is not None:
            raise SourceError(
                f"{checkpoint.directory}: {stem}._weight_{scaled} scales activations, which is not read: save the float model"
            )
        if weight.dtype.startswith("float8"):
            floats[f"{stem}.weight"] = dequantized(checkpoint, stem + _DATA, f"{stem}._weight_scale")
        else:
            found[f"{stem}.weight"] = _weight(checkpoint, stem, weight)
    used = [f"{stem}._weight_{part}" for stem in stems for part in ("qdata", "scale", "zero_point")]
    said = [counted(len(found), "read as the exact values of their integers and scales")] if found else []
    said += (
        [counted(len(floats), "dequantized from 8-bit floats, which the artifact holds as floats")] if floats else []
    )
    sentence = f"torchao: {'; '.join(said)}; activations are computed in floats"
    return quantized(checkpoint, found, used, sentence, floats=floats, marks=MARKS)


def _weight(checkpoint: Checkpoint, stem: str, weight: StoredTensor) -> Integers:
    name = stem + _DATA
    if len(weight.shape) != 2 or weight.dtype != "int8":
        raise SourceError(
            f"{checkpoint.directory}: {name} is {weight.dtype}{list(weight.shape)}, packed for one kind of processor, and int8 of two "
            "axes is read: quantize to int8, or to IntxUnpackedToInt8Tensor"
        )
    shape = weight.shape[0], weight.shape[1]
    scale = per_group(checkpoint, name, f"{stem}._weight_scale", shape)
    zero_name = f"{stem}._weight_zero_point"
    zero = per_group(checkpoint, name, zero_name, shape, integer=None) if zero_name in checkpoint.state else None

    def load() -> IntegerWeight:
        codes = weight.read()
        bits = 4 if -8 <= int(codes.min()) <= int(codes.max()) <= 7 else 8
        return IntegerWeight(codes, scale().float(), bits, needed_zero(zero() if zero is not None else None))

    return Integers(shape, checked(checkpoint, name, load))
