"""Hold in float what a source stores in integers, where its target does not store such integers, or where passes change them."""

import warnings

import onnx_ir as ir

from ...errors import HeadwayWarning, UsageError
from ..graph.stored_weights import hold_for, hold_in_float
from ..targets.base import TargetSpec


def hold_for_target(model: ir.Model, source: str, spec: TargetSpec) -> None:
    """Hold in float, in place, what the target does not take; a HeadwayWarning that begins with `source` names it."""
    names = hold_for(model, spec.integers, embeddings=spec.int8_embeddings)
    if names:
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        warnings.warn(
            f"{source}: {names[0]}{others}: held as the numbers that their integers stand for, since target {spec.name} does not store "
            "such integers",
            HeadwayWarning,
            stacklevel=2,
        )


def read_as_floats(model: ir.Model, source: str) -> None:
    """Hold all weights as floats, in place, so that passes can change them; a HeadwayWarning says so.

    UsageError for activations with ranges of their own, which hold for this very model.
    """
    rounded = next((n for n in model.graph if n.op_type == "QuantizeLinear"), None)
    if rounded is not None:
        raise UsageError(
            f"{source}: it computes activations in integers (first: {rounded.name!r}), with ranges that hold for this model alone: "
            "compress the float32 model that it was made from"
        )
    names = hold_in_float(model, lambda _: True, rows=True)
    warnings.warn(
        f"{source}: {len(names)} weights and embeddings are integers, and passes change the float32 numbers that these stand for: the "
        "result holds integers only where a quantize pass rounds it anew",
        HeadwayWarning,
        stacklevel=2,
    )
