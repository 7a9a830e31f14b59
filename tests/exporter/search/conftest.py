"""Fixtures of the tests of the search: one source is prepared for all trials."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headway.exporter.search.crew import SourceFacts, facts_of
from headway.exporter.search.prepared_source import PreparedSource, prepared

from tests.support import models
from tests.support.compressing import classifier  # noqa: F401
from tests.support.ray_clusters import cluster  # noqa: F401
from tests.support.searching import fixed_latencies, search_recipe


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 150 texts without labels: what is lost is lost beside the source."""
    labeled = models.write_labeled(tmp_path_factory.mktemp("lines") / "lines.jsonl", 150)
    file = labeled.with_name("lines.txt")
    file.write_text("\n".join(json.loads(line)["text"] for line in labeled.read_text().splitlines()))
    return file


@pytest.fixture(autouse=True)
def timed() -> Iterator[None]:
    """Latencies are those of a table, in each test of this folder and in no other that runs between them."""
    with fixed_latencies():
        yield


@pytest.fixture(scope="session")
def source(
    classifier: Path,  # noqa: F811
    lines: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PreparedSource]:
    recipe = search_recipe(classifier, lines)
    with ExitStack() as stack:
        with fixed_latencies():
            one = stack.enter_context(prepared(recipe, work=tmp_path_factory.mktemp("search-work"), allow_pickle=False))
        yield one


@pytest.fixture(scope="session")
def facts(source: PreparedSource) -> SourceFacts:
    with fixed_latencies():
        return facts_of(source)
