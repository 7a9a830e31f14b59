"""torch's own quantized modules (`quantize_dynamic`, converted static ones), whose state dicts hold packed parameters."""

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..integers import Integers, IntegerWeight, needed_zero
from ..quantization import checked, counted, quantized, settings_of
from ..state import StoredTensor

ORDER = 10
NAME = "torch's quantized modules"
MARKS = ("._packed_params.0", "._packed_params.1", "._packed_weight")

_LINEAR = "._packed_params._packed_params.0"
_BIAS = "._packed_params._packed_params.1"
_EMBEDDING = "._packed_params._packed_weight"


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Take integers, scales and zero points of torch's quantized tensors, one for a tensor or one for each row.

    Where a module rounds its outputs (static quantization), or its inputs at run time (dynamic), activations are computed as
    floats here. Weights in float16 become float32. SourceError for other types and schemes.
    """
    linear = [n.removesuffix(_LINEAR) for n in checkpoint.state if n.endswith(_LINEAR)]
    embeddings = [n.removesuffix(_EMBEDDING) for n in checkpoint.state if n.endswith(_EMBEDDING)]
    if not linear and not embeddings:
        return None
    settings_of(checkpoint, "torch", ())
    found: dict[str, Integers] = {}
    floats: dict[str, StoredTensor] = {}
    used: list[str] = []
    for stem, ending in (*((s, _LINEAR) for s in linear), *((s, _EMBEDDING) for s in embeddings)):
        weight = checkpoint.state[stem + ending]
        if weight.floating:
            floats[f"{stem}.weight"] = weight.computed(lambda tensor: tensor.float())
        else:
            found[f"{stem}.weight"] = _weight(checkpoint, stem, stem + ending)
        bias = checkpoint.state.get(stem + _BIAS) if ending == _LINEAR else None
        if bias is not None:
            floats[f"{stem}.bias"] = bias.computed(lambda tensor: tensor.detach().float())
        used += [stem + ending, stem + _BIAS, f"{stem}.scale", f"{stem}.zero_point"]
    count = counted(len(linear) + len(embeddings), "read as the exact values of their integers and scales")
    sentence = f"torch's quantized modules: {count}; activations are computed in floats"
    return quantized(checkpoint, found, used, sentence, floats=floats, marks=MARKS)


def _weight(checkpoint: Checkpoint, stem: str, name: str) -> Integers:
    import torch

    stored = checkpoint.state[name]
    tensor = stored.read()
    known = {torch.per_tensor_affine, torch.per_channel_affine, torch.per_channel_affine_float_qparams}
    if stored.dtype not in ("qint8", "quint8") or len(stored.shape) != 2 or tensor.qscheme() not in known:
        raise SourceError(
            f"{checkpoint.directory}: {name} is {stored.dtype}{list(stored.shape)}, and 8-bit integers of two axes are read: save the "
            "float model"
        )
    one = tensor.qscheme() == torch.per_tensor_affine
    if not one and tensor.q_per_channel_axis() != 0:
        raise SourceError(
            f"{checkpoint.directory}: {name} has scales for its inputs, not for its outputs: save the float model"
        )

    def load() -> IntegerWeight:
        rows = stored.shape[0]
        if one:
            scale, zero = (torch.full((rows, 1), value) for value in (tensor.q_scale(), tensor.q_zero_point()))
        else:
            scale, zero = (t[:, None] for t in (tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()))
        return IntegerWeight(tensor.int_repr(), scale.float(), 8, needed_zero(zero))

    return Integers((stored.shape[0], stored.shape[1]), checked(checkpoint, name, load))
