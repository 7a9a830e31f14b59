"""Keep what torch traces of a model: tests export the same few models again and again, and tracing takes most of the time.

A trace of torch's and transformers' own modules depends on their structure alone, so one is kept for all weights and filled with
those of the model at hand. Where other code takes part, as in a factory or in rounding with learned scales, weights count too.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headway.exporter.capture import torch_model

trace = torch_model._export
"""The function that really traces."""

NAMES = ("_name_or_path", "id2label", "label2id", "problem_type")
"""Settings that no trace depends on: where the model lies, which differs in each test, and what its classes are called and mean."""

_PRINTED = ("torch.nn.modules.", "transformers.activations", "transformers.models.")
"""Modules that print what they are set to, or have it from the config."""

_KNOWN = (*_PRINTED, "headway.exporter.capture.")
_WHERE = "place"
"""What a module is called in messages, where the model lies among others: no trace depends on it."""

_FILLED = "filled"


def _bytes(tensor: Any) -> bytes:
    import torch

    return bytes(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())


def _known(wrapped: Any) -> bool:
    """Return whether all code that is traced is torch's, transformers' or Headway's, which never look at a weight's values."""
    return all(type(m).__module__.startswith(_KNOWN) for m in wrapped.modules())


def _settings(module: Any) -> list[str]:
    """Return what a module is set to, functions by their names, where its printed form need not say it."""
    if type(module).__module__.startswith(_PRINTED):
        return []
    told = []
    for name, value in sorted(vars(module).items()):
        if name == _WHERE:
            continue
        if callable(value) and hasattr(value, "__qualname__"):
            told.append(f"{name}={value.__module__}.{value.__qualname__}")
        elif value is None or isinstance(value, bool | int | float | str | tuple):
            told.append(f"{name}={value}")
    return told


def _key(wrapped: Any, source: Any, outputs: list[str]) -> str:
    """Return a digest of all that a trace depends on: module, config, weights (their values where need be), buffers, task and names."""
    config = getattr(getattr(wrapped.model, "config", None), "to_dict", dict)()
    config = {k: v for k, v in config.items() if k not in NAMES}
    parts = [repr(wrapped), str(source.task), *wrapped.names, *outputs, json.dumps(config, sort_keys=True, default=str)]
    parts += [f"{type(m).__module__} {_settings(m)}" for m in wrapped.modules()]
    digest = hashlib.sha256("\0".join(parts).encode())
    values = [] if _known(wrapped) else [p for _, p in wrapped.named_parameters()]
    for name, tensor in [*wrapped.named_parameters(), *wrapped.named_buffers()]:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
    for tensor in [*values, *(b for _, b in wrapped.named_buffers())]:
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _parameters(wrapped: Any) -> dict[str, Any]:
    return dict(wrapped.named_parameters(remove_duplicate=False))


def _mark(proto: Any, wrapped: Any) -> None:
    """Note in the model which of its initializers are parameters of the module, by their names."""
    parameters = _parameters(wrapped)
    same = [
        t.name for t in proto.graph.initializer if t.name in parameters and t.raw_data == _bytes(parameters[t.name])
    ]
    proto.metadata_props.add(key=_FILLED, value=json.dumps(same))


def _fill(proto: Any, wrapped: Any) -> None:
    """Give the noted initializers the values that the module has."""
    parameters = _parameters(wrapped)
    (note,) = (p for p in proto.metadata_props if p.key == _FILLED)
    proto.metadata_props.remove(note)
    names = set(json.loads(note.value))
    for tensor in proto.graph.initializer:
        if tensor.name in names:
            tensor.raw_data = _bytes(parameters[tensor.name])


@contextlib.contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Keep traces as files in `folder`, which several processes may share. A model that is traced twice is read once.

    The registry of operators that torch makes for each trace is made once for all.
    """
    import onnx
    import onnx_ir as ir
    from torch.onnx._internal.exporter import _registration

    folder.mkdir(parents=True, exist_ok=True)
    made = _registration.ONNXRegistry.from_torchlib

    def kept_trace(wrapped: Any, source: Any, outputs: list[str]) -> ir.Model:
        path = folder / f"{_key(wrapped, source, outputs)}.onnx"
        if not path.is_file():
            part = path.with_suffix(f".{os.getpid()}")
            proto = ir.to_proto(trace(wrapped, source, outputs))
            _mark(proto, wrapped)
            part.write_bytes(proto.SerializeToString())
            part.replace(path)
        proto = onnx.load_from_string(path.read_bytes())
        _fill(proto, wrapped)
        return ir.from_proto(proto)

    torch_model._export = kept_trace
    _registration.ONNXRegistry.from_torchlib = staticmethod(functools.cache(made))  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        torch_model._export = trace
        _registration.ONNXRegistry.from_torchlib = made  # type: ignore[method-assign]
