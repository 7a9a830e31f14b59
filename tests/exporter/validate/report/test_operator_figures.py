"""Time by operator in a report."""

import pytest

from headway.errors import SourceError
from headway.exporter.export import Exported
from headway.exporter.validate.report.operator_figures import OTHERS, kinds_of, operator_section
from headway.exporter.validate.report.report_inputs import read_bundles

from tests.support.reports import copied


def test_a_bundle_is_profiled(bert_bundle: Exported) -> None:
    (bundle,) = read_bundles([bert_bundle.path], [])
    kinds = kinds_of(bundle)
    assert {"MatMul", "MultiHeadAttention"} <= set(kinds) and min(kinds.values()) >= 0


def test_shares_are_parts_of_all_operators() -> None:
    first = {"MatMul": 6.0, "Softmax": 2.0, "Add": 2.0}
    second = {f"Kind{i}": 1.0 for i in range(12)} | {"MatMul": 8.0}
    section = operator_section({"before": first, "after": second}, ["third: was not profiled."])
    (figure,) = section.figures
    assert section.words == "before: MatMul takes most; after: MatMul takes most." and figure.legend == [
        "before",
        "after",
    ]
    assert figure.table is not None and figure.table.rows[0] == ["MatMul", "6.000 (60.0 %)", "8.000 (40.0 %)"]
    assert len(figure.table.rows) == 15 and f"after, {OTHERS}:" in figure.drawing.svg()
    assert section.missing == ["third: was not profiled."]
    assert not operator_section({"none": {}}, []).figures


def test_a_changed_bundle_is_not_profiled(bert_bundle: Exported, tmp_path) -> None:
    path = copied(bert_bundle.path, tmp_path / "copy")
    (bundle,) = read_bundles([path], [])
    (path / "tokenizer.json").write_text("{}")
    with pytest.raises(SourceError, match=r"tokenizer\.json"):
        kinds_of(bundle)
