"""Keep what torch traces of a model: tests export the same few models again and again, and tracing takes most of the time."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headway.exporter.capture import torch_model

trace = torch_model._export
"""The function that really traces."""

NAMES = ("_name_or_path", "id2label", "label2id")
"""Settings that no trace depends on: where the model lies, which differs in each test, and what its classes are called."""


def _key(wrapped: Any, source: Any, outputs: list[str]) -> str:
    """Return a digest of all that a trace depends on: module, config, weights, buffers, task and names."""
    config = getattr(getattr(wrapped.model, "config", None), "to_dict", dict)()
    config = {k: v for k, v in config.items() if k not in NAMES}
    parts = [repr(wrapped), str(source.task), *wrapped.names, *outputs, json.dumps(config, sort_keys=True, default=str)]
    digest = hashlib.sha256("\0".join([*parts, *(type(m).__module__ for m in wrapped.modules())]).encode())
    for name, tensor in [*wrapped.named_parameters(), *wrapped.named_buffers()]:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Keep traces as files in `folder`, which several processes may share. A model that is traced twice is read once."""
    import onnx
    import onnx_ir as ir

    folder.mkdir(parents=True, exist_ok=True)

    def kept_trace(wrapped: Any, source: Any, outputs: list[str]) -> ir.Model:
        path = folder / f"{_key(wrapped, source, outputs)}.onnx"
        if not path.is_file():
            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(ir.to_proto(trace(wrapped, source, outputs)).SerializeToString())
            part.replace(path)
        return ir.from_proto(onnx.load_from_string(path.read_bytes()))

    torch_model._export = kept_trace
    try:
        yield
    finally:
        torch_model._export = trace
