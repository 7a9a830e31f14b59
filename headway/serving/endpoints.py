"""List what the server answers: one row for each path, read by the router and by the OpenAPI page."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from . import kserve_api, openai_api, tei_api
from .call import Call
from .refusal import Refusal


@dataclass(frozen=True)
class Endpoint:
    """A path and what answers it. `example`: a body that the page shows."""

    method: Literal["GET", "POST"]
    path: str
    answer: Callable[[Call], Awaitable[Any]]
    says: str
    error_body: Callable[[Refusal], dict[str, Any]] = tei_api.error_body
    example: dict[str, Any] = field(default_factory=dict)


def _kserve(method: Literal["GET", "POST"], path: str, answer: Any, says: str, **rest: Any) -> list[Endpoint]:
    """Return the rows of a path with a version in it and without."""
    model = "/v2/models/{name}"
    return [
        Endpoint(method, start + path, answer, says, kserve_api.error_body, **rest)
        for start in (model, f"{model}/versions/{{version}}")
    ]


_TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["the train runs on time"]}

ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/embeddings",
        openai_api.embeddings,
        "Embeddings, as OpenAI's API gives them.",
        openai_api.error_body,
        {"model": "NAME", "input": ["the train runs on time"], "encoding_format": "float"},
    ),
    Endpoint("GET", "/v1/models", openai_api.models, "The models that are served.", openai_api.error_body),
    Endpoint("GET", "/v1/models/{name}", openai_api.model, "One of them.", openai_api.error_body),
    Endpoint(
        "POST", "/embed", tei_api.embed, "A vector for each text.", example={"inputs": ["the train runs on time"]}
    ),
    Endpoint(
        "POST", "/embed_all", tei_api.embed_all, "A vector for each token.", example={"inputs": ["the train runs"]}
    ),
    Endpoint(
        "POST",
        "/embed_sparse",
        tei_api.embed_sparse,
        "The dimensions of a sparse embedding that are not zero.",
        example={"inputs": ["the train runs"]},
    ),
    Endpoint(
        "POST",
        "/rerank",
        tei_api.rerank,
        "Texts by their score for a query, the best first.",
        example={"query": "is the train late?", "texts": ["the train runs on time", "bread is cheap"]},
    ),
    Endpoint(
        "POST",
        "/predict",
        tei_api.predict,
        "Labels with their scores, or entities.",
        example={"inputs": "the train runs on time"},
    ),
    Endpoint("GET", "/info", tei_api.info, "What is served, and how fast it was measured."),
    Endpoint("GET", "/v2", kserve_api.server, "The server's name and version.", kserve_api.error_body),
    *_kserve("GET", "", kserve_api.model, "A model's inputs and outputs."),
    *_kserve("GET", "/ready", kserve_api.model_ready, "Whether a model answers."),
    *_kserve(
        "POST",
        "/infer",
        kserve_api.infer,
        "A model's own outputs, for texts or tensors.",
        example={"inputs": [_TENSOR]},
    ),
)
