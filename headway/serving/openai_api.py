"""Speak OpenAI's embeddings API: `/v1/embeddings` and `/v1/models`."""

import base64
from typing import Any

import numpy as np

from .call import Call, optional_bool, refuse_unless, texts_of
from .refusal import Refusal, invalid
from .served_bundle import EMBEDDING, ServedBundle

_KINDS = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}

FIELDS = {
    "input": ...,
    "model": ...,
    "encoding_format": "float",
    "dimensions": None,
    "user": "",
    "truncate": None,
}


async def embeddings(call: Call) -> dict[str, Any]:
    """Answer `POST /v1/embeddings`: the model's own vectors, as numbers or as base64 of little-endian float32."""
    body = await call.json(FIELDS)
    served = call.models.named(body["model"])
    if not served.gives_embeddings:
        raise invalid(f"{served.name} is for {served.manifest.task} and gives no embeddings")
    texts = texts_of(body["input"], "input")
    call.check_texts(len(texts), "input")
    refuse_unless(body["encoding_format"], ("float", "base64"), "encoding_format")
    check_dimensions(body["dimensions"], served)
    encodings = await served.encode(texts, optional_bool(body["truncate"], "truncate"), "input")
    results, waiting = await served.run(encodings)
    call.use(served, encodings, waiting)
    vectors = [result[EMBEDDING] for result in results]
    shown = _as_base64 if body["encoding_format"] == "base64" else np.ascontiguousarray
    data = [{"object": "embedding", "index": i, "embedding": shown(vector)} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": call.tokens, "total_tokens": call.tokens}
    return {"object": "list", "data": data, "model": served.name, "usage": usage}


def _as_base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def check_dimensions(wanted: object, served: ServedBundle) -> None:
    """Refuse embeddings of another size than the model's: to cut them would need a model that was trained for it."""
    (size,) = [output.shape[-1] for output in served.manifest.outputs if output.name == EMBEDDING]
    if wanted is not None and wanted != size:
        raise invalid(
            f"dimensions {str(wanted)[:20]}: this model's embeddings have {size}, and are not cut; leave it out", 422
        )


async def models(call: Call) -> dict[str, Any]:
    """Answer `GET /v1/models`."""
    return {"object": "list", "data": [_model(served) for served in call.models.bundles]}


async def model(call: Call) -> dict[str, Any]:
    """Answer `GET /v1/models/NAME`."""
    return _model(call.models.named(call.request.path_params["name"]))


def _model(served: ServedBundle) -> dict[str, Any]:
    return {"id": served.name, "object": "model", "created": 0, "owned_by": "headway"}


def error_body(refusal: Refusal) -> dict[str, Any]:
    """Return a refusal as OpenAI's clients read it."""
    kind = _KINDS.get(refusal.status, "invalid_request_error")
    return {"error": {"message": refusal.message, "type": kind, "param": None, "code": refusal.kind}}
