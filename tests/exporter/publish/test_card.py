"""The card says what the manifest holds."""

from dataclasses import replace
from pathlib import Path

import pytest

from headway.exporter.cli.tables import anatomy_table
from headway.exporter.export import Exported
from headway.exporter.publish.card import CARD, device_rows, seal, stage_figures, write_card
from headway.manifest import Manifest, TensorInfo, check_files
from headway.tasks import Scoring

from tests.support.agreements import AGREEMENT

STAGE = {"name": "source", "changes": {}, "nbytes": 4e6, "ms": 3.0, "quality": 91.0, "undone": False, "paid": None}
DEVICE = {
    "machine": {"model": "Phone 9", "cpu": "eight cores", "system": "Android 16"},
    "threads": 1,
    "contestants": ["onnxruntime_perf_test"],
    "cases": [{"label": "1 × 16", "runs": 50, "p50_ms": {"onnxruntime_perf_test": 4.0}}],
}
BENCH = {
    "machine": {"cpu": "a processor", "features": ["avx2"], "versions": {"onnxruntime": "1.32.0"}},
    "threads": 1,
    "contestants": ["bundle", "torch"],
    "cases": [
        {
            "label": "1 × 16",
            "padding": 0.25,
            "p50_ms": {"bundle": 1.0},
            "p90_ms": {"bundle": 1.2},
            "p99_ms": {"bundle": 1.5},
            "tokens_per_second": {"bundle": 16000.0},
            "ratio_to_first": {"torch": (2.0, 1.9, 2.1)},
        }
    ],
}


def card(manifest: Manifest, directory: Path) -> str:
    write_card(directory, manifest)
    return (directory / CARD).read_text(encoding="utf-8")


def test_a_card_names_the_model_its_outputs_and_its_plots(bert_bundle: Exported, tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "stages.png").write_bytes(b"")
    (tmp_path / "model.onnx").write_bytes(bytes(2_000_000))
    text = card(bert_bundle.manifest, tmp_path)
    assert "# bert for" in text and "target ort" in text
    assert "| blocks | 4 |" in text and "| artifact | 2.0 MB |" in text and "![stages](plots/stages.png)" in text
    for output in bert_bundle.manifest.outputs:
        assert f"| {output.name} |" in text
    assert "## Latency" not in text and "## Passes" not in text


def test_latencies_here_and_on_a_device_are_tables(bert_bundle: Exported, tmp_path: Path) -> None:
    text = card(replace(bert_bundle.manifest, bench=BENCH, devices=[DEVICE]), tmp_path)
    assert "| 1 × 16 | 25 % | 1.0 / 1.2 / 1.5 | 16,000 | 2.00 (1.90 to 2.10) |" in text
    assert "## Latency on Phone 9" in text and "| batch × length | runs | p50, ms |" in text
    assert device_rows(DEVICE, ("mean", "p50")) == (["p50"], [["1 × 16", "50", "4.00"]])


def test_a_pass_that_gained_nothing_says_so(bert_bundle: Exported, tmp_path: Path) -> None:
    slow = STAGE | {"name": "fit", "changes": {"heads": 3}, "paid": False}
    undone = STAGE | {"name": "quantize", "undone": True}
    compression = {
        "workload": {"shapes": [(1, 16)], "threads": 1},
        "metric": "accuracy",
        "held_out": 20,
        "source_quality": 91.0,
        "stages": [STAGE, slow, undone],
        "left_in_float": {"encoder.layer.0": "too sensitive"},
    }
    text = card(replace(bert_bundle.manifest, compression=compression), tmp_path)
    assert "| fit | heads: 3 | 4.0 | 3.00 | 1.00 | 91.00 | gained nothing |" in text
    assert "undone: not faster" in text and "In float: encoder.layer.0 (too sensitive)." in text
    assert "others decided" not in text and "learned from" not in text
    parts = {"texts": {"learn": 60, "choose": 20, "judge": 20}}
    text = card(replace(bert_bundle.manifest, compression=compression | parts), tmp_path)
    assert "Passes learned from 60 other texts. 20 others decided between candidates." in text
    assert stage_figures(STAGE | {"ms": 1.5}, STAGE) == ["4.0", "1.50", "2.00", "91.00", ""]


def test_held_out_text_has_its_figures_file_by_file(bert_bundle: Exported, tmp_path: Path) -> None:
    by_file = {"tickets.csv": 91.0, "others.csv": 80.0}
    compression = {
        "workload": {"shapes": [(1, 16)], "threads": 1},
        "metric": "agreement with the source",
        "held_out": 100,
        "source_quality": 100.0,
        "stages": [STAGE | {"by_file": dict.fromkeys(by_file, 100.0)}, STAGE | {"name": "fit", "by_file": by_file}],
        "agreement": AGREEMENT,
    }
    text = card(replace(bert_bundle.manifest, compression=compression), tmp_path)
    assert "| after | changes | MB | ms | speed-up | tickets.csv | others.csv | note |" in text
    assert "| fit |  | 4.0 | 3.00 | 1.00 | 91.00 | 80.00 |  |" in text and "the source has" not in text
    bars = [f | {"data": "a|b.txt"} for f in AGREEMENT["files"][1:]]
    odd = card(
        replace(bert_bundle.manifest, compression=compression | {"agreement": {"worst": "", "files": bars}}), tmp_path
    )
    assert "| a\\|b.txt (40) | correlation" in odd
    assert "| others.csv (40) | correlation of similarities | 80.00 (75.00 to 85.00) | 20.00 (15.00 to 25.00) |" in text
    assert "|  | texts whose nearest neighbor stays | 66.50 % |  |" in text
    assert "|  | mean difference of scores | 0.0123 |  |" in text
    assert "others.csv: O search finds less." in text
    alone = {"worst": "others.csv", "files": AGREEMENT["files"][1:]}
    compression |= {"agreement": alone, "stages": [STAGE]}
    text = card(replace(bert_bundle.manifest, compression=compression), tmp_path)
    assert "\nO search finds less.\n" in text and "| quality |" in text and "the source has 100.00" in text


def test_a_sealed_bundle_has_its_checksums(bert_bundle: Exported, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    seal(tmp_path, replace(bert_bundle.manifest))
    manifest = Manifest.read(tmp_path)
    assert set(manifest.files) == {"model.onnx", CARD}
    check_files(tmp_path, manifest)


def test_a_layer_that_lost_its_attention_is_seen_in_card_and_table(bert_bundle: Exported, tmp_path: Path) -> None:
    block = dict(bert_bundle.manifest.anatomy["blocks"][0])
    blocks = [block | {"heads": 0, "intermediate_size": [64]}, block | {"intermediate_size": [64, 64]}, block]
    anatomy = bert_bundle.manifest.anatomy | {"blocks": blocks}
    text = card(replace(bert_bundle.manifest, anatomy=anatomy), tmp_path)
    assert "| heads per block | no attention, 4, 4 |" in text
    assert "| intermediate size per block | 64, 64 + 64, 64 |" in text
    table = anatomy_table({"task": "x", **anatomy})
    assert list(table.columns[1].cells)[:3] == ["no attention", "4", "4"]
    assert list(table.columns[3].cells)[:3] == ["64", "64 + 64", "64"]


@pytest.mark.parametrize(
    ("task", "scoring", "line"),
    [
        ("text-classification", Scoring("single-label", "softmax"), "# names with scores: probabilities, of which one"),
        (
            "text-classification",
            Scoring("multi-label", "sigmoid"),
            '"another"], threshold=0.5)  # names with scores: a prob',
        ),
        ("text-classification", Scoring("value", "identity"), "# names with scores: plain values"),
        ("token-classification", None, "bundle.entities(["),
        ("question-answering", None, "bundle.answers([("),
        ("multiple-choice", None, "bundle.choices([("),
    ],
)
def test_a_card_shows_the_call_of_its_task(
    task: str, scoring: Scoring | None, line: str, bert_bundle: Exported, tmp_path: Path
) -> None:
    logits = [TensorInfo("logits", "float32", ["batch", 3])]
    stored = scoring.record() if scoring is not None else {}
    manifest = replace(bert_bundle.manifest, task=task, outputs=logits, scoring=stored)
    assert line in card(manifest, tmp_path)
    assert 'bundle(["a text", "another"])["last_hidden_state"]' in card(bert_bundle.manifest, tmp_path)
