"""Q8BERT's fake quantization: moving-average thresholds of activations, with weights as floats or as integers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..integers import Integers, IntegerWeight
from ..quantization import beside, checked, counted, quantized, settings_of
from ..state import StoredTensor

ORDER = 10
NAME = "Q8BERT"
MARKS = ("._weight_scale", ".input_thresh", ".output_thresh", "._quantized_bias", "._step")

_USED = ("activation_bits", "weight_bits", "mode", "start_step", "ema_decay", "requantize_output")
_PARTS = (
    "quantized_weight",
    "_weight_scale",
    "input_thresh",
    "output_thresh",
    "_quantized_bias",
    "bias_scale",
    "_step",
)


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Take the integers of `quantized_weight`, or round `weight` as that method does; inputs are rounded by their stored thresholds.

    `_weight_scale` is 127 divided by the largest magnitude, as nlp-architect's `QuantizedLinear` and `QuantizedEmbedding` save it. In
    mode `ema` inputs of linear layers are rounded to `input_thresh / 127`; outputs are not rounded again here. In mode `dynamic`
    ranges are those of each batch, and activations are computed as floats. SourceError for thresholds that have
    never observed an activation.
    """
    state = checkpoint.state
    parts = (".quantized_weight", ".input_thresh", "._step")
    likely = {n.removesuffix(end) for n in state for end in ("._weight_scale", *parts[1:]) if n.endswith(end)}
    stems = sorted(stem for stem in likely if any(stem + part in state for part in parts))
    if not stems:
        return None
    settings = settings_of(checkpoint, "q8bert", _USED)
    bits = settings.get("weight_bits", 8)
    if bits not in range(2, 9):
        raise SourceError(f"{checkpoint.directory}: weight_bits = {bits!r} of quantization_config, 2 to 8 are read")
    thresholds = {stem: _threshold(checkpoint, stem) for stem in stems if f"{stem}.input_thresh" in state}
    mode = str(settings.get("mode") or ("ema" if any(thresholds.values()) else "dynamic")).lower()
    if mode not in ("ema", "dynamic"):
        raise SourceError(f"{checkpoint.directory}: mode = {mode!r} of quantization_config, ema and dynamic are read")
    steps = _steps(checkpoint, thresholds, settings) if mode == "ema" else {}
    found = {f"{stem}.weight": _weight(checkpoint, stem, bits) for stem in stems}
    biases = {
        f"{stem}.bias": bias
        for stem in stems
        if (bias := _bias(checkpoint, stem, found[f"{stem}.weight"], steps.get(stem))) is not None
    }
    floats = [f"{stem}.weight" for stem in stems if f"{stem}.quantized_weight" not in state]
    used = [*floats, *biases, *(f"{stem}.{part}" for stem in stems for part in _PARTS)]
    said = (
        f"inputs of {len(steps)} linear layers are rounded by their stored thresholds, outputs are not rounded again"
        if steps
        else "activations are computed in floats, which the method rounds by the range of each batch"
    )
    sentence = f"Q8BERT: {counted(len(found), f'of {bits} bits')}; {said}"
    changed = quantized(checkpoint, found, used, sentence, floats=biases, marks=MARKS)
    return replace(changed, rounded_inputs={**checkpoint.rounded_inputs, **steps})


def _threshold(checkpoint: Checkpoint, stem: str) -> float:
    stored = beside(checkpoint, f"{stem}.weight", f"{stem}.input_thresh", integer=False)
    if any(size != 1 for size in stored.shape):
        raise SourceError(
            f"{checkpoint.directory}: {stem}.input_thresh is {list(stored.shape)}, one number is expected"
        )
    return float(stored.read())


def _steps(checkpoint: Checkpoint, thresholds: Mapping[str, float], settings: Mapping[str, Any]) -> dict[str, float]:
    if settings.get("activation_bits", 8) != 8:
        raise SourceError(
            f"{checkpoint.directory}: activation_bits = {settings['activation_bits']!r}, 8 are computed here"
        )
    for stem, threshold in thresholds.items():
        if not 0 < threshold < float("inf"):
            raise SourceError(
                f"{checkpoint.directory}: {stem}.input_thresh is {threshold:g}: it has never observed an activation: run training on some "
                "text first, or save it with mode dynamic"
            )
    return {stem: threshold / 127 for stem, threshold in thresholds.items()}


def _weight(checkpoint: Checkpoint, stem: str, bits: int) -> Integers:
    """Return the integers of a layer: stored ones, or those that the method rounds a stored float weight to."""
    largest = 2 ** (bits - 1) - 1
    name = f"{stem}.quantized_weight"
    if name in checkpoint.state:
        weight = _matrix(checkpoint, stem, name, integer=True)
        scale = beside(checkpoint, name, f"{stem}._weight_scale", integer=False)
        if any(size != 1 for size in scale.shape):
            raise SourceError(
                f"{checkpoint.directory}: {stem}._weight_scale is {list(scale.shape)}, one number is expected"
            )

        def load() -> IntegerWeight:
            return IntegerWeight(weight.read(), (1 / scale.read().float()).expand(weight.shape[0], 1), bits)

    else:
        name = f"{stem}.weight"
        weight = _matrix(checkpoint, stem, name, integer=False)

        def load() -> IntegerWeight:
            tensor = weight.read().float()
            factor = largest / tensor.abs().max()
            codes = (tensor * factor).round().clamp(-largest, largest).int()
            return IntegerWeight(codes, (1 / factor).expand(len(codes), 1), bits)

    return Integers((weight.shape[0], weight.shape[1]), checked(checkpoint, name, load))


def _matrix(checkpoint: Checkpoint, stem: str, name: str, *, integer: bool) -> StoredTensor:
    weight = beside(checkpoint, stem, name, integer=integer)
    if len(weight.shape) != 2:
        raise SourceError(f"{checkpoint.directory}: {name} is {list(weight.shape)}, two axes are expected")
    return weight


def _bias(checkpoint: Checkpoint, stem: str, weight: Integers, step: float | None) -> StoredTensor | None:
    """Return a bias that is in integers, or becomes so beside rounded inputs; None where it stays as it is, or where there is none."""
    state = checkpoint.state
    name, floats = f"{stem}._quantized_bias", f"{stem}.bias"
    if name not in state:
        if step is None or floats not in state or f"{stem}.quantized_weight" in state:
            return None

        def rounded(bias: Any) -> Any:
            both = weight.read().scale[0].float() * step
            return (bias.float() / both).round() * both

        return state[floats].computed(rounded)
    if floats in state:
        raise SourceError(
            f"{checkpoint.directory}: {floats} is saved both as integers and as floats: keep one of the two"
        )
    stored = beside(checkpoint, f"{stem}.weight", name, weight.shape[:1], integer=True)
    scale = beside(checkpoint, name, f"{stem}.bias_scale", integer=False)
    if any(size != 1 for size in scale.shape):
        raise SourceError(f"{checkpoint.directory}: {stem}.bias_scale is {list(scale.shape)}, one number is expected")
    return stored.computed(lambda tensor: tensor.float() / scale.read().float())
