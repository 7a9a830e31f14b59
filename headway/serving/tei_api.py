"""Speak the API of Hugging Face's text-embeddings-inference: `/embed`, `/embed_all`, `/embed_sparse`, `/rerank`, `/predict`, `/info`."""

from typing import Any

import numpy as np

from .. import __version__
from ..embeddings import ranked, shortened
from .call import Call, optional_bool, refuse_unless, texts_of
from .openai_api import check_dimensions
from .refusal import Refusal, invalid
from .served_bundle import EMBEDDING, ServedBundle, table_record

_CUTS = {"truncate": None, "truncation_direction": "Right"}
EMBED = {"inputs": ..., "normalize": True, "prompt_name": None, "dimensions": None, **_CUTS}
EMBED_SPARSE = {"inputs": ..., "prompt_name": None, **_CUTS}
EMBED_ALL = {"inputs": ..., "prompt_name": None, **_CUTS}
RERANK = {"query": ..., "texts": ..., "raw_scores": False, "return_text": False, **_CUTS}
PREDICT = {"inputs": ..., "raw_scores": False, **_CUTS}

_HIDDEN = "last_hidden_state"

Sequences = list[str | tuple[str, str]]


def _cut(body: dict[str, Any]) -> bool | None:
    refuse_unless(body["truncation_direction"], ("Right", "right"), "truncation_direction")
    return optional_bool(body["truncate"], "truncate")


async def _run(call: Call, served: ServedBundle, body: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return the outputs of each text of `inputs`. Refusal where they are none or too many, and for `dimensions` of another size."""
    refuse_unless(body["prompt_name"], (None,), "prompt_name")
    texts = texts_of(body["inputs"], "inputs")
    call.check_texts(len(texts), "inputs")
    if "dimensions" in body:
        check_dimensions(body["dimensions"], served)
    encodings = await served.encode(texts, _cut(body), "inputs")
    results, waiting = await served.run(encodings)
    call.use(served, encodings, waiting)
    return results


async def embed(call: Call) -> list[np.ndarray]:
    """Answer `POST /embed`: a vector for each text, of length 1 unless `normalize` is false."""
    body = await call.json(EMBED)
    served = call.models.first(lambda s: s.gives_embeddings, "embeddings")
    vectors = [np.ascontiguousarray(result[EMBEDDING]) for result in await _run(call, served, body)]
    return [shortened(vector, None, normalize=True) for vector in vectors] if body["normalize"] else vectors


async def embed_sparse(call: Call) -> list[list[dict[str, Any]]]:
    """Answer `POST /embed_sparse`: the dimensions of each text that are not zero, with their weights."""
    body = await call.json(EMBED_SPARSE)
    served = call.models.first(lambda s: s.gives_sparse, "sparse embeddings")
    rows = [result[EMBEDDING] for result in await _run(call, served, body)]
    return [[{"index": int(i), "value": float(row[i])} for i in np.flatnonzero(row)] for row in rows]


async def embed_all(call: Call) -> list[np.ndarray]:
    """Answer `POST /embed_all`: a vector for each token of each text, special tokens among them."""
    body = await call.json(EMBED_ALL)
    served = call.models.first(lambda s: any(o.name == _HIDDEN for o in s.manifest.outputs), "a vector for each token")
    return [np.ascontiguousarray(result[_HIDDEN]) for result in await _run(call, served, body)]


async def rerank(call: Call) -> list[dict[str, Any]]:
    """Answer `POST /rerank`: the texts by their score for a query, the best first."""
    body = await call.json(RERANK)
    served = call.models.first(lambda s: s.reranks, "a score for a pair of texts")
    texts = texts_of(body["texts"], "texts")
    call.check_texts(len(texts), "texts")
    if not isinstance(body["query"], str):
        raise invalid("query: a text is expected", 422)
    scores = await _scores(call, served, [(body["query"], text) for text in texts], body, "texts")
    found = ranked(texts, scores[:, 0], None)
    return [{"index": r.index, "score": r.score, **({"text": r.text} if body["return_text"] else {})} for r in found]


async def _scores(call: Call, served: ServedBundle, texts: Sequences, body: dict[str, Any], name: str) -> np.ndarray:
    """Return scores `[texts, labels]`, or logits where `raw_scores` is asked for."""
    encodings = await served.encode(texts, _cut(body), name)
    results, waiting = await served.run(encodings)
    call.use(served, encodings, waiting)
    logits = np.stack([result["logits"] for result in results])
    assert served.scoring is not None
    return logits if body["raw_scores"] else served.scoring.scores(logits)


async def predict(call: Call) -> list[Any]:
    """Answer `POST /predict`: the labels of each text with their scores, the largest first; or the entities of each text."""
    body = await call.json(PREDICT)
    tasks = ("text-classification", "token-classification")
    served = call.models.first(lambda s: s.manifest.task in tasks, "labels")
    texts, single = sequences(body["inputs"])
    call.check_texts(len(texts), "inputs")
    if served.manifest.task == "text-classification":
        scores = await _scores(call, served, texts, body, "inputs")
        answers: list[Any] = [_labels(served, row) for row in scores]
    else:
        refuse_unless(body["raw_scores"], (False,), "raw_scores")
        answers = await _entities(call, served, texts, body)
    return answers[0] if single else answers


def _labels(served: ServedBundle, row: np.ndarray) -> list[dict[str, Any]]:
    return [{"label": served.label(int(i)), "score": float(row[i])} for i in np.argsort(-row, kind="stable")]


async def _entities(call: Call, served: ServedBundle, texts: Sequences, body: dict[str, Any]) -> list[Any]:
    """Return the entities of each text, under the names that the pipeline of transformers gives their parts."""
    singles = [text for text in texts if isinstance(text, str)]
    if len(singles) < len(texts):
        raise invalid("inputs: this model labels single texts, no pairs", 422)
    encodings = await served.encode(texts, _cut(body), "inputs")  # refuses what is too long
    found = await served.call(lambda bundle: bundle.entities(singles, batch_size=len(singles)))
    call.use(served, encodings)
    names = {"label": "entity_group", "score": "score", "text": "word", "start": "start", "end": "end"}
    return [[{new: entity[old] for old, new in names.items()} for entity in entities] for entities in found]


def sequences(value: object) -> tuple[Sequences, bool]:
    """Return the texts and pairs of `inputs`, and whether it is a single one: text, [text], [text, text], or a list of such lists."""
    if isinstance(value, str):
        return [value], True
    if isinstance(value, list) and value and all(isinstance(item, list) for item in value):
        return [_sequence(item) for item in value], False
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [_sequence(value)], True
    raise invalid("inputs: a text, a pair of texts, or a list of lists of one or two texts is expected", 422)


def _sequence(parts: list[Any]) -> str | tuple[str, str]:
    if not 1 <= len(parts) <= 2 or not all(isinstance(part, str) for part in parts):
        raise invalid(
            "inputs: one text or two are expected in each list; several texts are a list of lists, as [[a], [b]]", 422
        )
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])


async def info(call: Call) -> dict[str, Any]:
    """Answer `GET /info`: the first model as TEI describes it, and all of them as they were measured."""
    first = call.models.bundles[0]
    settings = call.settings
    return {
        "model_id": first.name,
        "model_sha": first.opened.sha256,
        "model_dtype": "float32",
        "model_type": _model_type(first),
        "max_input_length": first.max_length,
        "max_batch_tokens": first.queue.budget,
        "max_client_batch_size": settings.most_texts,
        "auto_truncate": settings.truncate,
        "version": __version__,
        "models": [_about(served) for served in call.models.bundles],
    }


def _about(served: ServedBundle) -> dict[str, Any]:
    opened = served.opened
    return {
        "name": served.name,
        "task": served.manifest.task,
        "target": served.manifest.target,
        "sha256": opened.sha256,
        "max_input_length": served.max_length,
        "batch_tokens": served.queue.budget,
        "batch_wait_ms": round(1e3 * served.queue.wait, 3),
        "measured": table_record(opened.table),
    }


def _model_type(served: ServedBundle) -> dict[str, Any]:
    labels = {int(i): name for i, name in served.manifest.labels.items()}
    described = {"id2label": labels, "label2id": {name: i for i, name in labels.items()}}
    if served.reranks:
        return {"reranker": described}
    return {"classifier": described} if labels else {"embedding": {"pooling": "model"}}


def error_body(refusal: Refusal) -> dict[str, Any]:
    """Return a refusal as TEI's clients read it."""
    return {"error": refusal.message, "error_type": refusal.kind}
