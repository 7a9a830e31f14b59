"""Equal layers are traced once."""

from pathlib import Path

from headway.exporter.capture.capture import capture
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.source.source import open_source

from tests.support import models


def test_equal_layers_are_traced_once(bert: Path) -> None:
    source = open_source(str(bert))
    once, whole = capture(source), capture(source, whole=True)
    assert once.repeated and not whole.repeated
    first, second = canonicalize(once.model, longest=64).model, canonicalize(whole.model, longest=64).model
    assert sorted(n.op_type for n in first.graph) == sorted(n.op_type for n in second.graph)
    assert set(first.graph.initializers) == set(second.graph.initializers)


def test_layers_that_differ_are_traced_whole(tmp_path: Path) -> None:
    assert not capture(open_source(str(models.make_model(tmp_path / "m", "modernbert")))).repeated
