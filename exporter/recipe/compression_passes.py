"""Write the options of a compression as the passes of a recipe."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ...errors import UsageError

DEFAULT_MINUTES, DEFAULT_EPOCHS = 3.0, 3
"""How long a model that was cut to a budget is distilled where nothing is asked: so many rounds over the text, at most so many minutes."""


def compression_passes(
    budget: Mapping[str, float | None],
    quantize: Literal["int8", "int4", "float16"] | None,
    recover_minutes: float | None,
    trim_vocabulary: bool,
    keep_scripts: Sequence[str],
    *,
    search: bool,
    repair: bool,
) -> list[dict[str, Any]]:
    """Return the passes that the options of `compress` stand for, in their order. Raises UsageError where they contradict each other."""
    if keep_scripts and not trim_vocabulary:
        raise UsageError(
            "`keep_scripts` (--keep-script) says what trimming leaves whole: give `trim_vocabulary` (--trim-vocabulary) with it"
        )
    trim = {"kind": "trim_vocabulary"} | ({"keep_script": list(keep_scripts)} if keep_scripts else {})
    passes: list[dict[str, Any]] = [trim] if trim_vocabulary else []
    if any(limit is not None for limit in budget.values()):
        passes.append({"kind": "fit", **budget} | ({} if repair else {"rounds": 1}))
        passes += [{"kind": "repair"}] if repair else []
    if recover_minutes:
        passes.append({"kind": "recover", "minutes": recover_minutes})
    elif recover_minutes is None and repair and passes and passes[-1]["kind"] == "repair":
        passes.append({"kind": "recover", "minutes": DEFAULT_MINUTES, "epochs": DEFAULT_EPOCHS})
    if search and quantize in (None, "float16"):
        raise UsageError(
            "`search` (--search) leaves weights out of quantization: give `quantize` (--quantize) int8 or int4 with it"
        )
    if quantize == "float16":
        passes.append({"kind": "float16"})
    elif quantize is not None:
        block = {"block": 32} if quantize == "int4" else {}
        passes.append({"kind": "quantize", "weights": quantize, "search": search, **block})
    if not passes:
        raise UsageError(
            "say what to do: `speedup`, `latency_ms` (--latency), `flops`, `trim_vocabulary`, `recover_minutes` (--recover) or `quantize`"
        )
    return passes
