"""Tables of the terminal: each figure stands under its heading."""

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from headway.exporter.bench.measure import BenchResult, CaseResult
from headway.exporter.cli import tables
from headway.exporter.cli.demo import DemoRow
from headway.exporter.cli.machine import TargetState
from headway.exporter.export import Exported
from headway.exporter.validate.estimates import Estimate
from headway.exporter.validate.gate_rows import Row

from tests.support.agreements import AGREEMENT


def cells(table: Table) -> list[list[str]]:
    """Return headings and rows as they are printed on a wide terminal."""
    output = io.StringIO()
    Console(file=output, width=400, highlight=False, markup=False).print(table)
    lines = [line for line in output.getvalue().splitlines() if line.startswith(("┃", "│"))]
    return [[cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")] for line in lines]


def test_an_export(bert_bundle: Exported) -> None:
    rows = dict(row for row in cells(tables.export_table(bert_bundle.manifest, 2_000_000, 1_500_000)))
    assert rows["source weights"] == "2.0 MB" and rows["artifact"] == "1.5 MB" and rows["blocks"] == "4"
    assert rows["task"] == "feature-extraction" and rows["parameters"].replace(",", "").isdigit()
    assert rows["parity, last_hidden_state"].startswith("max abs ") and "" not in rows
    assert tables.export_table(bert_bundle.manifest, 1, 1).title == "export"
    compressed = dataclasses.replace(bert_bundle.manifest, compression={})
    assert tables.export_table(compressed, 1, 1).title == "compression"


def test_parity(bert_bundle: Exported) -> None:
    head, row = cells(tables.parity_table(bert_bundle.parity))
    named = dict(zip(head, row, strict=True))
    assert (named["output"], named["verdict"]) == ("last_hidden_state", "ok")


def test_a_measurement_is_relative_to_the_first() -> None:
    case = CaseResult("1x32", 1, 32, 0.0, {"a": [1.0, 2.0, 3.0], "b": [4.0, 4.0, 4.0]})
    head, row, mean = cells(tables.bench_table(BenchResult(["a", "b"], 1, [case])))
    named = dict(zip(head, row, strict=True))
    assert named["b p50 ms"] == "4.0" and named["latency ratio"].startswith("2.00 (")
    assert named["tokens/s"] == "16,000"
    assert mean[-1] == "2.00"


def test_a_device() -> None:
    record: dict[str, Any] = {
        "contestants": ["tool, model.ort"],
        "threads": 1,
        "machine": {"model": "Phone", "cpu": "Chip", "system": "Android 14"},
        "cases": [{"label": "1x32", "runs": 5, "mean_ms": {"tool, model.ort": 2.5}}],
    }
    head, row = cells(tables.device_table(record))
    assert row[:2] == ["1x32", "5"] and row[head.index("mean ms")] in ("2.5", "2.50")


STAGES = [
    {"name": n, "changes": c, "nbytes": b, "ms": ms, "quality": q, "paid": paid, "undone": False}
    for n, c, b, ms, q, paid in (
        ("source", {}, 4_000_000, 8.0, 100.0, None),
        ("fit", {"heads": "4 of 12", "neurons": "8", "blocks": "1", "ranks": "2"}, 2_000_000, 4.0, 98.5, True),
    )
]


def test_passes_one_after_the_other() -> None:
    compression = {"workload": {"shapes": [[1, 32]], "threads": 2}, "metric": "accuracy", "stages": STAGES}
    head, source, fit = cells(tables.stages_table(compression))
    assert all(head) and head[-1] == "note"
    assert source[:2] == ["source", ""] and fit[0] == "fit"
    assert fit[1] == "heads: 4 of 12; neurons: 8; blocks: 1; and 1 more"
    assert dict(zip(head, fit, strict=True))["accuracy"] == "98.50"
    assert fit[2:5] == ["2.0", "4.00", "2.00"]


def test_every_file_of_text_has_its_points_and_its_rows() -> None:
    stages = [stage | {"by_file": {"tickets.csv": 91.0, "[others].csv": 80.0 - n}} for n, stage in enumerate(STAGES)]
    compression = {"workload": {"shapes": [[1, 32]], "threads": 2}, "metric": "accuracy", "stages": stages}
    head, _, fit = cells(tables.stages_table(compression))
    assert head[5:7] == ["tickets.csv", "[others].csv"] and fit[5:7] == ["91.00", "79.00"]
    head, *rows = cells(tables.agreement_table(AGREEMENT))
    assert head == ["text (how many)", "figure", "value", "points lost"]
    assert [row[0] for row in rows] == ["tickets.csv (60)", "", "", "others.csv (40)", "", ""]
    assert rows[3] == [
        "others.csv (40)",
        "correlation of similarities",
        "80.00 (75.00 to 85.00)",
        "20.00 (15.00 to 25.00)",
    ]
    assert rows[4] == ["", "texts whose nearest neighbor stays", "66.50 %", ""]


def test_groups_stand_in_the_order_of_their_cost() -> None:
    groups = [{"name": "a", "error": 1.0, "above_noise": False}, {"name": "b", "error": 3.0, "above_noise": True}]
    content = {"activations": "static", "unit": "nats per text", "groups": groups}
    assert cells(tables.sensitivity_table(content))[1:] == [["b", "3", "75.0 %"], ["a", "1", "rounding noise"]]


@pytest.mark.parametrize(("share", "rows"), [({"MatMul": 0.75, "Add": 0.0005}, [["MatMul", "75.0 %"]])])
def test_small_shares_are_left_out(share: dict[str, float], rows: list[list[str]]) -> None:
    assert cells(tables.share_table(share, 8))[1:] == rows


STATES = [
    TargetState("ort", "cpu", ("fp32",), (), "yes", None, True, None),
    TargetState("rtx", "gpu", ("fp32", "fp16"), ("web",), "plan", "no library: pip install 'x[y]'", False, "no GPU"),
    TargetState("odd", "cpu", ("fp32",), (), "no", "reasons", None, None),
]


def test_targets_and_why_not() -> None:
    head, *rows = cells(tables.targets_table(STATES))
    assert head == ["target", "device", "dtypes", "apps", "build here", "run here"]
    assert rows == [
        ["ort", "cpu", "fp32", "-", "yes", "yes"],
        ["rtx", "gpu", "fp32, fp16", "web", "plan only", "no"],
        ["odd", "cpu", "fp32", "-", "no", "unknown"],
    ]
    assert list(tables.target_notes(STATES))[1:] == [
        "rtx, build: no library: pip install 'x[y]'",
        "rtx, run: no GPU",
        "odd, build: reasons",
    ]


def test_the_demo() -> None:
    rows = [DemoRow("the source", 90.9, 20.0, 1.0, 100.0), DemoRow("int8", 23.0, 5.0, 4.0, 99.876)]
    head, source, int8 = cells(tables.demo_table(rows, "1x32", "a machine"))
    assert head == ["model", "MB", "ms, 1x32", "times as fast as PyTorch", "agreement, %"]
    assert source == ["the source", "90.9", "20.0", "1.00", "100.00"]
    assert int8 == ["int8", "23.0", "5.0", "4.00", "99.88"]


def test_gates() -> None:
    rows = [Row("p99_ms", 20, None, "undecided"), Row("throughput", 50, Estimate(70, 60, 80), "pass")]
    assert cells(tables.gate_table(rows)) == [
        ["gate", "limit", "measured [95 % interval]", "verdict"],
        ["p99_ms", "≤ 20 ms", "–", "undecided"],
        ["throughput", "≥ 50 texts/s", "70 [60, 80]", "pass"],
    ]
