"""Two thousand damaged and hostile inputs over all verbs: each ends in a sentence, and nothing wrong is written."""

from pathlib import Path

import onnx_ir as ir
import pytest

from headway.errors import GateError
from headway.exporter.cli import app
from headway.exporter.export import Exported

from tests.support import fuzz, fuzz_inputs, models
from tests.support.hand_made import decomposed

COUNT = 2000


@pytest.fixture(scope="module")
def inputs(bert_bundle: Exported, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> list[fuzz.Input]:
    folder = tmp_path_factory.mktemp("inputs")
    sentence = models.make_sentence_model(folder / "sentence")
    (folder / "onnx").mkdir()
    ir.save(decomposed("mul", "add", 0), folder / "onnx" / "model.onnx")
    first = fuzz_inputs.inputs_of(bert_bundle.path, bert, sentence, folder / "onnx", folder / "text")
    return [*first, *fuzz_inputs.more_inputs(bert_bundle.path, bert, sentence, folder / "more")]


def test_no_input_ends_in_a_traceback_or_a_wrong_artifact(inputs: list[fuzz.Input], tmp_path: Path) -> None:
    tally = fuzz.fuzz(inputs, COUNT, 0, tmp_path)
    assert sum(tally.codes.values()) == COUNT
    assert {1, 2, 3} <= set(tally.codes)  # accepted, refused by its use, and refused as a source
    assert tally.codes[1] < 0.6 * COUNT and len(tally.sentences) > 200


@pytest.mark.slow
def test_what_is_accepted_has_its_source_s_answers(inputs: list[fuzz.Input], tmp_path: Path) -> None:
    """Settings and weights that are changed in their meaning, each export run to its end: compared with the library, or refused."""
    files = ("config", "weights", "tokenizer-config", "modules", "pooling", "prompts", "limits", "gguf", "ctranslate2")
    tally = fuzz.fuzz([i for i in inputs if i.name in files], 200, 5, tmp_path, to_the_end=True)
    assert tally.codes[0] > 5 and tally.codes[3] > 50


def test_the_fuzzer_sees_a_traceback_and_what_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> int:
        raise KeyError("name")

    monkeypatch.setattr(app, "app", broken)
    with pytest.raises(fuzz.Wrong, match="KeyError"):
        fuzz.check(["inspect", "x"], None)
    (tmp_path / "out").mkdir()

    def refused(**_: object) -> int:
        raise GateError("no such thing here")

    monkeypatch.setattr(app, "app", refused)
    assert fuzz.check(["inspect", "x"], None) == (1, "headway: no such thing here")
    with pytest.raises(fuzz.Wrong, match="something was written"):
        fuzz.check(["export", "x"], tmp_path / "out")
    monkeypatch.setattr(app, "app", lambda **_: 0)
    with pytest.raises(fuzz.Wrong, match="without a bundle"):
        fuzz.check(["export", "x"], tmp_path / "out")
