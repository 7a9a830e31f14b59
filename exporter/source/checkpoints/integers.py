"""Integers of a weight as its checkpoint holds them, with what turns them into floats. Torch tensors, read when they are needed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .state import StoredTensor


@dataclass(frozen=True)
class IntegerWeight:
    """A weight read from a file: `weight[o, i] = (codes[o, i] - zero[o, group of i]) · scale[o, group of i]`, in float32.

    `codes` are integers `[out, in]` of `bits` bits; of an embedding, `[rows, width]`. `scale` is float32 `[out, groups]`, and
    `zero`, where there is one, has the same shape. Groups are of consecutive inputs, unless `order [in]` names the group of each.
    """

    codes: Any
    scale: Any
    bits: int
    zero: Any = None
    order: Any = None

    def float_weight(self) -> Any:
        """Return the weight as float32 `[out, in]`."""
        import torch

        inputs, groups = self.codes.shape[1], self.scale.shape[1]
        order = _consecutive(inputs, groups) if self.order is None else self.order.long()
        whole = self.codes.to(torch.float32)
        if self.zero is not None:
            whole = whole - self.zero.to(torch.float32)[:, order]
        return whole * self.scale.to(torch.float32)[:, order]


def _consecutive(inputs: int, groups: int) -> Any:
    import torch

    return torch.arange(groups).repeat_interleave(inputs // groups)


def needed_order(order: Any, inputs: int, groups: int) -> Any:
    """Return the group of each input, int64 `[in]`; None where groups are of consecutive inputs."""
    import torch

    return None if order is None or torch.equal(order.long(), _consecutive(inputs, groups)) else order.long()


def needed_zero(zero: Any) -> Any:
    """Return zero points; None where all are 0."""
    return zero if zero is not None and bool(zero.any()) else None


def cut_rows(tensor: Any, *, begin: int, end: int) -> Any:
    """Return the rows of a tensor from `begin` to before `end`: a copy, unless that is all of them."""
    return tensor if end - begin == len(tensor) else tensor[begin:end].clone()


@dataclass(frozen=True)
class Integers:
    """Integers of a weight that are read when they are needed; `shape` is that of the weight, `[out, in]`."""

    shape: tuple[int, int]
    read: Callable[[], IntegerWeight]

    def rows(self, take: Callable[[Any], Any], count: int) -> "Integers":
        """Return the integers of `count` rows that `take` makes of a tensor's rows: some of them, or all in another order."""

        def read() -> IntegerWeight:
            whole = self.read()
            zero = None if whole.zero is None else take(whole.zero)
            return replace(whole, codes=take(whole.codes), scale=take(whole.scale), zero=zero)

        return Integers((count, self.shape[1]), read)

    def as_floats(self) -> StoredTensor:
        """Return the weight that the integers stand for: the tensor that torch's module loads."""
        return StoredTensor(self.shape, "float32", lambda: self.read().float_weight())
