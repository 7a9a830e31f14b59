"""Trace LSTMs as ONNX's own operator: torch would write one step after the other, for one length only.

While a model is traced, each `torch.nn.LSTM` is replaced by a module that stands for the operator. A packed sequence becomes the
padded one and its lengths, which are the operator's `sequence_lens`: answers do not depend on padding, as packed ones do not.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ...errors import SourceError

_OPSET = 22
_GATES = (0, 3, 1, 2)
"""ONNX's order of gates, input, output, forget, cell, in torch's: input, forget, cell, output."""

_ATTRIBUTES = (
    "input_size",
    "hidden_size",
    "num_layers",
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
    "proj_size",
)


class Packed(NamedTuple):
    """What stands for a packed sequence in a trace: texts `[batch, time, features]` and their lengths, int64 `[batch]`."""

    data: Any
    lengths: Any


@contextmanager
def traced_lstms(root: Any) -> Iterator[None]:
    """Replace every LSTM of `root` inside the block, and the functions that pack sequences and unpack them.

    SourceError for an LSTM that the operator is not for: one with projections, or that starts from a state.
    """
    import torch

    found = [(path, module) for path, module in root.named_modules() if isinstance(module, torch.nn.LSTM)]
    if not found:
        yield
        return
    for path, module in found:
        parent, _, name = path.rpartition(".")
        setattr(root.get_submodule(parent), name, _stand_in(module, path))
    rnn = torch.nn.utils.rnn
    restored = _replaced({rnn.pack_padded_sequence: _pack, rnn.pad_packed_sequence: _unpack})
    try:
        yield
    finally:
        for path, module in found:
            parent, _, name = path.rpartition(".")
            setattr(root.get_submodule(parent), name, module)
        for holder, name, function in restored:
            setattr(holder, name, function)


def _replaced(functions: dict[Callable[..., Any], Callable[..., Any]]) -> list[tuple[Any, str, Any]]:
    """Put functions in the place of others in every module that has them by their own names; return what was there."""
    names = {function.__name__: function for function in functions}
    there = []
    for module in list(sys.modules.values()):
        for name, function in names.items():
            if getattr(module, "__dict__", {}).get(name) is function:
                there.append((module, name, function))
                setattr(module, name, functions[function])
    return there


def _pack(data: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Packed:
    """Return what stands for a packed sequence."""
    return Packed(data if batch_first else data.transpose(0, 1), lengths)


def _unpack(
    packed: Packed, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Any, Any]:
    """Return the padded sequence and its lengths. It is as long as it was before, and zero where texts have ended."""
    if padding_value != 0:
        raise SourceError(f"pad_packed_sequence with padding_value = {padding_value}: LSTMs give zeros there; take 0")
    return packed.data if batch_first else packed.data.transpose(0, 1), packed.lengths


def _stand_in(lstm: Any, path: str) -> Any:
    """Return the module that stands for an LSTM: its weights in ONNX's order, a node for each of its layers."""
    import torch

    if lstm.proj_size:
        raise SourceError(
            f"{path}: an LSTM with projections (proj_size = {lstm.proj_size}) has no operator: take one without"
        )
    directions = ["", "_reverse"] if lstm.bidirectional else [""]

    class Layers(torch.nn.Module):
        """The layers of an LSTM, one operator each."""

        def __init__(self) -> None:
            super().__init__()
            for name in _ATTRIBUTES:  # models read them, as to tell how many directions there are
                setattr(self, name, getattr(lstm, name))
            for layer in range(lstm.num_layers):
                for kind, tensor in _weights(lstm, layer, directions).items():
                    self.register_buffer(f"{kind}_l{layer}", tensor)

        def forward(self, x: Any, state: Any = None) -> Any:
            """Return outputs and last states, as torch's LSTM does."""
            if state is not None:
                raise SourceError(
                    f"{path}: an LSTM that starts from a state of its own is not exported: leave the state out"
                )
            packed = isinstance(x, Packed)
            lengths = x.lengths if packed else None
            data = x.data.transpose(0, 1) if packed else x.transpose(0, 1) if lstm.batch_first else x
            last = []
            for layer in range(lstm.num_layers):
                data, hidden, cell = self._layer(layer, data, lengths)
                last.append((hidden, cell))
            states = tuple(torch.cat([state[i] for state in last]) for i in range(2))
            first = packed or lstm.batch_first
            data = data.transpose(0, 1) if first else data
            return (Packed(data, lengths) if packed else data), states

        def flatten_parameters(self) -> None:
            """Do nothing: there is no memory to lay out anew."""

        def _layer(self, layer: int, data: Any, lengths: Any) -> tuple[Any, Any, Any]:
            time, batch, size, count = data.shape[0], data.shape[1], lstm.hidden_size, len(directions)
            inputs = [data, *(getattr(self, f"{kind}_l{layer}") for kind in ("W", "R", "B"))]
            if lengths is not None:
                inputs.append(lengths.to(device=data.device, dtype=torch.int32))
            outputs = torch.onnx.ops.symbolic_multi_out(
                "LSTM",
                inputs,
                {"hidden_size": size, "direction": "bidirectional" if count == 2 else "forward"},
                dtypes=(torch.float32,) * 3,
                shapes=((time, count, batch, size), (count, batch, size), (count, batch, size)),
                version=_OPSET,
            )
            y, hidden, cell = outputs
            return y.permute(0, 2, 1, 3).reshape(time, batch, count * size), hidden, cell

    return Layers()


def _weights(lstm: Any, layer: int, directions: list[str]) -> dict[str, Any]:
    """Return a layer's `W [directions, 4·hidden, inputs]`, `R [directions, 4·hidden, hidden]` and `B [directions, 8·hidden]`."""
    import torch

    def gates(name: str, direction: str) -> Any:
        tensor = getattr(lstm, f"{name}_l{layer}{direction}").detach()
        parts = tensor.chunk(4)
        return torch.cat([parts[i] for i in _GATES])

    stacked = {"W": [gates("weight_ih", d) for d in directions], "R": [gates("weight_hh", d) for d in directions]}
    if lstm.bias:
        stacked["B"] = [torch.cat([gates("bias_ih", d), gates("bias_hh", d)]) for d in directions]
    else:
        stacked["B"] = [torch.zeros(8 * lstm.hidden_size) for _ in directions]
    return {kind: torch.stack(tensors) for kind, tensors in stacked.items()}
