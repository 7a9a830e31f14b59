"""How a MultiVectorEncoder reads queries and documents is read from the loaded model, and judged by its own calls."""

from pathlib import Path

import pytest

from headway.errors import GateError
from headway.exporter.capture.base import TwoSided
from headway.exporter.capture.capture import load_reference
from headway.exporter.check.verification_text import answers, verification_cases
from headway.exporter.source.source import open_source
from headway.exporter.source.tokenizer import source_encoder
from headway.manifest import Side

from tests.support import retrieval_models


def test_sides_of_pylate(tmp_path: Path) -> None:
    reference, source = load_reference(open_source(str(retrieval_models.pylate(tmp_path))))
    assert source.task == "multi-vector" and source.reads_padding
    skipped = source.sides["document"].skipped
    assert source.sides == {
        "query": Side(max_length=24, expansion_id=4, expansion_length=24),
        "document": Side(max_length=40, skipped=skipped),
    }
    assert len(skipped) == 2 and source.prompts == {"query": "[MASK]", "document": "[UNK] "}
    assert isinstance(reference, TwoSided)


def test_a_token_that_counts_in_one_of_them_alone_is_told(tmp_path: Path) -> None:
    reference, source = load_reference(open_source(str(retrieval_models.pylate(tmp_path / "source"))))
    source.sides["document"].skipped.clear()
    cases = verification_cases(source_encoder(source, tmp_path), ["the price"], source, tmp_path)
    assert {case.side for case in cases} == {None, "query", "document"}
    with pytest.raises(GateError, match="the bundle's tokenizer does not give the ids of sentence-transformers"):
        answers(reference, [case for case in cases if case.side == "document"])
