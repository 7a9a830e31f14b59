"""What a report reads: each verdict finds its bundle, and what is broken or belongs elsewhere is refused with a sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headway.errors import SourceError, UsageError
from headway.exporter.export import Exported
from headway.exporter.validate.report.report_inputs import read_bundles, read_gate, read_sensitivity

from tests.support.reports import bench, compression, copied, gate, judged, stored


def test_a_verdict_belongs_to_the_bundle_of_its_bytes(bert_bundle: Exported, tmp_path: Path) -> None:
    path = bert_bundle.path
    (one,) = read_bundles([path], [judged(path, tmp_path / "a")])
    assert one.gate is not None and one.gate["verdict"] == "fail" and not one.outdated and one.name == "bert-bundle"
    renamed = Path(shutil.copytree(path, tmp_path / "renamed"))
    assert read_bundles([renamed], [tmp_path / "a" / "gate.json"])[0].gate is not None
    (old,) = read_bundles([path], [stored(gate("bert-bundle", "other bytes"), tmp_path / "old")])
    assert old.gate is None and old.outdated
    judged(renamed, renamed)
    assert read_bundles([renamed], [])[0].gate is not None


def test_a_bundle_whose_bytes_were_changed_has_no_report(bert_bundle: Exported, tmp_path: Path) -> None:
    path = copied(bert_bundle.path, tmp_path / "bundle")
    verdict = judged(path, tmp_path / "a")
    with pytest.raises(UsageError, match="is a second verdict on bundle"):
        read_bundles([path], [verdict, verdict])
    model = path / "model.onnx"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    with pytest.raises(SourceError, match=r"model\.onnx"):
        read_bundles([path], [verdict])


def test_compressions_that_cannot_be_drawn_are_refused(bert_bundle: Exported, tmp_path: Path) -> None:
    for number, change in enumerate(({"stages": []}, {"workload": {"shapes": [[1, 2, 3]], "threads": 1}})):
        path = copied(bert_bundle.path, tmp_path / str(number), compression=compression() | change)
        with pytest.raises(SourceError, match="no stages, or shapes that are none"):
            read_bundles([path], [])


def test_a_verdict_on_none_of_the_bundles_is_refused(bert_bundle: Exported, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is the verdict on another, which is none of the bundles given"):
        read_bundles([bert_bundle.path], [stored(gate("another"), tmp_path)])


def test_bundles_of_one_name_are_told_apart(bert_bundle: Exported, tmp_path: Path) -> None:
    paths = [copied(bert_bundle.path, tmp_path / folder / "bundle") for folder in ("a", "b")]
    assert [bundle.name for bundle in read_bundles(paths, [])] == ["a/bundle", "b/bundle"]
    with pytest.raises(UsageError, match="given twice"):
        read_bundles([paths[0], tmp_path / "a" / ".." / "a" / "bundle"], [])
    with pytest.raises(UsageError, match="needs a bundle"):
        read_bundles([], [])


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"verdict": "perhaps"}, "verdict"),
    ({"gates": [{}]}, r"gates\[0\]"),
    ({"figures": {"sweep": [{"threads": "2"}]}}, "sweep"),
    ({"figures": {"server": {"capacity": {"rate": 1, "trials": [["x"]]}, "bound_ms": 3}}}, "trials"),
    ({"figures": {"single-stream": {"latencies_ms": [1, "2"], "percentiles": {}}}}, r"latencies_ms\[1\]"),
    ({"figures": {"cold_starts": [{"load_ms": None}]}}, "cold_starts"),
    ({"machine": []}, "machine"),
]


@pytest.mark.parametrize(("change", "place"), BROKEN)
def test_a_changed_verdict_is_refused_with_its_place(tmp_path: Path, change: dict[str, Any], place: str) -> None:
    folder = stored(gate("bundle") | change, tmp_path)
    with pytest.raises(SourceError, match=f"{place}.*write it again with `headway gate --out`"):
        read_gate(folder / "gate.json")


def test_files_that_are_not_there_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_gate(tmp_path / "gate.json")
    (tmp_path / "gate.json").write_text("{")
    with pytest.raises(SourceError, match="not valid JSON"):
        read_gate(tmp_path / "gate.json")


def test_sensitivities_are_read_from_a_file_or_its_folder(tmp_path: Path) -> None:
    content = {"model": "m", "unit": "u", "noise_floor": 0.1, "groups": [{"name": "g", "error": 0.5}]}
    (tmp_path / "sensitivity.json").write_text(json.dumps(content))
    assert read_sensitivity(tmp_path) == read_sensitivity(tmp_path / "sensitivity.json") == content
    (tmp_path / "sensitivity.json").write_text(json.dumps(content | {"groups": 3}))
    with pytest.raises(SourceError, match=r"groups.*headway sensitivity"):
        read_sensitivity(tmp_path)


def test_cases_without_times_are_left_out_and_broken_ones_refused(bert_bundle: Exported, tmp_path: Path) -> None:
    measured = bench()
    measured["cases"][1]["milliseconds"]["bundle"] = []
    (one,) = read_bundles([copied(bert_bundle.path, tmp_path / "a", bench=measured)], [])
    assert [case["label"] for case in one.cases] == ["1x32", "8x128"] and one.contestant == "bundle"
    measured["cases"][0]["milliseconds"] = 3
    with pytest.raises(SourceError, match=r"bench\.cases\[0\]\.milliseconds"):
        read_bundles([copied(bert_bundle.path, tmp_path / "b", bench=measured)], [])
