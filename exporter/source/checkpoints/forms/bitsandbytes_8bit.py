"""bitsandbytes at 8 bits (LLM.int8): `weight` int8 with `SCB`, the largest magnitude of each row."""

from .....errors import SourceError
from ..bitsandbytes import METHOD_SETTINGS, QUANT_METHOD
from ..checkpoint import Checkpoint
from ..integers import Integers, IntegerWeight
from ..quantization import beside, checked, counted, quantized, settings_of

ORDER = 10
NAME = "bitsandbytes 8-bit"
MARKS = (".SCB", ".weight_format")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Take `weight · SCB / 127`, row by row. SourceError for layouts of a GPU, and where `weight` and `SCB` do not fit each other.

    Columns with outliers, which that library multiplies in float16 at run time, are integers in the file like all others.
    """
    stems = [n.removesuffix(".SCB") for n in checkpoint.state if n.endswith(".SCB")]
    if not stems:
        return None
    settings_of(checkpoint, QUANT_METHOD, METHOD_SETTINGS)
    found = {f"{stem}.weight": _weight(checkpoint, stem) for stem in stems}
    used = [f"{stem}.{part}" for stem in stems for part in ("weight", "SCB", "weight_format")]
    weights = counted(len(stems), "of 8 bits")
    sentence = f"bitsandbytes: {weights}, read as the exact values of their integers and scales; activations are floats"
    return quantized(checkpoint, found, used, sentence, marks=MARKS)


def _weight(checkpoint: Checkpoint, stem: str) -> Integers:
    name = f"{stem}.weight"
    weight = beside(checkpoint, f"{stem}.SCB", name, integer=True)
    if len(weight.shape) != 2 or weight.dtype != "int8":
        raise SourceError(
            f"{checkpoint.directory}: {name} is {weight.dtype}{list(weight.shape)}, int8 of two axes is expected"
        )
    largest = beside(checkpoint, name, f"{stem}.SCB", (weight.shape[0],), integer=False)
    layout = checkpoint.state.get(f"{stem}.weight_format")
    if layout is not None and (len(layout.shape) > 1 or any(s != 1 for s in layout.shape) or int(layout.read()) != 0):
        raise SourceError(
            f"{checkpoint.directory}: {stem}.weight_format says a layout of GPUs, not rows: save it with a later version of bitsandbytes"
        )

    def load() -> IntegerWeight:
        return IntegerWeight(weight.read(), (largest.read().float() / 127)[:, None], 8)

    return Integers((weight.shape[0], weight.shape[1]), checked(checkpoint, name, load))
