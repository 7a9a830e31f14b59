"""Speak KServe v2 over REST, as Triton's clients do: texts or raw tensors in, the model's own outputs out."""

from typing import Any

import numpy as np
from starlette.responses import Response

from .. import __version__
from ..manifest import TensorInfo
from .call import Call, parse_object, to_json
from .kserve_tensors import DATATYPES, datatype_of, read_tensor
from .refusal import Refusal, invalid
from .served_bundle import ServedBundle

TEXT = "text"
"""The name of the input that takes texts `[n]`, or pairs of texts `[n, 2]`."""

_HEADER = "inference-header-content-length"
_MOST_DIGITS = 12
VERSION = "1"


async def server(call: Call) -> dict[str, Any]:
    """Answer `GET /v2`."""
    return {"name": "headway", "version": __version__, "extensions": ["binary_tensor_data"]}


def _served(call: Call) -> ServedBundle:
    version = call.request.path_params.get("version", VERSION)
    if version != VERSION:
        raise Refusal(404, f"there is version {VERSION} alone, no {version[:20]!r}")
    return call.models.named(call.request.path_params["name"])


async def model(call: Call) -> dict[str, Any]:
    """Answer `GET /v2/models/NAME`: texts or the model's own inputs are sent, not both."""
    served = _served(call)
    return {
        "name": served.name,
        "versions": [VERSION],
        "platform": "headway",
        "inputs": [{"name": TEXT, "datatype": "BYTES", "shape": [-1]}, *map(_tensor, served.manifest.inputs)],
        "outputs": [*map(_tensor, served.manifest.outputs)],
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    shape = [d if isinstance(d, int) else -1 for d in info.shape]
    return {"name": info.name, "datatype": datatype_of(np.dtype(info.dtype)), "shape": shape}


async def model_ready(call: Call) -> dict[str, Any]:
    """Answer `GET /v2/models/NAME/ready`."""
    return {"name": _served(call).name, "ready": True}


async def infer(call: Call) -> Any:
    """Answer `POST /v2/models/NAME/infer`."""
    served = _served(call)
    head, tail = _split(await call.body(), call.request.headers.get(_HEADER))
    body = parse_object(head)
    inputs = _inputs(body.get("inputs"), tail)
    wanted = _wanted(body, served)
    if TEXT in inputs:
        arrays = await _of_texts(call, served, inputs)
    else:
        arrays = await _of_tensors(call, served, inputs)
    return _answer(served, body.get("id"), {name: arrays[name] for name in wanted}, wanted)


def _split(body: bytes, header: str | None) -> tuple[bytes, bytes]:
    """Return the JSON and the bytes after it."""
    if header is None:
        return body, b""
    if not (header.isdecimal() and len(header) <= _MOST_DIGITS) or int(header) > len(body):
        raise invalid(f"{_HEADER} is {header[:20]!r}, and the body has {len(body)} bytes")
    return body[: int(header)], body[int(header) :]


def _inputs(given: Any, tail: bytes) -> dict[str, Any]:
    """Return the tensors of a request: arrays and lists of texts, with the shape of texts under `None`."""
    if not isinstance(given, list) or not all(isinstance(tensor, dict) for tensor in given) or not given:
        raise invalid("inputs: a list of tensors is expected")
    tensors: dict[str, Any] = {}
    at = 0
    for tensor in given:
        name, datatype, shape = (tensor.get(key) for key in ("name", "datatype", "shape"))
        if not isinstance(name, str) or not isinstance(datatype, str) or not isinstance(shape, list):
            raise invalid("inputs: each has name, datatype, shape and data")
        size = _parameters(tensor).get("binary_data_size")
        data = tensor.get("data")
        if size is not None:
            if type(size) is not int or not 0 <= size <= len(tail) - at:
                raise invalid(f"{name[:60]}: binary_data_size {str(size)[:20]} does not fit the body")
            data, at = tail[at : at + size], at + size
        if name in tensors:
            raise invalid(f"{name[:60]}: given twice")
        value = read_tensor(name[:60], datatype, shape, data)
        tensors[name] = _pairs(value, shape) if datatype == "BYTES" else value
    if at != len(tail):
        raise invalid(f"{len(tail) - at} bytes at the end of the body belong to no tensor")
    return tensors


def _parameters(of: dict[str, Any]) -> dict[str, Any]:
    parameters = of.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise invalid("parameters: an object is expected")
    return parameters


def _pairs(texts: list[str], shape: list[int]) -> list[Any]:
    """Return texts `[n]` or `[n, 1]` as they are, and `[n, 2]` as pairs."""
    if len(shape) == 2 and shape[1] == 2:
        return list(zip(texts[::2], texts[1::2], strict=True))
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return texts
    raise invalid(f"{TEXT}: shape {shape} is none; give [n] for texts, or [n, 2] for pairs")


async def _of_texts(call: Call, served: ServedBundle, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    if len(inputs) > 1:
        raise invalid(f"give {TEXT}, or the model's own inputs, not both")
    if served.manifest.task == "multiple-choice":
        raise invalid(f"{served.name} reads several texts as one row: give its own inputs, [batch, choices, sequence]")
    if served.manifest.task == "multi-vector":
        raise invalid(
            f"{served.name} reads queries and documents in two ways: give its own inputs, as Bundle.vectors makes them"
        )
    call.check_texts(len(inputs[TEXT]), TEXT)
    encodings = await served.encode(inputs[TEXT], None, TEXT)
    _, waiting = await served.run(encodings)
    call.use(served, encodings, waiting)
    return served.runner.outputs(waiting, (len(encodings), max(len(e.ids) for e in encodings)))


async def _of_tensors(call: Call, served: ServedBundle, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    known = [tensor.name for tensor in served.manifest.inputs]
    unknown = [name for name in inputs if name not in known]
    if unknown:
        raise invalid(f"{unknown[0][:60]!r} is no input of {served.name}: give {TEXT}, or {', '.join(known)}")
    ids = inputs.get("input_ids")
    dimensions = 3 if served.manifest.task == "multiple-choice" else 2
    if ids is None or isinstance(ids, list) or ids.ndim != dimensions or not ids.size:
        raise invalid(f"input_ids: integers of {dimensions} dimensions are expected, at least one")
    call.check_texts(int(np.prod(ids.shape[:-1])), "input_ids")
    if ids.shape[-1] > served.max_length:
        raise Refusal(
            413, f"input_ids has {ids.shape[-1]} tokens in a row, and {served.name} reads {served.max_length}"
        )
    if any(isinstance(array, list) for array in inputs.values()):
        raise invalid("the model's own inputs are integers")
    arrays, waiting = await served.run_tensors(inputs)
    call.use(served, waiting.rows, waiting)
    return arrays


def _wanted(body: dict[str, Any], served: ServedBundle) -> dict[str, bool]:
    """Return the names of the outputs that are asked for, and whether each is sent as bytes."""
    known = [output.name for output in served.manifest.outputs]
    default = bool(_parameters(body).get("binary_data_output", False))
    outputs = body.get("outputs") or [{"name": name} for name in known]
    wanted = {}
    for output in outputs if isinstance(outputs, list) else []:
        name = output.get("name") if isinstance(output, dict) else None
        if name not in known:
            raise invalid(f"{str(name)[:60]!r} is no output of {served.name}: there are {', '.join(known)}")
        wanted[str(name)] = bool(_parameters(output).get("binary_data", default))
    if not wanted:
        raise invalid("outputs: a list of names is expected")
    return wanted


def _answer(served: ServedBundle, id: object, arrays: dict[str, np.ndarray], binary: dict[str, bool]) -> Any:
    outputs, tail = [], []
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array)
        tensor: dict[str, Any] = {"name": name, "datatype": datatype_of(plain.dtype), "shape": list(plain.shape)}
        if binary[name]:
            tail.append(plain.astype(DATATYPES[tensor["datatype"]], copy=False).tobytes())
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            tensor["data"] = plain.reshape(-1)
        outputs.append(tensor)
    body: dict[str, Any] = {"model_name": served.name, "model_version": VERSION, "outputs": outputs}
    if isinstance(id, str):
        body["id"] = id
    if not tail:
        return body
    head = to_json(body)
    return Response(b"".join([head, *tail]), headers={_HEADER: str(len(head))}, media_type="application/octet-stream")


def error_body(refusal: Refusal) -> dict[str, Any]:
    """Return a refusal as KServe's clients read it."""
    return {"error": refusal.message}
