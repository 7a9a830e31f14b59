"""Compare what an artifact computes with what its source computes: on real text, at every kind of shape, to its dtype's tolerance."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from ...calibration.batches import Encode
from ...errors import GateError
from ...text import Text
from ..targets.base import BFLOAT16_WEIGHTS

TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1, BFLOAT16_WEIGHTS: 5e-2, "int8": 1e-1}
"""Largest absolute difference allowed, relative to the output's own magnitude where that exceeds 1.

Where activations are quantized at run time, two correct orders of the same sums round some of them to different integers, and every
layer after carries that on. So an int8 artifact is compared with its own quantized graph; its quality on held-out text is a gate of
its own.
"""

LEAST_COSINE = {BFLOAT16_WEIGHTS: 0.9999}
"""Smallest cosine allowed between a vector and the source's, beside the tolerance. Logits are judged by their differences alone."""

_NOTHING = 1e-6
"""A vector of at most so much of the largest number has no direction to compare."""


@dataclass(frozen=True)
class OutputParity:
    """How far one output is from the source's over all cases. Differences are those at real positions, without padding."""

    name: str
    max_abs: float
    max_rel: float
    cosine: float
    argmax_agreement: float
    largest: float
    tolerance: float
    worst_case: str
    least_cosine: float | None = None
    source_rounding: float | None = None
    """How far the source's own float32 answers are from those in float64, where an output is judged by the latter."""

    @property
    def ok(self) -> bool:
        return self.is_near and self.points_alike

    @property
    def allowed(self) -> float:
        """The largest difference that is allowed: by the tolerance, or twice what the source itself loses by rounding."""
        return max(self.tolerance * max(1.0, self.largest), 2 * (self.source_rounding or 0.0))

    @property
    def exceeds(self) -> float:
        """How much more the largest difference is than the one that is allowed."""
        return self.max_abs / self.allowed

    @property
    def is_near(self) -> bool:
        """Whether no difference exceeds what is allowed."""
        return self.max_abs <= self.allowed

    @property
    def points_alike(self) -> bool:
        """Whether no cosine is smaller than the data type allows."""
        return self.least_cosine is None or bool(self.cosine >= self.least_cosine)


@dataclass
class Parity:
    """The verdict over all outputs. `first_divergence` names the first module that differs, where it was searched for."""

    outputs: list[OutputParity]
    cases: list[str]
    first_divergence: str | None = None
    dtype: str = "float32"
    reference: str | None = None
    """Which library gave the answers that were expected, and by which call."""
    empty_rows: bool = False
    """Whether rows without a token get the source's answer, too; a bundle refuses them where they do not. Outputs per token have none."""

    @property
    def ok(self) -> bool:
        return all(o.ok for o in self.outputs)

    def to_json(self) -> dict[str, object]:
        return {
            "ok": self.ok,
            "dtype": self.dtype,
            "reference": self.reference,
            "empty_rows": self.empty_rows,
            "cases": self.cases,
            "first_divergence": self.first_divergence,
            "outputs": [asdict(o) for o in self.outputs],
        }


@dataclass(frozen=True)
class Case:
    """One batch to compare on."""

    name: str
    feeds: dict[str, np.ndarray] = field(repr=False)
    texts: tuple[Text, ...] = field(default=(), repr=False)
    """What the ids were made of, where the source is to begin with text itself."""
    side: str | None = None
    """What the texts are to a multi-vector model, as `query`."""
    scored: np.ndarray | None = field(default=None, repr=False)
    """Which tokens such a model gives vectors for, where these are not those of the mask."""
    empty_rows: bool = False
    """Whether it has rows without a token. A source may have no sensible answer to them, so no artifact fails by it."""

    @property
    def counted(self) -> np.ndarray:
        """Which tokens an output per token is compared for, bool `[batch, sequence]`."""
        return self.feeds["attention_mask"].astype(bool) if self.scored is None else self.scored


def make_cases(tokenize: Encode, lines: Sequence[str], longest: int, pad_id: int, *, choices: int = 0) -> list[Case]:
    """Return batches of real text: single lines, mixed lengths with little and much padding, one token, the longest sequence.

    With `choices` every input has the shape `[batch, choices, sequence]`. `longest` is in tokens.
    """
    # Lines of equal length keep their order; the order of a set would differ from process to process.
    by_length = sorted(dict.fromkeys(lines), key=len)
    picks = [by_length[int(q * (len(by_length) - 1))] for q in (0.1, 0.5, 0.9)]
    everything = " ".join(by_length[::-1])
    while len(everything) < longest * 12:
        everything += " " + everything
    full = tokenize([everything], longest)
    spread = [by_length[int(i)] for i in np.linspace(0, len(by_length) - 1, min(6, len(by_length)))]
    cases = [Case(f"1 line, {_tokens(f)} tokens", f) for f in (tokenize([p], longest) for p in picks)]
    mixed = tokenize(spread, max(2, min(longest * 3 // 4, 32)))  # room is left to pad further
    cases += [
        Case(f"{len(spread)} lines, mixed lengths, padded", mixed),
        Case(f"{len(spread)} lines, padded further", _padded_further(mixed, pad_id, longest)),
        Case(f"1 line of {_tokens(full)} tokens, the longest", full),
        Case("rows without a token", _with_empty_rows(mixed, pad_id), empty_rows=True),
        Case("1 token", {k: v[:, :1] for k, v in full.items()}),
        Case(
            "2 lines of equal length, no padding",
            {k: np.repeat(v[:, : max(2, min(longest, 24))], 2, axis=0) for k, v in full.items()},
        ),
    ]
    if choices:
        cases = [replace(c, feeds={k: np.stack([v] * choices, axis=1) for k, v in c.feeds.items()}) for c in cases]
    return cases


def _with_empty_rows(feeds: Mapping[str, np.ndarray], pad_id: int) -> dict[str, np.ndarray]:
    """Return the batch with two more rows that the mask leaves nothing of: one of padding, one with the ids of the first."""
    more = {k: np.concatenate([v, np.zeros_like(v[:1]), v[:1]]) for k, v in feeds.items()}
    more["input_ids"][-2] = pad_id
    more["attention_mask"][-2:] = 0
    return more


def _tokens(feeds: Mapping[str, np.ndarray]) -> int:
    return int(feeds["input_ids"].shape[-1])


def _padded_further(feeds: Mapping[str, np.ndarray], pad_id: int, longest: int) -> dict[str, np.ndarray]:
    """Return the batch with up to 13 more columns of padding: outputs must not depend on how far a batch is padded."""
    extra = min(13, longest - _tokens(feeds))
    fill = {"input_ids": pad_id}
    return {k: np.pad(v, ((0, 0), (0, extra)), constant_values=fill.get(k, 0)) for k, v in feeds.items()}


def compare(
    cases: Sequence[Case],
    expected: Sequence[Mapping[str, np.ndarray]],
    actual: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]],
    *,
    per_token: Collection[str],
    dtype: str = "float32",
    tolerance: float | None = None,
    judge: str | None = None,
) -> Parity:
    """Run `actual` on every case and compare its outputs with `expected`. NaN and Inf never agree.

    Outputs named in `per_token` are `[batch, sequence, …]`: they are compared where the mask is 1. `tolerance` replaces that of
    `dtype` and its least cosine, and `judge` says what gave the expected answers. Raise GateError for an output that is missing or
    has another shape. A case of rows without a token decides `empty_rows` alone.
    """
    allowed = TOLERANCE[dtype] if tolerance is None else tolerance
    worst: dict[str, OutputParity] = {}
    for case, wanted in zip(cases, expected, strict=True):
        if case.empty_rows:
            continue
        got = actual(case.feeds)
        for name, reference in wanted.items():
            if name not in got or got[name].shape != reference.shape:
                given = f"has shape {got[name].shape}" if name in got else "is missing"
                raise GateError(f"output {name!r} {given} on '{case.name}'; its source gives shape {reference.shape}")
            measured = _compare_output(name, reference, got[name], case, allowed, name in per_token)
            if tolerance is None and "logits" not in name:
                measured = replace(measured, least_cosine=LEAST_COSINE.get(dtype))
            worst[name] = _worse(worst[name], measured) if name in worst else measured
    names = [c.name for c in cases if not c.empty_rows]
    # Last, since a runtime may be of no use after what it could not run.
    empty_rows = [
        _answers_empty_rows(case, wanted, actual, per_token, allowed)
        for case, wanted in zip(cases, expected, strict=True)
        if case.empty_rows
    ]
    return Parity(list(worst.values()), names, dtype=dtype, reference=judge, empty_rows=all(empty_rows or [False]))


def _answers_empty_rows(
    case: Case,
    expected: Mapping[str, np.ndarray],
    actual: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]],
    per_token: Collection[str],
    tolerance: float,
) -> bool:
    try:
        got = actual(case.feeds)
    except Exception:  # a runtime's own kinds; what it refuses is no wrong answer
        return False
    same = all(name in got and got[name].shape == array.shape for name, array in expected.items())
    return same and all(
        _compare_output(name, array, got[name], case, tolerance, name in per_token).is_near
        for name, array in expected.items()
    )


def _compare_output(
    name: str, reference: np.ndarray, got: np.ndarray, case: Case, tolerance: float, per_token: bool
) -> OutputParity:
    a, b = (_rows(x, case, per_token).astype(np.float64) for x in (reference, got))
    with np.errstate(invalid="ignore"):  # Inf and NaN may occur, and count as differences
        return _measure(name, a, b, case, tolerance)


def _measure(name: str, a: np.ndarray, b: np.ndarray, case: Case, tolerance: float) -> OutputParity:
    difference = np.abs(a - b)
    if not np.isfinite(b).all() or not np.isfinite(a).all():
        difference = np.where(np.isfinite(a) & np.isfinite(b), difference, np.inf)
    largest = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    cosine = float(_cosines(a, b, nothing=_NOTHING * largest).min(initial=1.0))
    return OutputParity(
        name=name,
        max_abs=float(difference.max(initial=0.0)),
        max_rel=float((difference / np.maximum(np.abs(a), 1e-3 * largest)).max(initial=0.0)) if largest else 0.0,
        cosine=cosine,
        argmax_agreement=float(np.mean(a.argmax(axis=1) == b.argmax(axis=1))) if len(a) else 1.0,
        largest=largest,
        tolerance=tolerance,
        worst_case=case.name,
    )


def _cosines(a: np.ndarray, b: np.ndarray, *, nothing: float) -> np.ndarray:
    """Return the cosine of each row of `a` and `b`: 1 where the norms of both are at most `nothing`, 0 where one alone is zero."""
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = norms[0] * norms[1]
    cosines = np.where(product > 0, (a * b).sum(axis=1) / np.where(product > 0, product, 1), 0.0)
    return np.where(np.maximum(*norms) <= nothing, 1.0, cosines)


def _rows(array: np.ndarray, case: Case, per_token: bool) -> np.ndarray:
    """Return the `[rows, values]` to compare: the real tokens of an output per token, every row of another."""
    if per_token:
        array = array[case.counted]
    return array.reshape(len(array), int(np.prod(array.shape[1:])))


def _worse(a: OutputParity, b: OutputParity) -> OutputParity:
    worst = a if a.max_abs >= b.max_abs else b
    return OutputParity(
        worst.name,
        worst.max_abs,
        max(a.max_rel, b.max_rel),
        min(a.cosine, b.cosine),
        min(a.argmax_agreement, b.argmax_agreement),
        max(a.largest, b.largest),
        worst.tolerance,
        worst.worst_case,
        worst.least_cosine,
    )


def first_divergence(
    names: Sequence[str],
    expected: Mapping[str, np.ndarray],
    actual: Mapping[str, np.ndarray],
    mask: np.ndarray,
    tolerance: float,
) -> str | None:
    """Return the first of `names`, in order of execution, whose values differ by more than `tolerance` at real positions; or None."""
    case = Case("", {"attention_mask": mask})
    for name in names:
        if name in expected and name in actual and expected[name].shape == actual[name].shape:
            per_token = expected[name].shape[: mask.ndim] == mask.shape
            measured = _compare_output(name, expected[name], actual[name], case, tolerance, per_token)
            if not measured.ok:
                return name
    return None
