"""What a canonical attention adds to its scores, taken apart again: Headway's own kernels know padding by lengths, not by a bias."""

import re
from dataclasses import dataclass

import onnx_ir as ir

from ...errors import TargetError
from ..graph.edit import attribute, dims, producer
from ..graph.mask import PADDING_BIAS, padding_mask


@dataclass(frozen=True)
class Terms:
    """`mask [batch, sequence]`; `position`, `[1, heads or 1, positions, positions]` or without its first axis; the tokens that a
    `window` reaches either way, and the `band [positions, positions]` that blocks the others."""

    mask: ir.Value
    position: ir.Value | None
    window: int | None
    band: ir.Value | None


def refusal(node: ir.Node, why: str) -> TargetError:
    """For an attention that Headway's own kernels do not compute."""
    return TargetError(
        f"node {node.name!r} cannot be computed by Headway's own kernel: {why}; export with --kernels stock"
    )


def terms_of(node: ir.Node) -> Terms:
    """The terms of a canonical `Attention`. TargetError where one is of another kind, or the padding mask is missing."""
    inputs = [v for v in node.inputs if v is not None]
    if len(inputs) != len(node.inputs) or len(inputs) != 4:
        raise refusal(
            node, "its scores have no padding mask" if len(inputs) == 3 else "it has inputs beyond q, k, v and bias"
        )
    if attribute(node, "kv_num_heads") != attribute(node, "q_num_heads") or dims(inputs[0]) != dims(inputs[2]):
        raise refusal(node, "queries, keys and values differ in size")
    mask, position, window, band = None, None, None, None
    queue = [inputs[3]]
    while queue:
        term = queue.pop()
        name = str(term.name)
        if name.split("#")[0] in (PADDING_BIAS, f"{PADDING_BIAS}.keys"):
            mask = padding_mask(term)
        elif found := re.fullmatch(rf"{re.escape(PADDING_BIAS)}\.window_(\d+)\.band(#\d+)?", name):
            window, band = int(found[1]), term
        elif name.startswith(f"{PADDING_BIAS}.") and (add := producer(term, "Add")) is not None:
            queue += [v for v in add.inputs if v is not None]
        elif position is None:
            position = _one_batch(node, term)
        else:
            raise refusal(node, f"value {name!r} is one position bias more than the kernel takes")
    if mask is None:
        raise refusal(node, "its scores have no padding mask")
    return Terms(mask, position, window, band)


def _one_batch(node: ir.Node, bias: ir.Value) -> ir.Value:
    """A position bias as `[1, heads or 1, positions, positions]`, before it is spread over the batch."""
    while (
        (dims(bias) or [None])[0] != 1
        and (spread := producer(bias, "Expand")) is not None
        and spread.inputs[0] is not None
    ):
        bias = spread.inputs[0]
    found = dims(bias) or []
    if not (len(found) == 3 or (len(found) == 4 and found[0] == 1)):
        raise refusal(node, f"position bias {bias.name!r} of shape {bias.shape} differs by text")
    return bias
