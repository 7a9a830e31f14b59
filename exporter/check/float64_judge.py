"""Judge beside the source in float64 where its own float32 answers are too inexact to judge by.

A deep model on a long text may lose more digits in float32 than parity allows, in the source as in the artifact. Where an artifact is
near to what is allowed, both are compared with the source computed in float64. The artifact may be as far from it as twice what the
source itself is.
"""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from ...errors import GateError, HeadwayWarning, SourceError
from .parity import Case, OutputParity, Parity, compare

_NEAR = 10.0
"""An artifact, and the source in float32, that are further off than so many times what is allowed are not judged so."""

Run = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]


@runtime_checkable
class Exact(Protocol):
    """A reference that can compute in float64."""

    def close(self) -> None:
        """Free the memory of the weights; nothing can be run afterwards."""
        ...

    def exactly(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return outputs by name, float64. The reference computes in float64 from then on."""
        ...


def settled(
    parity: Parity,
    cases: Sequence[Case],
    expected: Sequence[Mapping[str, np.ndarray]],
    actual: Run,
    *,
    per_token: Collection[str],
    open_reference: Callable[[], object],
) -> Parity:
    """Return a parity of float32 with the outputs that failed by little judged beside float64; another is returned as it is.

    `expected` are the source's float32 answers, by case. `open_reference` opens the source, if it is needed.
    """
    failed = [o for o in parity.outputs if not o.ok]
    if not failed or parity.dtype != "float32" or any(o.max_abs > _NEAR * o.allowed for o in failed):
        return parity
    reference = open_reference()
    if not isinstance(reference, Exact):
        return parity
    worst: dict[str, OutputParity] = {}
    try:
        for case, wanted in zip(cases, expected, strict=True):
            if case.empty_rows:
                continue
            got = actual(case.feeds)
            if all(o.ok for o in _on_case(case, wanted, got, per_token, parity)):
                continue
            exact = {name: answer for name, answer in reference.exactly(case.feeds).items() if name in wanted}
            rounding = {o.name: o.max_abs for o in _on_case(case, exact, wanted, per_token, parity)}
            for distance in _on_case(case, exact, got, per_token, parity):
                output = _with_rounding(distance, rounding[distance.name])
                known = worst.get(output.name)
                worst[output.name] = output if known is None or output.exceeds > known.exceeds else known
    except (
        SourceError,
        GateError,
        MemoryError,
    ):  # float64 does not run, or gives other shapes: what was found in float32 stands
        return parity
    finally:
        reference.close()
    for output in (worst[o.name] for o in failed if o.name in worst and worst[o.name].source_rounding is not None):
        warnings.warn(_sentence(output), HeadwayWarning, stacklevel=2)
    return replace(parity, outputs=[o if o.ok else _decided(o, worst.get(o.name, o)) for o in parity.outputs])


def _decided(before: OutputParity, beside: OutputParity) -> OutputParity:
    """Return the decision on an output, with the figures of all cases that decide nothing."""
    return replace(
        beside,
        cosine=min(before.cosine, beside.cosine),
        argmax_agreement=min(before.argmax_agreement, beside.argmax_agreement),
    )


def _sentence(output: OutputParity) -> str:
    return (
        f"output {output.name!r} is judged beside float64 on '{output.worst_case}', since float32 is too inexact there: the source's own "
        f"answers are {output.source_rounding:.2g} off, the artifact's {output.max_abs:.2g}"
    )


def _on_case(
    case: Case,
    wanted: Mapping[str, np.ndarray],
    got: Mapping[str, np.ndarray],
    per_token: Collection[str],
    parity: Parity,
) -> list[OutputParity]:
    """Return how far apart two answers to one case are, relative to the largest number of all cases."""
    largest = {o.name: o.largest for o in parity.outputs}
    tolerance = parity.outputs[0].tolerance
    one = compare([case], [wanted], lambda _: got, per_token=per_token, tolerance=tolerance)
    return [replace(o, largest=max(o.largest, largest[o.name])) for o in one.outputs]


def _with_rounding(output: OutputParity, rounding: float) -> OutputParity:
    """Note how far the source is off by rounding, unless that is so much that it is no measure."""
    return replace(output, source_rounding=rounding if rounding <= _NEAR * output.allowed else None)
