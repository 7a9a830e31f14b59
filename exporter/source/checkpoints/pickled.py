"""Read pickled state dicts without running code, and take them out of what trainers save around them. Imports torch."""

import zipfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ....errors import SourceError

_STATES = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")
"""Keys under which trainers keep the weights."""

_AVERAGES = ("ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema")
"""Keys under which they keep averages of the weights."""

_TORCHAO = "torchao"

_TYPES = "._packed_params.dtype"
"""The type of a quantized tensor, beside the tensor, which has it itself."""

_DEEPEST = 3


def read_pickle(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the tensors of a pickled state dict by name, and the names of what else the file holds.

    Averaged weights that lie beside the others keep their key as a first part of their names. SourceError for a pickle that would
    run code, that holds no state dict, or averages without names.
    """
    import torch

    loaded, left = _loaded(path), []
    for _ in range(_DEEPEST):
        found = [key for key in (*_STATES, *_AVERAGES) if isinstance(loaded.get(key), Mapping)]
        if not found or any(isinstance(value, torch.Tensor) for value in loaded.values()):
            break
        averages = [key for key in found if key in _AVERAGES]
        left += [str(key) for key in loaded if key not in (found[0], *averages)]
        state = dict(loaded[found[0]])
        for key in averages if found[0] not in averages else []:
            state |= {f"{key}.{name}": value for name, value in _named(path, key, loaded[key]).items()}
        loaded = _named(path, found[0], loaded[found[0]]) if found[0] in averages else state
    entries = {str(name): dict(_parts(str(name), value)) for name, value in loaded.items()}
    tensors = {n: t for parts in entries.values() for n, t in parts.items() if isinstance(t, torch.Tensor)}
    if not tensors:
        raise SourceError(
            f"{path}: no state dict: {', '.join(map(str, list(loaded)[:5])) or 'nothing'} instead of tensors by name: save "
            "model.state_dict()"
        )
    return tensors, left + [
        name for name, parts in entries.items() if not name.endswith(_TYPES) and not parts.keys() & tensors.keys()
    ]


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of an entry: a pair's under `name.0` and `name.1`, those of a quantized one as safetensors files name them."""
    names = [*getattr(value, "tensor_data_names", ()), *getattr(value, "optional_tensor_data_names", ())]
    if names:
        module, _, own = name.rpartition(".")
        for part in names:
            yield f"{module}._{own}_{part}", getattr(value, part, None)
    elif isinstance(value, tuple):
        for i, part in enumerate(value):
            yield f"{name}.{i}", part
    else:
        yield name, value


def _named(path: Path, key: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tensors of averaged weights. SourceError where they are a list without names."""
    if "shadow_params" in value:
        raise SourceError(
            f"{path}: {key}.shadow_params are averages of the weights without names, so that they cannot be told apart: save the set of "
            "weights that you want alone"
        )
    return next((value[k] for k in _STATES if isinstance(value.get(k), Mapping)), value)


def _loaded(path: Path) -> Mapping[Any, Any]:
    import torch

    if _is_script(path):
        try:
            return torch.jit.load(path, map_location="cpu").state_dict()
        except Exception as error:  # whatever torch's reader of archives raises
            reason = _reason(error)
            raise SourceError(
                f"{path}: a TorchScript archive that torch does not load ({reason}): save it again"
            ) from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as first:  # files of torch before 1.6 cannot be mapped
        way = "save model.state_dict() alone"
        if _TORCHAO in str(first):
            way = f"install {_TORCHAO}, whose tensors it holds, or save it as safetensors"
            if find_spec(_TORCHAO) is not None:
                import_module(f"{_TORCHAO}.quantization")  # says which of its classes hold data alone
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever pickle, zipfile and torch raise
            reason = _reason(error)
            raise SourceError(
                f"{path}: not a state dict that can be read without running code ({reason}): {way}"
            ) from error
    if not isinstance(loaded, Mapping):
        raise SourceError(f"{path}: {type(loaded).__name__}, no state dict: save model.state_dict()")
    return loaded


def _reason(error: Exception) -> str:
    """Return the line of torch's message that names what would run, or its first: the rest is advice to run it all the same."""
    lines = str(error).splitlines()
    named = next((line.strip() for line in lines if " GLOBAL " in line), None)
    return named.partition(". Please use")[0] if named else ": ".join([type(error).__name__, *lines[:1]])


def _is_script(path: Path) -> bool:
    """Return whether a file is a TorchScript archive: those have code beside their tensors."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
