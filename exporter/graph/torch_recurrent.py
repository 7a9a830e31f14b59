"""ONNX's LSTM in torch. Imports torch."""

import onnx_ir as ir
import torch

from ...errors import SourceError
from .edit import attribute_int
from .torch_node import Operator, Tensor, given

_TORCH_GATES = (0, 2, 3, 1)
"""torch's order of gates, input, forget, cell, output, in ONNX's: input, output, forget, cell."""


def _lstm(node: ir.Node, x: list[Tensor]) -> tuple[Tensor, ...]:
    """Compute `Y [time, directions, batch, hidden]` and the last states; rows end at their `sequence_lens`, and are zero after.

    SourceError where the node has what torch's LSTM lacks: states to start from, peepholes, other activations.
    """
    if any(given(x, i) is not None for i in (5, 6, 7)) or any(
        node.attributes.get(n) for n in ("activations", "clip", "layout")
    ):
        raise SourceError(
            f"node {node.name!r}: an LSTM with states, peepholes, clipping or activations of its own is not computed"
        )
    data, w, r, b, lengths = x[0], x[1], x[2], given(x, 3), given(x, 4)
    direction = node.attributes.get("direction")
    count, size = w.shape[0], attribute_int(node, "hidden_size", r.shape[-1])
    if (direction.as_string() if direction else "forward") != ("bidirectional" if count == 2 else "forward"):
        raise SourceError(f"node {node.name!r}: an LSTM that only reads backward is not computed")
    biases = torch.zeros(count, 8 * size) if b is None else b
    flat = []
    for i in range(count):
        flat += [_gates(w[i]), _gates(r[i]), _gates(biases[i, : 4 * size]), _gates(biases[i, 4 * size :])]
    start = torch.zeros(count, data.shape[1], size, dtype=data.dtype)
    if lengths is None:
        y, hidden, cell = torch.lstm(data, (start, start), flat, True, 1, 0.0, False, count == 2, False)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(data, lengths.cpu().long(), enforce_sorted=False)
        order = packed.sorted_indices
        assert packed.unsorted_indices is not None
        rows, hidden, cell = torch.lstm(
            packed.data, packed.batch_sizes, (start, start), flat, True, 1, 0.0, False, count == 2
        )
        back = torch.nn.utils.rnn.PackedSequence(rows, packed.batch_sizes, order, packed.unsorted_indices)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(back, total_length=data.shape[0])
        given_order = torch.as_tensor(packed.unsorted_indices)
        hidden, cell = (state.index_select(1, given_order) for state in (hidden, cell))
    return y.reshape(*y.shape[:2], count, size).permute(0, 2, 1, 3), hidden, cell


def _gates(tensor: Tensor) -> Tensor:
    parts = tensor.chunk(4)
    return torch.cat([parts[i] for i in _TORCH_GATES])


RECURRENT: dict[str, Operator] = {"LSTM": _lstm}
"""Recurrent operators by name."""
