"""A source that is ready for trials: each begins with the whole model, and with the space that the source has."""

from pathlib import Path

import numpy as np
import pytest

from headway.errors import TargetError
from headway.exporter.compress.work import digest_of_model
from headway.exporter.export import Flow
from headway.exporter.graph.edit import constant
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.recipe.search_space import SearchSpace
from headway.exporter.search import prepared_source
from headway.exporter.search.prepared_source import PreparedSource, fitting, prepared
from headway.exporter.search.trial_settings import TrialSettings

from tests.support.searching import search_recipe


def test_trials_do_not_change_what_others_begin_with(source: PreparedSource, tmp_path: Path) -> None:
    before = digest_of_model(source.model), source.first.encoder.info.mask_id
    _, job = source.begin(TrialSettings(coverage=0.9), tmp_path / "a", tmp_path / "out")
    from headway.exporter.recipe.passes import PASSES
    from headway.exporter.search.evaluate import function_of

    (spec,) = job.given.recipe.passes
    function_of(PASSES[spec.kind].function)(job, spec)
    assert job.outcome.kept_tokens and job.encoder.info is not source.first.encoder.info
    assert (digest_of_model(source.model), source.first.encoder.info.mask_id) == before
    assert all(constant(v) is not None for v in source.model.graph.initializers.values() if v.const_value is not None)
    texts = source.first.given
    assert job.given.learned_from == texts.learned_from and texts.choice is not None
    parts = [set(texts.learned_from), set(texts.choice.texts), set(texts.quality.texts)]
    assert not any(parts[a] & parts[b] for a, b in ((0, 1), (0, 2), (1, 2)))


def test_a_trial_that_fails_leaves_nothing(source: PreparedSource, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), source.trial(TrialSettings(quantize="int8"), tmp_path / "001"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_is_not_timed_on_a_cpu(tmp_path: Path) -> None:
    recipe = make_recipe("test", source="x", target="tensorrt")
    with pytest.raises(TargetError, match="says nothing of a GPU"), prepared(recipe, work=None, allow_pickle=False):
        pass


class _Stopped(Exception):
    pass


@pytest.mark.parametrize(("given", "folder"), [("asked", "asked"), (None, "cache/headway/work")])
def test_what_is_learned_is_kept_where_it_is_asked_for_or_in_the_user_s_cache(
    given: str | None, folder: str, classifier: Path, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def capture(flow: Flow, *_: object, **__: object) -> None:
        assert flow.work.folder == tmp_path / folder
        raise _Stopped

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(prepared_source, "capture_graph", capture)
    work = tmp_path / given if given else None
    with pytest.raises(_Stopped), prepared(search_recipe(classifier, lines), work=work, allow_pickle=False):
        pass


def test_a_space_without_what_a_source_does_not_have(source: PreparedSource) -> None:
    assert fitting(SearchSpace(), "sparse-embedding").vocabulary == [1.0]
    assert fitting(SearchSpace(vocabulary=[0.9]), "sparse-embedding").vocabulary == [0.9]  # and is refused by name
    assert source.space.speedups == [1.0, 1.5, 2.0] and np.isfinite(source.blocks)
