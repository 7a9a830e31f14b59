"""Equal layers are traced once."""

from pathlib import Path

import numpy as np

from headway.exporter.capture.capture import capture
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.source.source import open_source

from tests.support import models
from tests.support.variants import answers, feeds


def test_equal_layers_are_traced_once(bert: Path) -> None:
    source = open_source(str(bert))
    once, complete = capture(source), capture(source, whole=True)
    assert once.repeated and not complete.repeated
    first, second = canonicalize(once.model, longest=64).model, canonicalize(complete.model, longest=64).model
    assert sorted(n.op_type for n in first.graph) == sorted(n.op_type for n in second.graph)
    assert set(first.graph.initializers) == set(second.graph.initializers)


def test_what_stands_behind_the_layers_reads_the_last_of_them(tmp_path: Path) -> None:
    """A pooler and a classifier do: the repeated graph computes what the source computes."""
    source = models.make_model(tmp_path, task="text-classification", num_hidden_layers=4)
    captured = capture(open_source(str(source)))
    assert captured.repeated
    given = feeds()
    wanted = captured.reference.run(given)
    got = answers(canonicalize(captured.model, longest=64).model, given)
    assert list(got) == list(wanted) == ["logits"]
    np.testing.assert_allclose(got["logits"], wanted["logits"], atol=1e-5)


def test_layers_that_differ_are_traced_whole(tmp_path: Path) -> None:
    assert not capture(open_source(str(models.make_model(tmp_path / "m", "modernbert")))).repeated
