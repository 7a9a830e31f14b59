"""Late interaction: the vectors of a bundle are those of sentence-transformers' encode_query and encode_document, and so are scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.bundle import Bundle
from headway.errors import SourceError, UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.manifest import Side
from headway.multi_vector import maxsim, side_feeds

from tests.support import retrieval_models
from tests.support.retrieval_models import TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::headway.errors.HeadwayWarning")

FIXED = {"strategy": "fixed", "attend": False, "length": 24, "token": None}
ATTENDED = {"strategy": "min", "attend": True, "length": 12, "token": "[UNK]"}
SKIPPED = {"skiplist_words": ["a", "the"]}
LAYOUTS: dict[str, Any] = {
    "plain": {},
    "filled up": {"expansion": FIXED, "skipped": SKIPPED, "document_length": 40},
    "attended": {
        "expansion": ATTENDED,
        "skipped": SKIPPED | {"skiplist_tasks": ["query", "document"]},
        "query_length": 30,
    },
    "some tokens alone": {"skipped": {"keep_only_token_ids": [*range(5, 60)]}},
}


def library(directory: Path) -> Any:
    from sentence_transformers import MultiVectorEncoder

    return MultiVectorEncoder(str(directory), device="cpu", local_files_only=True)


def check_vectors(source: Path, out: Path) -> tuple[Bundle, Any]:
    """Compare a bundle with its source's library on queries, documents and their scores; return both."""
    bundle, model = Bundle.open(export(Recipe(source=str(source)), out).path), library(source)
    for ours, theirs in (
        (bundle.encode_query(TEXTS, batch_size=2), model.encode_query(TEXTS)),
        (bundle.encode_document(TEXTS), model.encode_document(TEXTS)),
        (bundle.vectors(TEXTS, "query", prompt="a model: "), model.encode_query(TEXTS, prompt="a model: ")),
    ):
        for mine, wanted in zip(ours, theirs, strict=True):
            assert mine.shape == tuple(wanted.shape)
            np.testing.assert_allclose(mine, wanted, atol=1e-5)
    queries, documents = model.encode_query(TEXTS[:2]), model.encode_document(TEXTS)
    scores = bundle.similarity(bundle.encode_query(TEXTS[:2]), bundle.encode_document(TEXTS))
    np.testing.assert_allclose(scores, model.similarity(queries, documents), atol=1e-4)
    found = bundle.rank(TEXTS[0], TEXTS, top_k=2)
    assert [r.index for r in found] == list(np.argsort(-scores[0], kind="stable")[:2])
    return bundle, model


@pytest.mark.parametrize("name", [n if n == "plain" else pytest.param(n, marks=pytest.mark.slow) for n in LAYOUTS])
def test_layouts_of_sentence_transformers(name: str, tmp_path: Path) -> None:
    bundle, _ = check_vectors(retrieval_models.late_interaction(tmp_path, **LAYOUTS[name]), tmp_path / "out")
    assert bundle.manifest.similarity == "maxsim"
    if "expansion" in LAYOUTS[name]:
        assert {len(v) for v in bundle.encode_query(["a"])} != {len(v) for v in bundle.encode_document(["a"])}


@pytest.mark.parametrize("settings", [{}, {"do_query_expansion": False}], ids=["filled up", "as it is"])
def test_the_layout_of_pylate(settings: dict[str, Any], tmp_path: Path) -> None:
    bundle, _ = check_vectors(retrieval_models.pylate(tmp_path, **settings), tmp_path / "out")
    assert bundle.manifest.prompts["query"] == "[MASK]"
    assert len(bundle.encode_query(["a"])[0]) == (3 if settings else 24) + bool(settings)
    again = Bundle.open(bundle.path)
    assert again.manifest.sides == bundle.manifest.sides


def test_a_checkpoint_of_stanford_s_colbert(tmp_path: Path) -> None:
    bundle, _ = check_vectors(retrieval_models.stanford_colbert(tmp_path), tmp_path / "out")
    assert bundle.manifest.prompts == {"query": "[MASK] ", "document": "[UNK] "}
    assert len(bundle.encode_query(["a"])[0]) == 24
    assert bundle.manifest.sides["document"].max_length == 40


def test_what_is_refused(tmp_path: Path) -> None:
    source = retrieval_models.late_interaction(tmp_path)
    bundle = Bundle.open(export(Recipe(source=str(source)), tmp_path / "out").path)
    assert bundle.encode_query([]) == []
    with pytest.raises(UsageError, match="sentence-embedding or sparse-embedding is needed"):
        bundle.encode(TEXTS)
    with pytest.raises(UsageError, match="side is 'passage'; give query or document"):
        bundle.vectors(TEXTS, "passage")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no prompt 'passage'"):
        bundle.encode_query(TEXTS, prompt_name="passage")
    with pytest.raises(UsageError, match="batch_size is 0"):
        bundle.encode_query(TEXTS, batch_size=0)
    with pytest.raises(UsageError, match="leave max_length out"):
        bundle.rank("a", TEXTS, max_length=4)
    with pytest.raises(UsageError, match="of one width"):
        bundle.similarity([np.ones((2, 3))], [np.ones((2, 4))])
    with pytest.raises(UsageError, match="the code for a browser reads no answers of multi-vector"):
        export(Recipe(source=str(source), target="web"), tmp_path / "web")
    longer = retrieval_models.late_interaction(tmp_path / "longer", expansion=FIXED | {"length": 90})
    with pytest.raises(SourceError, match=r"query_expansion of 90 tokens needs .* this one takes 64"):
        export(Recipe(source=str(longer)), tmp_path / "none")


def test_scores_of_vectors() -> None:
    from sentence_transformers.util.similarity import maxsim as theirs

    rng = np.random.default_rng(0)
    queries, documents = (
        [rng.standard_normal((n, 4)).astype(np.float32) for n in counts] for counts in ((3, 1), (2, 5))
    )
    np.testing.assert_allclose(maxsim(queries, documents), theirs(queries, documents), atol=1e-5)
    mean = theirs(queries, documents, length_normalize=True)
    np.testing.assert_allclose(maxsim(queries, documents, mean=True), mean, atol=1e-5)
    np.testing.assert_allclose(maxsim(queries[0], documents[1]), theirs(queries[:1], documents[1:]), atol=1e-5)
    empty = np.zeros((0, 4), np.float32)
    assert (maxsim(queries, [empty])[:, 0] == np.asarray(theirs(queries, [empty]))[:, 0]).all()


def test_tokens_that_fill_a_text_up() -> None:
    batch = {"input_ids": np.array([[7, 8], [9, 0]]), "attention_mask": np.array([[1, 1], [1, 0]])}
    feeds, scored = side_feeds(batch, Side(max_length=8, expansion_id=3, expansion_length=3, skipped=[8]))
    assert feeds["input_ids"].tolist() == [[7, 8, 3], [9, 3, 3]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 0], [1, 0, 0]]
    assert scored.tolist() == [[True, False, True], [True, True, True]]
    attended, _ = side_feeds(batch, Side(max_length=8, expansion_id=3, expansion_length=3, attended=True))
    assert attended["attention_mask"].all()
    _, alone = side_feeds(batch, Side(max_length=8, only=[9]))
    assert alone.tolist() == [[False, False], [True, False]]
