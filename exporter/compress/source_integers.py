"""Hold in float what a source stores in integers, where its target does not store such integers, or where passes change them."""

import warnings
from dataclasses import replace

import onnx_ir as ir

from ...errors import HeadwayWarning, UsageError
from ..graph.canonical import Canonical
from ..graph.own_integers import hold_integers
from ..graph.source_rounding import round_activations
from ..graph.stored_weights import hold_for, hold_in_float
from ..source.checkpoints.checkpoint import Checkpoint
from ..source.source import Source
from ..targets.base import TargetSpec


def hold_for_target(model: ir.Model, source: str, spec: TargetSpec) -> None:
    """Hold in float, in place, what the target does not take; a HeadwayWarning that begins with `source` names it."""
    names = hold_for(model, spec.integers, embeddings=spec.int8_embeddings, recurrent=spec.int8_recurrent)
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


def with_integers(source: Source, canonical: Canonical, spec: TargetSpec, *, passes: bool) -> Source:
    """Put a quantized checkpoint's own integers into its graph; return the source with a sentence that says where they are.

    With `passes` the graph stays float, and a HeadwayWarning says so. UsageError where the checkpoint rounds activations, and the
    target has no arithmetic for that.
    """
    checkpoint = source.checkpoint
    if checkpoint is None or not checkpoint.integers:
        return source
    if passes:
        sentence = _changed_by_passes(checkpoint)
    else:
        if checkpoint.rounded_inputs and spec.integers == "none":
            raise UsageError(
                f"{checkpoint.directory}: target {spec.name} has no arithmetic for activations that a checkpoint rounds to its own ranges "
                f"({len(checkpoint.rounded_inputs)} linear layers): export it to ort or tensorrt, or let "
                f"`headway compress --quantize int8 --target {spec.name}` choose ranges anew"
            )
        reads = {name: integers.read for name, integers in checkpoint.integers.items()}
        held = hold_integers(canonical.model, reads, allowed=spec.integers, embeddings=spec.int8_embeddings)
        unrounded = round_activations(canonical.model, canonical.rounding)
        sentence = held.sentence()
        if unrounded:
            sentence += (
                f"; the inputs of {len(unrounded)} matmuls are not rounded, since the artifact computes them in float32"
            )
    warnings.warn(f"{checkpoint.directory}: {sentence}", HeadwayWarning, stacklevel=2)
    return replace(source, checkpoint=checkpoint.changed(sentence))


def _changed_by_passes(checkpoint: Checkpoint) -> str:
    sentence = (
        f"passes change the values of {len(checkpoint.integers)} quantized weights: they work on the floats that the integers stand "
        "for, and a quantize pass rounds those again"
    )
    if checkpoint.rounded_inputs:
        sentence += (
            f"; the activation ranges of {len(checkpoint.rounded_inputs)} linear layers hold for the unchanged model, and are left out: "
            "quality is compared with float activations, and a quantize pass learns ranges from the text"
        )
    return sentence


def kind_of_answers(source: Source) -> str:
    """Return the dtype by whose tolerance the float graph is compared with the source, "int8" where that rounds its activations."""
    return "int8" if source.checkpoint is not None and source.checkpoint.rounded_inputs else "float32"
