"""The work folder: what was learned is found again, and nothing that is damaged, missing or full stops a run."""

from pathlib import Path

import numpy as np
import pytest

from headway.calibration.batches import Batch
from headway.errors import HeadwayWarning
from headway.exporter.compress import work as work_module
from headway.exporter.compress.work import Work, default_folder, digest_of_batches, digest_of_model, key_of
from headway.exporter.graph.edit import constant
from headway.exporter.passes.cuts import set_array


def counted(made: dict[str, np.ndarray]):
    calls: list[int] = []

    def make() -> dict[str, np.ndarray]:
        calls.append(1)
        return made

    return make, calls


def test_what_was_made_once_is_found_again(tmp_path: Path) -> None:
    make, calls = counted({"a b": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(2.5)})
    for folder in (tmp_path / "w", tmp_path / "w"):
        found = Work(folder).arrays("evidence", "k", make)
        assert (
            found["a b"].dtype == np.float32
            and np.array_equal(found["a b"], make()["a b"])
            and float(found["n"]) == 2.5
        )
    assert len(calls) == 1 + 2
    Work(tmp_path / "w").arrays("evidence", "another", make)
    Work(None).arrays("evidence", "k", make)
    assert len(calls) == 5
    assert Work(tmp_path / "w").values("timing", "k", lambda: {"x": [1, 2.5]}) == {"x": [1, 2.5]}
    assert (
        Work(tmp_path / "w").known("timing", "k") == {"x": [1, 2.5]}
        and Work(tmp_path / "w").known("timing", "no") is None
    )
    assert {e.kind for e in Work(tmp_path / "w").entries()} == {"evidence", "timing"}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x80\x04N."])
def test_a_damaged_entry_is_made_again(content: bytes, tmp_path: Path) -> None:
    make, calls = counted({"a": np.ones(3)})
    work = Work(tmp_path)
    work.arrays("order", "k", make)
    (tmp_path / "order-k" / "arrays.npz").write_bytes(content)
    assert np.array_equal(work.arrays("order", "k", make)["a"], np.ones(3)) and len(calls) == 2
    work.arrays("order", "k", make)
    assert len(calls) == 2


def test_what_was_not_used_for_longest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "LIMIT_BYTES", 3500)
    work, make = Work(tmp_path), lambda: {"a": np.zeros(100)}
    times = iter(range(100, 200))

    def tick(path: Path, *_: object) -> None:
        real(path, (at := next(times), at))

    real = work_module.os.utime
    monkeypatch.setattr(work_module.os, "utime", tick)
    for key in ("a", "b", "c", "a", "d"):  # a is used again before d comes
        work.arrays("order", key, make)
        if key != "a" or len(work.entries()) == 1:
            tick(tmp_path / f"order-{key}")
    assert {e.path.name for e in work.entries()} == {"order-a", "order-c", "order-d"}
    assert work.clear() > 2400 and work.entries() == [] and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "file").write_text("in the way")
    work, (make, calls) = Work(tmp_path / "file" / "w"), counted({"a": np.ones(1)})
    with pytest.warns(HeadwayWarning, match=r"cannot be kept .*: give `work_dir`"):
        work.arrays("order", "k", make)
    recwarn.clear()
    work.arrays("order", "k", make)
    assert len(calls) == 2 and not recwarn.list and work.entries() == []


def test_names_follow_what_they_stand_for(model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = key_of("a")
    assert key_of("a", 1, {"x": 2, "y": 3}) == key_of("a", 1, {"y": 3, "x": 2}) != key_of("a", 2, {"x": 2, "y": 3})
    with monkeypatch.context() as patch:
        patch.setattr(work_module, "_versions", lambda: {"torch": "0.1"})
        assert key_of("a") != before
    copy = model.clone()
    assert digest_of_model(copy) == digest_of_model(model)
    value = next(v for v in copy.graph.initializers.values() if (a := constant(v)) is not None and a.ndim == 2)
    array = constant(value).copy()
    array[-1, -1] += 1
    set_array(value, array)
    assert digest_of_model(copy) != digest_of_model(model)
    renamed = model.clone()
    node = next(n for n in renamed.graph if n.op_type == "LayerNormalization")
    node.attributes["epsilon"] = type(node.attributes["epsilon"])("epsilon", node.attributes["epsilon"].type, 0.5)
    assert digest_of_model(renamed) != digest_of_model(model)
    ids = np.arange(6).reshape(2, 3)
    one, other = (Batch({"input_ids": a, "attention_mask": np.ones_like(a)}, np.arange(2)) for a in (ids, ids + 1))
    assert digest_of_batches([one]) == digest_of_batches([one]) != digest_of_batches([other])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "headway" / "work"
