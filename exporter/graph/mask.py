"""Recognize the attention mask by what it computes, and rewrite it once as an additive bias.

A mask term is one of: padding (key j counts iff `attention_mask[b, j]`), padding with a causal order, padding inside a
window of `w` tokens to either side, no mask at all, or an additive position bias that does not depend on the mask.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from ...errors import SourceError
from .edit import ancestors, initializer, insert
from .probe import Prober

MASKED = -30000.0
"""What is added to the score of a masked key: its exp underflows to exactly 0, and twice the number still fits float16."""

PADDING_BIAS = "attention_bias"
"""Name of the bias that masks only padding; targets with a mask input of their own recognize it by this."""

_KEPT = f"{PADDING_BIAS}.kept"
_BLOCKED = -1e3  # a term below this blocks a key; learned position biases stay far above it


@dataclass(frozen=True)
class MaskKind:
    """What a mask term computes. `window` is in tokens to either side; None where unlimited.

    `own`: none of that, so that the source's own arithmetic stays.
    """

    padding: bool = False
    causal: bool = False
    window: int | None = None
    own: bool = False


OWN = f"{PADDING_BIAS}.own"
"""Name of a mask that stays as the source computes it: what it holds is in the source's own operators."""


def classify(prober: Prober, term: ir.Value, graph_mask: ir.Value | None, longest: int) -> MaskKind | None:
    """Return what `term` computes: a `MaskKind`, or None for a float bias that does not depend on the attention mask.

    `term` is boolean (True: may attend) or additive float, broadcastable to `[batch, heads, query, key]`.
    Raises SourceError where it is neither, naming the value.
    """
    depends_on_mask = graph_mask is not None and any(a is graph_mask for a in ancestors(term, by_shape=False))
    if not depends_on_mask and term.dtype != ir.DataType.BOOL:
        sample = prober.run([term], prober.feeds(np.ones((1, min(longest, 64)), np.int64)))[0]
        if sample.dtype != np.bool_ and np.any(sample != 0) and sample.min() > _BLOCKED:
            return None
    kinds = set()
    for seed, shape in enumerate([(2, 5), (3, min(longest, 33)), (1, min(longest, 640))]):
        mask = _probe_mask(shape, seed)
        allowed = _allowed(term, prober.run([term], prober.feeds(mask, seed))[0])
        kinds.add(_recognize(term, allowed, mask))
    # A window wider than a short probe looks like plain padding there: the longest probe decides.
    windowed = {k for k in kinds if k.window is not None}
    plain = {k for k in kinds if k.window is None}
    if len(windowed) == 1 and len(plain) <= 1:
        kind = next(iter(windowed))
        if all(k.padding == kind.padding and k.causal == kind.causal for k in plain):
            return kind
    if len(kinds) == 1:
        return kinds.pop()
    raise SourceError(
        f"the mask {term.name!r} computes different things at different lengths: {sorted(map(str, kinds))}"
    )


def _probe_mask(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Return a mask with gaps and padding on both sides; every row keeps one key, so that none is fully masked."""
    mask = np.random.default_rng(seed).integers(0, 2, shape)
    mask[:, shape[1] // 2] = 1
    return mask.astype(np.int64)


def _allowed(term: ir.Value, array: np.ndarray) -> np.ndarray:
    if array.dtype == np.bool_:
        return array
    allowed = array > _BLOCKED
    if np.any(array[allowed] != 0):
        raise SourceError(
            f"the mask {term.name!r} mixes blocked keys with other numbers: it cannot be rewritten exactly"
        )
    return allowed


def _recognize(term: ir.Value, allowed: np.ndarray, mask: np.ndarray) -> MaskKind:
    batch, length = mask.shape
    if allowed.ndim < 4:
        allowed = allowed.reshape((1,) * (4 - allowed.ndim) + allowed.shape)
    allowed = np.broadcast_to(allowed, (batch, allowed.shape[1], length, length))
    pad = np.broadcast_to(mask.astype(bool)[:, None, None, :], allowed.shape)
    if allowed.all() and not mask.all():
        return MaskKind()
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    for padding in (True, False):
        base = pad if padding else np.ones_like(pad)
        if np.array_equal(allowed, base):
            return MaskKind(padding=padding)
        if np.array_equal(allowed, base & (distance >= 0)):
            return MaskKind(padding=padding, causal=True)
        distances = np.abs(distance)[np.broadcast_to(allowed, pad.shape).any(axis=(0, 1))]
        window = int(distances.max()) if distances.size else 0
        if np.array_equal(allowed, base & (np.abs(distance) <= window)):
            return MaskKind(padding=padding, window=window)
        if np.array_equal(allowed, base & (np.abs(distance) <= window) & (distance >= 0)):
            return MaskKind(padding=padding, causal=True, window=window)
    raise SourceError(
        f"the attention mask {term.name!r} is none of padding, causal, windowed or absent; "
        "export the model with a standard mask, or report the architecture"
    )


def padding_mask(bias: ir.Value) -> ir.Value:
    """Return the integer mask `[batch, sequence]` that a padding bias is computed from."""
    as_float = next(v for v in ancestors(bias) if v.name == _KEPT)
    source = as_float.producer()
    assert source is not None and source.inputs[0] is not None
    return source.inputs[0]


class BiasBuilder:
    """Build each additive bias once, for all attentions. Nodes are inserted before the first; sort the graph afterwards."""

    def __init__(self, model: ir.Model, mask: ir.Value | None, ids: ir.Value | None):
        self.graph = model.graph
        self.mask = mask
        self.ids = ids
        self._built: dict[tuple, ir.Value | None] = {}

    def bias(self, kind: MaskKind, positions: tuple[ir.Value, ...], anchor: ir.Node) -> ir.Value | None:
        """Return the mask of a kind plus position biases, float32 `[batch, 1 or heads, sequence, sequence]`; None without any.

        A causal order is not part of it: `Attention` has `is_causal` for that.
        """
        key = (kind.padding, kind.window, positions)
        if key in self._built:
            return self._built[key]
        name = PADDING_BIAS if kind.window is None else f"{PADDING_BIAS}.window_{kind.window}"
        if positions:
            name += ".position"
        terms = [*positions]
        if kind.window is not None:
            terms.append(self._once(("window", kind.window), lambda: self._window(kind.window or 0, anchor)))
        if kind.padding:
            terms.append(self._once(("keys",), lambda: self._keys(anchor)))
        if kind.padding and len(terms) == 1:
            total: ir.Value | None = self._expand(terms[0], name, anchor)
        else:
            total = terms[0] if terms else None
            for i, extra in enumerate(terms[1:]):
                last = i == len(terms) - 2
                total = self._op("Add", [total, extra], name if last else f"{name}.{i}", anchor)
        self._built[key] = total
        return total

    def own(self, term: ir.Value, anchor: ir.Node) -> ir.Value:
        """Return a mask as the source computes it, additive float32 `[1 or batch, 1 or heads, sequence, sequence]`.

        What blocks a key is raised to `MASKED`: the least float32 overflows where targets compute in float16.
        """
        return self._once(("own", term), lambda: self._own(term, anchor))

    def _own(self, term: ir.Value, anchor: ir.Node) -> ir.Value:
        masked = self._constant("masked", np.float32(MASKED))
        if term.dtype == ir.DataType.BOOL:
            zero = self._constant("none", np.float32(0))
            added = self._op("Where", [term, zero, masked], f"{OWN}.added", anchor)
        else:
            added = self._op("Max", [term, masked], f"{OWN}.added", anchor)
        rank = len(term.shape) if term.shape is not None else 4
        if rank < 4:
            axes = self._constant(f"leading_{4 - rank}", np.arange(4 - rank))
            added = self._op("Unsqueeze", [added, axes], f"{OWN}.aligned", anchor)
        return self._expand(added, OWN, anchor)

    def _once(self, key: tuple, build: Callable[[], ir.Value]) -> ir.Value:
        if key not in self._built:
            self._built[key] = build()
        value = self._built[key]
        assert value is not None
        return value

    def _op(
        self,
        op_type: str,
        inputs: list,
        name: str,
        anchor: ir.Node,
        dtype: ir.DataType = ir.DataType.FLOAT,
        **attributes: Any,
    ) -> ir.Value:
        taken = sum(1 for v in self._built.values() if v is not None and (v.name or "").split("#")[0] == name)
        return insert(anchor, op_type, inputs, name=f"{name}#{taken}" if taken else name, dtype=dtype, **attributes)

    def _constant(self, name: str, value: object) -> ir.Value:
        return initializer(self.graph, f"attention_bias.{name}", np.asarray(value))

    def _keys(self, anchor: ir.Node) -> ir.Value:
        """Return `(1 - attention_mask) * MASKED` as `[batch, 1, 1, sequence]`."""
        if self.mask is None:
            raise SourceError("the model masks padding but has no attention_mask input")
        as_float = self._op("Cast", [self.mask], _KEPT, anchor, to=int(ir.DataType.FLOAT))
        dropped = self._op("Sub", [self._constant("one", np.float32(1)), as_float], "attention_bias.dropped", anchor)
        added = self._op("Mul", [dropped, self._constant("masked", np.float32(MASKED))], "attention_bias.added", anchor)
        return self._op("Unsqueeze", [added, self._constant("axes", np.array([1, 2]))], "attention_bias.keys", anchor)

    def _expand(self, keys: ir.Value, name: str, anchor: ir.Node) -> ir.Value:
        length = self._op("Shape", [self.ids], f"{name}.length", anchor, ir.DataType.INT64, start=1, end=2)
        single = self._constant("dim", np.array([1]))
        shape = self._op("Concat", [single, single, length, single], f"{name}.shape", anchor, ir.DataType.INT64, axis=0)
        return self._op("Expand", [keys, shape], name, anchor)

    def _window(self, window: int, anchor: ir.Node) -> ir.Value:
        """Return `[sequence, sequence]`: `MASKED` where query and key are more than `window` tokens apart, else 0."""
        stem, i64 = f"attention_bias.window_{window}", ir.DataType.INT64
        length = self._op("Shape", [self.ids], f"{stem}.length", anchor, i64, start=1, end=2)
        count = self._op("Squeeze", [length], f"{stem}.count", anchor, i64)
        steps = [self._constant("zero", np.int64(0)), count, self._constant("step", np.int64(1))]
        index = self._op("Range", steps, f"{stem}.index", anchor, i64)
        column = self._op("Unsqueeze", [index, self._constant("dim", np.array([1]))], f"{stem}.query", anchor, i64)
        distance = self._op(
            "Abs", [self._op("Sub", [column, index], f"{stem}.offset", anchor, i64)], f"{stem}.distance", anchor, i64
        )
        far = self._op(
            "Greater",
            [distance, self._constant(f"window_{window}.limit", np.int64(window))],
            f"{stem}.far",
            anchor,
            ir.DataType.BOOL,
        )
        blocked = self._op("Cast", [far], f"{stem}.blocked", anchor, to=int(ir.DataType.FLOAT))
        return self._op("Mul", [blocked, self._constant("masked", np.float32(MASKED))], f"{stem}.band", anchor)
