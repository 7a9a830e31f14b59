"""What another tool compressed goes on: int8, a further cut, each kind of target. Few pairs always, and all of them with `-m slow`.

A cut is asked for by operations here, since a speed-up would have to be measured; `benchmarks.stacked_forms` asks for one.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.bundle import Bundle
from headway.exporter.verification import verify_bundle

from tests.support.stacks import FOLLOWS, REFUSED, ROWS, SPLIT, TARGETS, followed, write_text

CHOSEN = {("16. Q8BERT", "int8"), *REFUSED}
"""What is the row's own."""


def cells() -> Iterator:
    for row in ROWS:
        for follows in FOLLOWS:
            yield pytest.param(row, follows, marks=() if (row, follows) in CHOSEN else pytest.mark.slow)


@pytest.mark.parametrize(("row", "follows"), cells())
def test_what_another_tool_compressed_goes_on(row: str, follows: str, tmp_path: Path) -> None:
    if follows == "executorch":
        pytest.importorskip("executorch")
    if follows == "tensorrt":
        pytest.importorskip("tensorrt_rtx")
    ROWS[row](tmp_path / "model")
    made = followed(tmp_path / "model", follows, write_text(tmp_path / "text.txt"), tmp_path / "bundle", flops=0.67)
    if (row, follows) in REFUSED:
        assert isinstance(made, str) and REFUSED[row, follows] in made
        assert not (tmp_path / "bundle").exists()
        return
    assert not isinstance(made, str), made
    assert made.parity.ok
    if follows in TARGETS:
        assert made.parity.dtype == ("int8" if row == "16. Q8BERT" else "float32")
    else:
        assert made.manifest.compression is not None
        stages = made.manifest.compression["stages"]
        undone = follows == SPLIT and not stages[-1]["paid"]  # where the model became no faster
        assert stages[-1]["nbytes"] < stages[0]["nbytes"] or undone
        assert made.parity.dtype == ("int8" if follows == "int8" else "float32")
        left_out = any("are left out" in sentence for sentence in made.manifest.source["form"])
        assert left_out == (row == "16. Q8BERT")
        if (
            left_out
        ):  # the source rounds its activations; a compressed bundle is judged beside the float ones, later on, too
            verdict = verify_bundle(tmp_path / "bundle", None, None)
            assert verdict.ok and verdict.quality == pytest.approx(verdict.recorded, abs=1e-6)
            assert str(verdict.reference).endswith("with float activations")
    if follows != "tensorrt" and "question" not in row:
        assert next(iter(Bundle.open(tmp_path / "bundle")(["the model", "a text"]).values())).shape[0] == 2
