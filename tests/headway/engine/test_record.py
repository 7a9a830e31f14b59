"""The plan and the record of an engine: read whole, with a library of the list, or refused by the field."""

import json
from pathlib import Path

import pytest

from headway.engine.record import ENGINE_FILE, PLAN_FILE, read_plan, read_record
from headway.errors import SourceError

SETTINGS = {
    "gpus": [], "version_compatible": False, "hardware": "none", "stripped": False, "level": None, "kernels": False,
}  # fmt: skip
PLAN = {
    "library": "tensorrt",
    "inputs": ["input_ids"],
    "outputs": {"logits": None},
    "profiles": [{"min": [1, 1], "opt": [8, 24], "max": [32, 64]}],
    "settings": SETTINGS,
}
RECORD = {
    "library": "tensorrt", "version": "10.9", "gpus": ["sm_89"], "version_compatible": False, "hardware": "none", "bytes": 4,
}  # fmt: skip


def test_a_record_is_read_where_there_is_one(tmp_path: Path) -> None:
    engine = tmp_path / ENGINE_FILE
    assert read_record(engine) is None  # trtexec writes none
    engine.with_suffix(".json").write_text(json.dumps(RECORD | {"layers": 7}), encoding="utf-8")
    assert read_record(engine) == RECORD | {"layers": 7}
    engine.with_suffix(".json").write_text(json.dumps(RECORD | {"bytes": -4}), encoding="utf-8")
    with pytest.raises(SourceError, match=r"model\.json: bytes: a number from 0"):
        read_record(engine)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"library": "evil"}, "library: one of 'tensorrt', 'tensorrt_rtx'"),
        ({"settings": SETTINGS | {"level": 9}}, "settings.level"),
        ({"profiles": []}, "profiles"),
        ({"profiles": [{"min": [1], "opt": [1], "max": [1]}]}, "profiles"),
        ({"outputs": {"logits": "sequence"}}, "outputs.logits"),
    ],
)
def test_a_plan_names_a_library_of_the_list_and_whole_settings(fields: dict, reason: str, tmp_path: Path) -> None:
    file = tmp_path / PLAN_FILE
    file.write_text(json.dumps(PLAN), encoding="utf-8")
    assert read_plan(file) == PLAN
    file.write_text(json.dumps(PLAN | fields), encoding="utf-8")
    with pytest.raises(SourceError, match=reason):
        read_plan(file)
