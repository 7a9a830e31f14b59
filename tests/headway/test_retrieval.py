"""Embeddings and rankings of a bundle are those of sentence-transformers, from text on."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headway
from headway.bundle import Bundle
from headway.errors import SourceError, UsageError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support import models, retrieval_models
from tests.support.order import check_order
from tests.support.retrieval_models import TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::headway.errors.HeadwayWarning")


def exported(spec: str, out: Path) -> Bundle:
    return Bundle.open(export(Recipe(source=spec), out).path)


def sparse_library(directory: Path) -> Any:
    from sentence_transformers import SparseEncoder

    return SparseEncoder(str(directory), device="cpu", local_files_only=True)


def dense(rows: Any) -> np.ndarray:
    return np.asarray(rows.to_dense())


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Any]:
    folder = tmp_path_factory.mktemp("sparse")
    source = retrieval_models.splade(folder, max_active_dims=40)
    return exported(str(source), folder / "out"), sparse_library(source)


def test_sparse_embeddings(sparse: tuple[Bundle, Any]) -> None:
    bundle, library = sparse
    np.testing.assert_allclose(bundle.encode(TEXTS), dense(library.encode(TEXTS)), atol=1e-5)
    for name in ("query", "document"):
        ours, theirs = (model.encode(TEXTS, prompt_name=name) for model in sparse)
        np.testing.assert_allclose(ours, dense(theirs), atol=1e-5)
    np.testing.assert_allclose(bundle.encode_query(TEXTS), dense(library.encode_query(TEXTS)), atol=1e-5)
    np.testing.assert_allclose(bundle.encode_document(TEXTS), dense(library.encode_document(TEXTS)), atol=1e-5)
    assert np.abs(bundle.encode_query(TEXTS) - bundle.encode_document(TEXTS)).max() > 1e-3


def test_indices_and_weights(sparse: tuple[Bundle, Any]) -> None:
    bundle, _ = sparse
    rows, found = bundle.encode(TEXTS, prompt_name="query"), bundle.sparse(TEXTS, prompt_name="query")
    for row, text in zip(rows, found, strict=True):
        assert len(text.indices) <= 40 and (text.weights > 0).all()
        again = np.zeros_like(row)
        again[text.indices] = text.weights
        np.testing.assert_array_equal(again, row)
    assert [text.truncated for text in found] == [False, False, False, True, False]
    assert bundle.sparse([]) == [] and bundle.encode([]).shape == (0, rows.shape[1])


def test_sparse_scores(sparse: tuple[Bundle, Any]) -> None:
    bundle, library = sparse
    queries, documents = library.encode_query(TEXTS[:1]), library.encode_document(TEXTS)
    wanted = np.asarray(library.similarity(queries, documents))
    np.testing.assert_allclose(
        bundle.similarity(bundle.encode_query(TEXTS[:1]), bundle.encode_document(TEXTS)), wanted, atol=1e-4
    )
    order = bundle.rank(TEXTS[0], TEXTS, top_k=3)
    assert len(order) == 3
    check_order([r.index for r in order], wanted[0])
    assert bundle.manifest.similarity == "dot"


def test_what_a_sparse_bundle_refuses(sparse: tuple[Bundle, Any]) -> None:
    bundle, _ = sparse
    with pytest.raises(UsageError, match="dimensions of a sparse embedding are tokens; leave truncate_dim out"):
        bundle.encode(TEXTS, truncate_dim=4)
    with pytest.raises(UsageError, match="no prompt 'passage'; the bundle has: document, query"):
        bundle.sparse(TEXTS, prompt_name="passage")
    with pytest.raises(UsageError, match="a list of texts"):
        bundle.sparse("one string")
    with pytest.raises(UsageError, match="text 0 is a pair"):
        bundle.encode([("a", "b")])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="top_k is 0"):
        bundle.rank("a", TEXTS, top_k=0)
    with pytest.raises(UsageError, match="text 0 is of type int"):
        bundle.rank(1, TEXTS)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot be compared"):
        bundle.similarity(np.ones((1, 3)), np.ones((1, 4)))
    with pytest.raises(UsageError, match="text-classification is needed"):
        bundle.labels(TEXTS)


def test_each_route_of_a_router(tmp_path: Path) -> None:
    source = retrieval_models.router(tmp_path)
    library = sparse_library(source)
    with pytest.raises(SourceError, match="a Router of the routes document, query: name one, as in model#document"):
        export(Recipe(source=str(source)), tmp_path / "none")
    with pytest.raises(SourceError, match="there is no route 'passage'; the Router has: document, query"):
        export(Recipe(source=f"{source}#passage"), tmp_path / "none")
    queries, documents = (exported(f"{source}#{route}", tmp_path / route) for route in ("query", "document"))
    assert (
        headway.verify(queries.path).ok and queries.manifest.route == "query"
    )  # its recipe names the directory beside it
    texts = [text for text in TEXTS if text]
    np.testing.assert_allclose(queries.encode_query(texts), dense(library.encode_query(texts)), atol=1e-5)
    np.testing.assert_allclose(documents.encode_document(TEXTS), dense(library.encode_document(TEXTS)), atol=2e-5)
    assert not queries.encode(["", "a"])[0].any()
    with pytest.raises(UsageError, match="the bundle of the route 'query' encodes these texts"):
        documents.encode_query(texts)
    with pytest.raises(UsageError, match="the bundle of the route 'query' encodes these texts"):
        documents.rank("a", texts)


def test_a_static_embedding(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    source = retrieval_models.static(tmp_path, truncate_dim=16, similarity_fn_name="euclidean")
    library = SentenceTransformer(str(source), device="cpu", local_files_only=True)
    bundle = exported(str(source), tmp_path / "out")
    np.testing.assert_allclose(bundle.encode(TEXTS), library.encode(TEXTS), atol=1e-6)
    assert not bundle.encode([""]).any() and bundle.encode(TEXTS).shape == (len(TEXTS), 16)
    queries, documents = library.encode_query(TEXTS), library.encode_document(TEXTS)
    np.testing.assert_allclose(bundle.encode_query(TEXTS), queries, atol=1e-6)
    ours = bundle.similarity(bundle.encode_query(TEXTS), bundle.encode_document(TEXTS))
    np.testing.assert_allclose(ours, library.similarity(queries, documents), atol=1e-3)
    assert bundle.manifest.similarity == "euclidean"
    with pytest.raises(SourceError, match="no encoder runs, so that there is nothing for task 'feature-extraction'"):
        export(Recipe(source=str(source), task="feature-extraction"), tmp_path / "none")


def test_a_static_embedding_keeps_the_limit_of_its_tokenizer(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    source = retrieval_models.static(tmp_path)
    (file,) = source.rglob("tokenizer.json")
    raw = json.loads(file.read_text())
    raw["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(raw))
    bundle = exported(str(source), tmp_path / "out")
    text = "rain and bread with time and a small price"
    library = SentenceTransformer(str(source), device="cpu", local_files_only=True)
    np.testing.assert_allclose(bundle.encode([text]), library.encode([text]), atol=1e-6)
    assert bundle.manifest.tokenizer.max_length == 4


def test_prompts_of_sides_are_those_of_the_library(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    source = retrieval_models.static(tmp_path)
    file = source / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prompts": {"query": "rain ", "passage": "bread "}}))
    bundle = exported(str(source), tmp_path / "out")
    library = SentenceTransformer(str(source), device="cpu", local_files_only=True)
    np.testing.assert_allclose(bundle.encode_query(TEXTS), library.encode_query(TEXTS), atol=1e-6)
    np.testing.assert_allclose(bundle.encode_document(TEXTS), library.encode_document(TEXTS), atol=1e-6)
    named = {"prompt_name": "document"}
    np.testing.assert_allclose(bundle.encode(TEXTS, **named), library.encode(TEXTS, **named), atol=1e-6)


def test_embeddings_that_are_none_are_refused(tmp_path: Path) -> None:
    bundle = exported(str(retrieval_models.static(tmp_path)), tmp_path / "out")
    with pytest.raises(UsageError, match="embeddings are rows of numbers"):
        bundle.similarity(["a"], ["b"])  # type: ignore[arg-type, list-item]
    bundle.manifest.similarity = "hamming"
    with pytest.raises(SourceError, match="does not know the similarity 'hamming'"):
        bundle.similarity(bundle.encode(["a"]), bundle.encode(["b"]))


def test_routes_that_are_chosen_by_more_than_their_name_are_refused(tmp_path: Path) -> None:
    source = retrieval_models.router(tmp_path)
    (file,) = source.rglob("router_config.json")
    raw = json.loads(file.read_text())
    raw["parameters"] = {**raw.get("parameters", {}), "route_mappings": {"('query', None)": "document"}}
    file.write_text(json.dumps(raw))
    with pytest.raises(SourceError, match="route_mappings choose a route"):
        export(Recipe(source=f"{source}#query"), tmp_path / "none")


@cache
def _classifier(folder: Path) -> Bundle:
    source = models.make_model(folder / "source", "bert", "text-classification", num_hidden_layers=3, num_labels=3)
    return exported(str(source), folder / "out")


def test_other_models_have_no_embeddings(tmp_path: Path) -> None:
    bundle = _classifier(tmp_path)
    for call in (bundle.encode, bundle.encode_query, bundle.encode_document, bundle.sparse):
        with pytest.raises(UsageError, match="a text-classification bundle"):
            call(TEXTS)
    with pytest.raises(UsageError, match="a text has 3 scores"):
        bundle.rank("a", TEXTS)
    with pytest.raises(UsageError, match=r"no label begins with entail \(LABEL_0"):
        bundle.classify(TEXTS, ["rain"])


@pytest.mark.parametrize("make", [retrieval_models.splade, retrieval_models.pylate], ids=["sparse", "multi-vector"])
def test_integers_are_judged_by_the_scores_that_a_search_uses(make: Any, tmp_path: Path) -> None:
    lines = [" ".join(models.WORDS[i % 21 :: 1 + i % 5][:8]) for i in range(60)]
    (tmp_path / "lines.txt").write_text("\n".join(dict.fromkeys(lines)))
    source = make(tmp_path / "source")
    made = headway.compress(
        str(source), tmp_path / "out", data=[str(tmp_path / "lines.txt")], quantize="int8", max_drop=20
    )
    (judged,) = made.manifest.compression["agreement"]["files"]
    assert judged["measure"] == "correlation of similarities" and 80 < judged["points"] <= 100
    whole = exported(str(source), tmp_path / "whole")
    scores = [b.similarity(b.encode_query(TEXTS), b.encode_document(TEXTS)) for b in (Bundle.open(made.path), whole)]
    assert np.corrcoef(scores[0].ravel(), scores[1].ravel())[0, 1] > 0.9
