"""Where float32 is too inexact to judge by, the artifact is judged beside the source in float64."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from headway.errors import GateError, HeadwayWarning, SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.check.diagnose import parity_failure
from headway.exporter.check.float64_judge import settled
from headway.exporter.check.parity import Case, Parity, compare
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.source.source import open_source

MASK = np.ones((2, 3), np.int64)
CASES = [Case(name, {"input_ids": MASK * i, "attention_mask": MASK}) for i, name in enumerate(("short", "long"))]
EXACT = np.linspace(-50.0, 50.0, 12).reshape(2, 6)
ALLOWED = 50 * 1e-4


class FakeReference:
    """Knows the exact answers of the two cases."""

    def __init__(self, fails: bool = False, answers: Mapping[str, np.ndarray] | None = None):
        self.fails, self.asked, self.closed = fails, 0, False
        self.answers = {"y": EXACT, "z": EXACT} if answers is None else dict(answers)

    def exactly(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.asked += 1
        if self.fails:
            raise SourceError("it does not run in float64")
        return self.answers

    def close(self) -> None:
        self.closed = True


def off(by: float) -> np.ndarray:
    """Return the exact answers with one number that is off."""
    return EXACT + by * (np.arange(12).reshape(2, 6) == 5)


def judged(
    source: tuple[float, float], artifact: tuple[float, float], reference: object, dtype: str = "float32"
) -> tuple[Parity, list[str]]:
    """Judge output `y`, off by so much on the short and the long case, and `z`, which is exact; return what was warned of, too."""
    expected = [{"y": off(by), "z": EXACT} for by in source]
    by_case = dict(enumerate(artifact))

    def actual(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": off(by_case[int(feeds["input_ids"].max())]), "z": EXACT}

    parity = compare(CASES, expected, actual, per_token=[], dtype=dtype, judge="the source")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = settled(parity, CASES, expected, actual, per_token=[], open_reference=lambda: reference)
    return done, [str(w.message) for w in caught if w.category is HeadwayWarning]


def test_an_artifact_may_be_twice_as_far_from_float64_as_the_source_is() -> None:
    reference = FakeReference()
    parity, warned = judged((0.0, 0.006), (0.0, -0.011), reference)
    y, z = parity.outputs
    assert parity.ok and (y.worst_case, y.source_rounding) == ("long", pytest.approx(0.006))
    assert y.max_abs == pytest.approx(0.011) and z.source_rounding is None
    assert reference.asked == 1 and reference.closed
    assert len(warned) == 1 and "'y' is judged beside float64 on 'long'" in warned[0] and "0.006 off" in warned[0]


def test_one_that_is_further_off_fails_and_the_sentence_says_beside_what() -> None:
    parity, _ = judged((0.0, 0.006), (0.0, -0.0121), FakeReference())
    assert not parity.ok and "from the source in float64 by 0.0121 (allowed 0.012) on 'long'" in parity_failure(parity)


def test_the_case_that_exceeds_most_decides() -> None:
    """On the short case the source is exact: what is near the long one's error is an error there."""
    parity, _ = judged((0.0, 0.02), (0.0055, 0.0), FakeReference())
    assert not parity.ok and parity.outputs[0].worst_case == "short"


def test_a_source_that_is_right_lends_nothing() -> None:
    parity, warned = judged((0.0, 0.0), (0.0, 0.006), FakeReference())
    assert not parity.ok and parity.outputs[0].max_abs == pytest.approx(0.006)
    assert parity.outputs[0].allowed == pytest.approx(ALLOWED) and warned


def test_a_source_without_meaning_in_float32_is_no_measure() -> None:
    parity, warned = judged((0.0, 0.06), (0.0, 0.045), FakeReference())
    assert not parity.ok and parity.outputs[0].source_rounding is None and not warned


def test_what_is_far_off_or_right_does_not_open_the_source() -> None:
    for artifact in ((0.0, 0.07), (0.0, 0.0), (0.0, float("nan"))):
        reference = FakeReference()
        parity, _ = judged((0.0, 0.0), artifact, reference)
        assert parity.ok == (artifact == (0.0, 0.0)) and not reference.asked and not reference.closed


def test_where_float64_does_not_run_the_first_verdict_stands() -> None:
    reference = FakeReference(fails=True)
    parity, warned = judged((0.0, 0.006), (0.0, -0.005), reference)
    assert not parity.ok and parity.outputs[0].source_rounding is None and reference.closed and not warned
    assert not judged((0.0, 0.006), (0.0, -0.005), object())[0].ok


def test_answers_in_float64_of_another_shape_decide_nothing() -> None:
    reference = FakeReference(answers={"y": EXACT[:, :5], "z": EXACT})
    parity, warned = judged((0.0, 0.006), (0.0, -0.005), reference)
    assert not parity.ok and parity.outputs[0].source_rounding is None and reference.closed and not warned


def test_outputs_that_a_case_does_not_have_are_left_out() -> None:
    reference = FakeReference(answers={"y": EXACT, "z": EXACT, "more": EXACT})
    assert judged((0.0, 0.006), (0.0, -0.011), reference)[0].ok


def test_a_source_that_does_not_fit_into_memory_is_said(bert_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, _ = load_reference(open_source(str(bert_classifier)))

    def full() -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(reference.module, "double", full)
    with pytest.raises(SourceError, match="does not fit into memory in float64: DefaultCPUAllocator"):
        reference.exactly({})


def test_other_dtypes_have_tolerances_for_their_rounding() -> None:
    reference = FakeReference()
    assert not judged((0.0, 3.0), (0.0, -3.0), reference, dtype="float16")[0].ok and not reference.asked


def test_the_source_computes_in_float64(bert_classifier: Path) -> None:
    reference, _ = load_reference(open_source(str(bert_classifier)))
    feeds = {"input_ids": MASK * 7, "attention_mask": MASK, "token_type_ids": MASK * 0}
    single, exact = reference.run(feeds)["logits"], reference.exactly(feeds)["logits"]
    with torch.no_grad():
        wanted = reference.module.model.double()(**{n: torch.from_numpy(a) for n, a in feeds.items()}).logits.numpy()
    assert exact.dtype == np.float64 and np.array_equal(exact, wanted)
    assert 0 < np.abs(exact - single).max() < 1e-5


def test_an_export_is_judged_so(bert_classifier: Path, tmp_path: Path) -> None:
    """At a tolerance below the precision of float32, where rounding alone decides."""
    recipe = make_recipe("test", source=str(bert_classifier), tolerance=1e-8)
    told = ""
    try:
        with pytest.warns(HeadwayWarning) as warned:
            made: Exported = export(recipe, tmp_path / "out")
        told = " ".join(str(w.message) for w in warned)
        assert made.manifest.parity["outputs"][0]["source_rounding"]
    except GateError as error:
        told = str(error)
        assert not (tmp_path / "out").exists()
    assert "float64" in told
