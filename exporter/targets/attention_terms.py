"""Split what a canonical attention adds to its scores into terms: Headway's own kernels take padding as lengths, not as a bias."""

import re
from dataclasses import dataclass

import onnx_ir as ir

from ...errors import TargetError
from ..graph.edit import attribute_int, dims, producer
from ..graph.mask import PADDING_BIAS, padding_mask


@dataclass(frozen=True)
class Terms:
    """What is added to the scores of one attention.

    `mask` is the padding mask, `[batch, sequence]`. `position` is a bias by position, `[1, heads or 1, positions, positions]` or
    without its first axis. `window` is how many tokens an attention reaches either way, and `band`, `[positions, positions]`,
    blocks all others.
    """

    mask: ir.Value
    position: ir.Value | None
    window: int | None
    band: ir.Value | None


def refusal(node: ir.Node, why: str) -> TargetError:
    """Return the error for an attention that Headway's own kernels do not compute."""
    return TargetError(
        f"node {node.name!r} cannot be computed by Headway's own kernel: {why}; export with `kernels: stock` (--kernels stock)"
    )


def terms_of(node: ir.Node) -> Terms:
    """Return the terms of a canonical `Attention`.

    Raise TargetError where a term is of another kind, or the padding mask is missing.
    """
    inputs = [v for v in node.inputs if v is not None]
    if len(inputs) != len(node.inputs) or len(inputs) != 4:
        raise refusal(
            node, "its scores have no padding mask" if len(inputs) == 3 else "it has inputs beyond q, k, v and bias"
        )
    if attribute_int(node, "kv_num_heads") != attribute_int(node, "q_num_heads") or dims(inputs[0]) != dims(inputs[2]):
        raise refusal(node, "queries, keys and values differ in size")
    mask, position, window, band = None, None, None, None
    queue = [inputs[3]]
    while queue:
        term = queue.pop()
        name = str(term.name)
        if name.split("#")[0] in (PADDING_BIAS, f"{PADDING_BIAS}.keys"):
            mask = padding_mask(term)
        elif window_name := re.fullmatch(rf"{re.escape(PADDING_BIAS)}\.window_(\d+)\.band(#\d+)?", name):
            window, band = int(window_name[1]), term
        elif name.startswith(f"{PADDING_BIAS}.") and (add := producer(term, "Add")) is not None:
            queue += [v for v in add.inputs if v is not None]
        elif position is None:
            position = _one_batch(node, term)
        else:
            raise refusal(node, f"value {name!r} is a second position bias, and the kernel takes one")
    if mask is None:
        raise refusal(node, "its scores have no padding mask")
    return Terms(mask, position, window, band)


def _one_batch(node: ir.Node, bias: ir.Value) -> ir.Value:
    """Return a position bias as `[1, heads or 1, positions, positions]`, before it is broadcast over the batch."""
    while (
        (dims(bias) or [None])[0] != 1
        and (spread := producer(bias, "Expand")) is not None
        and spread.inputs[0] is not None
    ):
        bias = spread.inputs[0]
    shape = dims(bias) or []
    if not (len(shape) == 3 or (len(shape) == 4 and shape[0] == 1)):
        raise refusal(node, f"position bias {bias.name!r} of shape {bias.shape} differs by text")
    return bias
