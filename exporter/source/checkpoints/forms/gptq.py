"""GPTQ: integers of 2, 3, 4 or 8 bits as `qweight`, `qzeros`, `scales` and `g_idx`, also with inputs ordered by their activations."""

from dataclasses import replace

from .....errors import SourceError
from .....json_file import read_json
from ..checkpoint import Checkpoint
from ..integers import Integers, IntegerWeight, needed_order
from ..packing import from_stream
from ..quantization import SETTINGS, beside, check_grid, checked, counted, method_of, quantized, settings_of

ORDER = 10
NAME = "GPTQ"
MARKS = (".qweight", ".qzeros", ".g_idx")

_OWN_FILE = "quantize_config.json"
_USED = ("bits", "group_size", "desc_act", "sym", "checkpoint_format", "format", "pack_dtype")
_BITS = (2, 3, 4, 8)


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Unpack `qweight` int32 `[in · bits / 32, out]`, `qzeros` `[groups, out · bits / 32]`, `scales` `[groups, out]`.

    Integers lie lowest bits first in a stream of words, zero points less 1 unless `checkpoint_format` is `gptq_v2`. The layout is
    that of AutoGPTQ's and GPTQModel's linear layers. SourceError where shapes contradict each other or the config.
    """
    state = checkpoint.state
    stems = [n.removesuffix(".qweight") for n in state if n.endswith(".qweight")]
    said = method_of(checkpoint)
    if not stems or said == "awq" or (said != "gptq" and not all(_is_own(checkpoint, stem) for stem in stems)):
        return None
    own = checkpoint.directory / _OWN_FILE
    if not checkpoint.config.get(SETTINGS) and own.is_file():
        checkpoint = replace(checkpoint, config={**checkpoint.config, SETTINGS: read_json(own)})
    settings = settings_of(checkpoint, "gptq", _USED)
    layout = str(settings.get("checkpoint_format") or settings.get("format") or "gptq")
    if layout not in ("gptq", "gptq_v2") or settings.get("pack_dtype") not in (None, "int32"):
        raise SourceError(
            f"{checkpoint.directory}: the GPTQ weights are packed as {layout} {settings.get('pack_dtype') or ''}, and gptq or gptq_v2 "
            "in int32 are read: save them as one of those"
        )
    found = {f"{stem}.weight": _weight(checkpoint, stem, settings.get("bits"), layout == "gptq") for stem in stems}
    used = [f"{stem}.{part}" for stem in stems for part in ("qweight", "qzeros", "scales", "g_idx")]
    kinds = sorted({bits for _, bits in found.values()})
    weights = counted(len(stems), f"of {' and '.join(map(str, kinds))} bits")
    sentence = f"GPTQ: {weights}, read as the exact values of their integers and scales"
    return quantized(checkpoint, {n: i for n, (i, _) in found.items()}, used, sentence, marks=MARKS)


def _is_own(checkpoint: Checkpoint, stem: str) -> bool:
    """Return whether a weight is packed along its inputs, as AWQ's are not."""
    weight, scales = checkpoint.state[f"{stem}.qweight"], checkpoint.state.get(f"{stem}.scales")
    return scales is None or len(weight.shape) != 2 or weight.shape[-1:] == scales.shape[-1:]


def _weight(checkpoint: Checkpoint, stem: str, given: object, less_one: bool) -> tuple[Integers, int]:
    name = f"{stem}.qweight"
    packed = beside(checkpoint, name, name, integer=True)
    scales = beside(checkpoint, name, f"{stem}.scales", integer=False)
    zeros = beside(checkpoint, name, f"{stem}.qzeros", integer=True)
    index = checkpoint.state.get(f"{stem}.g_idx")
    if len(packed.shape) != 2 or len(scales.shape) != 2 or packed.dtype != "int32":
        raise SourceError(
            f"{checkpoint.directory}: {name} is {packed.dtype}{list(packed.shape)} and its scales {list(scales.shape)}, and int32 of two "
            "axes are expected: download the checkpoint again"
        )
    words, out = packed.shape
    inputs = index.shape[0] if index is not None and len(index.shape) == 1 else 0
    bits = words * 32 // inputs if inputs else given
    if type(bits) is not int or bits not in _BITS:
        of = f"for {inputs} inputs of g_idx" if inputs else f"with bits = {given!r}"
        raise SourceError(
            f"{checkpoint.directory}: {name} is {list(packed.shape)} {of}: that is none of 2, 3, 4 or 8 bits"
        )
    inputs = inputs or words * 32 // bits
    groups = scales.shape[0]
    if words * 32 != inputs * bits or given not in (None, bits):
        raise SourceError(
            f"{checkpoint.directory}: {name} is {list(packed.shape)}, which is not {inputs} inputs of {given or bits} bits: give weights "
            "and config.json of one model"
        )
    check_grid(checkpoint, name, inputs, groups)
    beside(checkpoint, name, f"{stem}.qzeros", (groups, -(-out * bits // 32)))

    def load() -> IntegerWeight:
        codes = from_stream(packed.read().T.contiguous(), bits, inputs)
        zero = from_stream(zeros.read(), bits, out).int() + int(less_one)
        order = needed_order(index.read() if index is not None else None, inputs, groups)
        return IntegerWeight(codes, scales.read().float().T, bits, zero.T, order)

    return Integers((out, inputs), checked(checkpoint, name, load)), bits
