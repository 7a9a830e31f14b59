"""Runners that take one text at a time: rows are cut, run and put back; runtimes and files that are missing are named."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from headway.errors import SourceError, TargetError
from headway.runners.rows import LITERT_RECORD, RECORD_FILE, ExecuTorchRunner, LiteRtRunner, RowRunner


class Echo(RowRunner):
    """Gives each token back as `tokens`, and the length of the row that it was given as `pooled`."""

    def row(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        ids = feeds["input_ids"]
        assert ids.shape[0] == 1
        return [ids[..., None].astype(np.float32), np.full((1, 1), ids.shape[1], np.float32)]


def echo(*, cut_padding: bool) -> Echo:
    return Echo(["input_ids"], [("tokens", 1), ("pooled", None)], max_length=4, cut_padding=cut_padding)


IDS = np.array([[1, 2, 3, 4], [5, 6, 0, 0]])
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])


def test_each_row_is_cut_to_its_tokens_where_padding_must_not_matter() -> None:
    outputs = echo(cut_padding=True).run({"input_ids": IDS, "attention_mask": MASK})
    assert outputs["tokens"][..., 0].tolist() == IDS.tolist()
    assert outputs["pooled"][:, 0].tolist() == [4, 2]


def test_threads_do_not_run_rows_at_once() -> None:
    """A runtime keeps the results of a call until the next one: here in one array, as its own memory."""

    class Overwrites(Echo):
        memory = np.zeros((1, 4, 1), np.float32)

        def row(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            self.memory[:] = feeds["input_ids"][..., None]
            time.sleep(0.001)
            return [self.memory, np.zeros((1, 1), np.float32)]

    runner = Overwrites(["input_ids"], [("tokens", 1), ("pooled", None)], max_length=4, cut_padding=False)
    feeds = [{"input_ids": np.full((2, 4), i)} for i in range(40)]
    with ThreadPoolExecutor(4) as threads:
        for i, outputs in enumerate(threads.map(runner.run, feeds)):
            assert (outputs["tokens"] == i).all()


@pytest.mark.parametrize("feeds", [{"input_ids": IDS, "attention_mask": MASK}, {"input_ids": IDS}])
def test_rows_stay_whole_otherwise(feeds: dict[str, np.ndarray]) -> None:
    outputs = echo(cut_padding="attention_mask" not in feeds).run(feeds)
    assert outputs["pooled"][:, 0].tolist() == [4, 4]


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(TargetError, match="a text of 5 tokens is longer than the 4 that the program takes"):
        echo(cut_padding=False).run({"input_ids": np.ones((1, 5), np.int64)})
    padded = {"input_ids": np.pad(IDS, ((0, 0), (0, 3))), "attention_mask": np.pad(MASK, ((0, 0), (0, 3)))}
    assert echo(cut_padding=True).run(padded)["tokens"].shape == (2, 7, 1)


@pytest.mark.parametrize(
    ("runner", "module", "extra"),
    [
        (ExecuTorchRunner, "executorch.extension.pybindings", r"headway\[executorch\]"),
        (LiteRtRunner, "ai_edge_litert.interpreter", r"headway\[litert\]"),
    ],
)
def test_a_runtime_that_is_not_installed_is_named(
    runner: type[RowRunner], module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    with pytest.raises(TargetError, match=rf"model: its runtime is not installed .*pip install '{extra}'"):
        runner(tmp_path / "model")  # type: ignore[call-arg, arg-type]


@pytest.mark.parametrize(
    ("runner", "module", "record"),
    [
        (ExecuTorchRunner, "executorch.runtime", RECORD_FILE),
        (LiteRtRunner, "ai_edge_litert.interpreter", LITERT_RECORD),
    ],
)
def test_a_missing_record_and_a_damaged_file_are_named(
    runner: type[RowRunner], module: str, record: str, tmp_path: Path
) -> None:
    pytest.importorskip(module, reason="the runtime is published for some platforms only")
    artifact = tmp_path / record.removesuffix(".json")
    artifact.write_bytes(b"no program")
    with pytest.raises(SourceError, match=record):
        runner(artifact)  # type: ignore[call-arg, arg-type]
    content = {"inputs": ["input_ids"], "outputs": [["tokens", 1]], "max_length": 8, "lengths": [8], "pad_id": 0}
    (tmp_path / record).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(TargetError, match=rf"{artifact.name}: \w+ cannot load it"):
        runner(artifact)  # type: ignore[call-arg, arg-type]
