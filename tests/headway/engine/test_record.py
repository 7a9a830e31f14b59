"""The record that lies beside an engine, where there is one."""

import json
from pathlib import Path

from headway.engine.record import ENGINE_FILE, read_record


def test_a_record_is_read_where_there_is_one(tmp_path: Path) -> None:
    engine = tmp_path / ENGINE_FILE
    assert read_record(engine) is None  # trtexec writes none
    engine.with_suffix(".json").write_text(json.dumps({"version": "10.9", "gpus": ["sm_89"]}), encoding="utf-8")
    assert read_record(engine) == {"version": "10.9", "gpus": ["sm_89"]}
