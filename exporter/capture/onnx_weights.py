"""Find the weights that an `.onnx` file keeps in files beside it: whole, in its folder, or linked as in the hub's cache."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from ...errors import SourceError

_SMALL = 1 << 16
_BLOBS = "blobs"
"""The folder of a hub's cache that the links of its snapshots lead to."""


def find_external_data(model: ir.Model, path: Path) -> None:
    """Point each external tensor of the model at `path` to its file, links followed. Small ones are loaded.

    Raise SourceError where a file is not there, lies elsewhere, or is shorter than its tensors.
    """
    tensors = list(_external(model))
    files = {str(t.location): path.parent / str(t.location) for _, t in tensors}
    missing = sorted(str(file) for file in files.values() if not file.is_file())
    if missing:
        raise SourceError(f"{path}: its external data is not there: {', '.join(missing)}: copy it beside the file")
    real = {location: _real(path, file) for location, file in files.items()}
    sizes = {file: file.stat().st_size for file in real.values()}
    for value, tensor in tensors:
        file = real[str(tensor.location)]
        _check_whole(path, value, tensor, file, sizes[file])
        # The containment check of onnx_ir knows neither the hub's cache nor hard links: this one has been made here.
        found = ir.ExternalTensor(
            str(file), tensor.offset, tensor.length, tensor.dtype, shape=ir.Shape(tensor.shape), name=tensor.name or ""
        )
        # onnx's own passes do not read external files.
        value.const_value = ir.Tensor(found.numpy().copy(), name=value.name) if tensor.nbytes < _SMALL else found


def _external(model: ir.Model) -> Iterator[tuple[ir.Value, ir.ExternalTensor]]:
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            yield value, value.const_value


def _real(path: Path, file: Path) -> Path:
    """Return where a data file really lies: in the model's folder, or among the blobs of the same repository in a hub's cache."""
    real = Path(os.path.realpath(file))
    folder = Path(os.path.realpath(path.parent))
    cache = next((p.parent for p in folder.parents if p.name == "snapshots"), None)
    allowed = [folder, *([cache / _BLOBS] if cache is not None else [])]
    if ".." in file.relative_to(path.parent).parts or not any(real.is_relative_to(place) for place in allowed):
        raise SourceError(
            f"{path}: its external data {file.name} leads out of its folder, to {real}: copy that file beside the model if you trust it"
        )
    return real


def _check_whole(path: Path, value: ir.Value, tensor: ir.ExternalTensor, file: Path, size: int) -> None:
    offset, needed = tensor.offset or 0, math.ceil(tensor.nbytes)
    length = tensor.length if tensor.length is not None else needed
    if offset < 0 or length != needed:
        raise SourceError(
            f"{path}: damaged: {value.name} needs {needed} bytes of {file.name}, and the file gives it {length} from {offset}: "
            "download it again"
        )
    if offset + needed > size:
        raise SourceError(
            f"{file}: cut short: {path.name} needs {offset + needed} bytes of it for {value.name}, and it has {size}: download it again"
        )
