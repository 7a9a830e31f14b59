"""The tokenizer inside the graph: refused where its ids differ, unless those classes of text are accepted by name."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from headway.errors import GateError, SourceError, TargetError, UsageError
from headway.exporter.export import Exported
from headway.exporter.tokenizer import in_graph
from headway.exporter.tokenizer.check import unicode_lines
from headway.exporter.tokenizer.in_graph import check_in_graph, text_graph, write_in_graph
from headway.manifest import TokenizerInfo
from headway.text import TextEncoder

extensions = pytest.importorskip("onnxruntime_extensions", reason="published for few platforms")


@pytest.fixture
def tokenizer(bert_bundle: Exported) -> tuple[Path, TokenizerInfo]:
    info = bert_bundle.manifest.tokenizer
    assert info is not None
    return bert_bundle.path / info.file, info


def test_plain_text_agrees_and_the_limit_is_kept(tokenizer: tuple[Path, TokenizerInfo]) -> None:
    path, info = tokenizer
    lines = ["the model runs", "", "the text of bread, and rain! " * 40, "A LARGE language model"]
    graph = text_graph(json.loads(path.read_text()), info)
    assert not check_in_graph(graph, path, info, lines).different
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(extensions.get_library_path())
    session = onnxruntime.InferenceSession(graph, options)
    encoder = TextEncoder(path, info)
    for line in lines:
        ids = dict(
            zip([o.name for o in session.get_outputs()], session.run(None, {"text": np.array([line])}), strict=True)
        )
        expected = encoder([line])
        assert all(np.array_equal(ids[name], expected[name][0]) for name in expected)


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_classes_that_differ_are_named_and_have_to_be_accepted(
    bert_bundle: Exported,
    tokenizer: tuple[Path, TokenizerInfo],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    assert in_graph.CHECKED_LINES == 10_000
    monkeypatch.setattr(in_graph, "CHECKED_LINES", count)
    with pytest.raises(GateError, match=rf"token ids differ on \d+ of {count} lines") as refused:
        write_in_graph(bert_bundle.path, tmp_path / "out")
    assert "not accepted: " in str(refused.value) and "emoji" in str(refused.value)
    assert not (tmp_path / "out").exists()
    differing = str(refused.value).rsplit("not accepted: ", 1)[1].split(", ")
    assert 5 < len(differing) < 34
    with pytest.raises(GateError, match=f"not accepted: {differing[0]}$"):
        write_in_graph(bert_bundle.path, tmp_path / "out", differing[1:])
    written = write_in_graph(bert_bundle.path, tmp_path / "out", differing)
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    report = json.loads((tmp_path / "out" / in_graph.REPORT_FILE).read_text())
    assert report["accepted"] == sorted(differing) and report["different"] > 0


def test_bad_requests(
    bert_bundle: Exported, tokenizer: tuple[Path, TokenizerInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, info = tokenizer
    monkeypatch.setattr(in_graph, "CHECKED_LINES", 300)
    with pytest.raises(UsageError, match="no such class of text: Klingon; there are Arabic"):
        write_in_graph(bert_bundle.path, tmp_path / "out", ["Klingon"])
    content = json.loads(path.read_text())
    with pytest.raises(SourceError, match="model of type BPE"):
        text_graph(content | {"model": {"type": "BPE"}}, info)
    with pytest.raises(SourceError, match="gaps"):
        text_graph(content | {"model": content["model"] | {"vocab": {"[UNK]": 0, "a": 7}}}, info)
    with pytest.raises(SourceError, match="one token before the text"):
        text_graph(content | {"post_processor": None}, info)
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    with pytest.raises(TargetError, match=r"headway\[in-graph\]"):
        check_in_graph(b"", path, info, unicode_lines(0, 1))
