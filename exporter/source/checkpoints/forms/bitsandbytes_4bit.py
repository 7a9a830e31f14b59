"""bitsandbytes at 4 bits (NF4 and FP4, as QLoRA uses them): blocks of codes, whose scales may be codes themselves."""

from ..bitsandbytes import KINDS, METHOD_SETTINGS, QUANT_METHOD, blocks_of
from ..checkpoint import Checkpoint
from ..quantization import counted, quantized, settings_of
from ..state import StoredTensor

ORDER = 10
NAME = "bitsandbytes 4-bit"
MARKS = (".quant_map", ".nested_quant_map", ".nested_absmax", ".absmax", ".bitsandbytes__nf4", ".bitsandbytes__fp4")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Dequantize each weight that has a `quant_state`; no target computes with 16 freely chosen values, so all become floats.

    SourceError where parts are missing, or where their shapes contradict the `quant_state`.
    """
    names = {
        name.removesuffix(f".quant_state.bitsandbytes__{kind}"): kind
        for name in checkpoint.state
        for kind in KINDS
        if name.endswith(f".quant_state.bitsandbytes__{kind}")
    }
    if not names:
        return None
    settings_of(checkpoint, QUANT_METHOD, METHOD_SETTINGS)
    floats: dict[str, StoredTensor] = {}
    used: list[str] = []
    for name, kind in names.items():
        blocks = blocks_of(checkpoint, name, kind)
        floats[name] = StoredTensor(blocks.shape, "float32", blocks.read)
        parts = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", f"quant_state.bitsandbytes__{kind}")
        used += [name, *(f"{name}.{part}" for part in parts)]
    kinds = " and ".join(sorted({kind.upper() for kind in names.values()}))
    sentence = (
        f"bitsandbytes: {counted(len(names), f'in {kinds}')}, dequantized: no target computes with these 16 values, so the artifact holds "
        "floats"
    )
    return quantized(checkpoint, {}, used, sentence, floats=floats, marks=MARKS)
