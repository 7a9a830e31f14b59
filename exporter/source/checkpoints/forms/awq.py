"""AWQ: 4-bit integers as `qweight`, `qzeros` and `scales`, in the order of nibbles of its GEMM kernel."""

from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..integers import Integers, IntegerWeight
from ..packing import from_words
from ..quantization import beside, check_grid, checked, counted, quantized, settings_of

ORDER = 11
NAME = "AWQ"
MARKS = (".qweight", ".qzeros")

_USED = ("bits", "w_bit", "group_size", "q_group_size", "zero_point", "version", "modules_to_not_convert")
_COLUMN_OF_NIBBLE = (0, 2, 4, 6, 1, 3, 5, 7)


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Unpack `qweight` int32 `[in, out / 8]`, `qzeros` `[groups, out / 8]` and `scales` `[groups, out]`.

    Nibble 0 to 7 of a word belongs to output 0, 2, 4, 6, 1, 3, 5, 7: the layout of AutoAWQ's GEMM linear layer. SourceError for its
    other layouts, and where shapes contradict each other.
    """
    stems = [n.removesuffix(".qweight") for n in checkpoint.state if n.endswith(".qweight")]
    if not stems:
        return None
    settings = settings_of(checkpoint, "awq", _USED)
    version = str(settings.get("version") or "gemm").lower()
    bits = settings.get("bits", settings.get("w_bit", 4))
    if version != "gemm" or bits != 4:
        raise SourceError(
            f"{checkpoint.directory}: AWQ weights of {bits} bits in the layout {version} are not read, 4 bits as gemm are: save them so"
        )
    found = {f"{stem}.weight": _weight(checkpoint, stem) for stem in stems}
    used = [f"{stem}.{part}" for stem in stems for part in ("qweight", "qzeros", "scales")]
    sentence = f"AWQ: {counted(len(stems), 'of 4 bits')}, read as the exact values of their integers and scales"
    return quantized(checkpoint, found, used, sentence, marks=MARKS)


def _weight(checkpoint: Checkpoint, stem: str) -> Integers:
    name = f"{stem}.qweight"
    packed = beside(checkpoint, name, name, integer=True)
    if len(packed.shape) != 2 or packed.dtype != "int32":
        raise SourceError(
            f"{checkpoint.directory}: {name} is {packed.dtype}{list(packed.shape)}, int32 of two axes is expected"
        )
    inputs, out = packed.shape[0], packed.shape[1] * 8
    scales = beside(checkpoint, name, f"{stem}.scales", integer=False)
    groups = scales.shape[0] if scales.shape else 0
    beside(checkpoint, name, f"{stem}.scales", (groups, out))
    zeros = beside(checkpoint, name, f"{stem}.qzeros", (groups, out // 8), integer=True)
    check_grid(checkpoint, name, inputs, groups)

    def load() -> IntegerWeight:
        codes, zero = _columns(packed.read()), _columns(zeros.read())
        return IntegerWeight(codes.T, scales.read().float().T, 4, zero.T.int())

    return Integers((out, inputs), checked(checkpoint, name, load))


def _columns(words: Any) -> Any:
    """Return nibbles `[rows, out]` in the order of the outputs."""
    import torch

    nibbles = from_words(words, 4, words.shape[1] * 8).reshape(len(words), -1, 8)
    columns = torch.empty_like(nibbles)
    columns[:, :, list(_COLUMN_OF_NIBBLE)] = nibbles
    return columns.reshape(len(words), -1)
