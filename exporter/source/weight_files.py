"""Find the weight files of a directory, and refuse those that are damaged or would run code."""

import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from ...errors import SourceError
from ...json_file import read_json
from .bounds import check_header, check_index
from .checkpoints.adapter import ADAPTER_FILES

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
"""Endings of files that torch pickles."""

WEIGHTS = (".safetensors", *PICKLES)
"""Endings of files that hold weights."""

_NO_WEIGHTS = ("optimizer", "scheduler", "rng_state", "training_args", "scaler", "random_states", "trainer_state")
"""First parts of the names of files that trainers save beside weights."""


def weight_files(directory: Path, allow_pickle: bool) -> tuple[Path, ...]:
    """Return the weight files under the names that transformers gives, or else the only one under another, each checked for damage.

    safetensors come before pickles. SourceError where there is none, where there are several under names of their own, and for a
    pickle that is not allowed.
    """
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        files = [directory / name for name in check_index(index, read_json(index))]
    else:
        files = [directory / "model.safetensors"] if (directory / "model.safetensors").is_file() else []
    files = files or sorted(directory.glob("pytorch_model*.bin")) or _others(directory)
    if not files:
        hint = hint_at(directory, "*.gguf", "*.onnx", "onnx/*.onnx")
        raise SourceError(f"{directory}: no weights; expected model.safetensors (or its index and shards){hint}")
    for file in files:
        check_file(file, allow_pickle)
    return tuple(files)


def hint_at(directory: Path, *patterns: str) -> str:
    """Return the end of a refusal that names the first file of a directory that could be given instead; empty where there is none."""
    files = [file for pattern in patterns for file in sorted(directory.glob(pattern))]
    return f"; to read {files[0].relative_to(directory)}, give its path" if files else ""


def has_weights(directory: Path) -> bool:
    """Return whether a directory holds weight files of a model, beside those of an adapter."""
    return (
        any(directory.glob("model.safetensors*"))
        or any(directory.glob("pytorch_model*.bin"))
        or bool(_candidates(directory))
    )


def usual_names(files: tuple[Path, ...]) -> bool:
    """Return whether weight files have the names by which transformers finds them."""
    return all(f.name.startswith(("model", "pytorch_model")) for f in files) and not any(
        f.suffix in PICKLES and not f.name.startswith("pytorch_model") for f in files
    )


def check_file(path: Path, allow_pickle: bool) -> None:
    """Raise SourceError where a weight file is damaged, or is a pickle that is not allowed."""
    if path.suffix == ".safetensors":
        _check_safetensors(path)
    elif not allow_pickle:
        raise SourceError(
            f"{path}: a pickle, which can run code when it is loaded. Convert it to safetensors, "
            "or pass `allow_pickle` (--allow-pickle) if you trust its author"
        )


def _candidates(directory: Path) -> list[Path]:
    """Return files that may hold a model's weights under names of their own, safetensors alone where there are some."""
    found = sorted(
        f
        for f in directory.iterdir()
        if f.suffix in WEIGHTS and f.is_file() and f.name not in ADAPTER_FILES and not f.name.startswith(_NO_WEIGHTS)
    )
    return [f for f in found if f.suffix == ".safetensors"] or found


def _others(directory: Path) -> list[Path]:
    """Return the only weight file under a name of its own, or the shards of the only index."""
    indexes = sorted(directory.glob("*.safetensors.index.json"))
    if len(indexes) == 1:
        return [directory / name for name in check_index(indexes[0], read_json(indexes[0]))]
    found = _candidates(directory)
    if len(found) > 1:
        raise SourceError(
            f"{directory}: several weight files, {', '.join(f.name for f in found[:5])}{' …' if len(found) > 5 else ''}, none of them "
            "named model.safetensors: give the path of one"
        )
    return found


def _check_safetensors(path: Path) -> None:
    """Raise SourceError where the file is missing, damaged, or lists a tensor twice.

    The library checks the header, and that tensors neither overlap nor leave bytes uncovered. It lets a repeated name pass.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise SourceError(f"{path}: this shard is listed in the index but is not there")
    check_header(path)
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        if "not fully covered" in reason:
            raise SourceError(
                f"{path}: truncated or damaged: its {path.stat().st_size} bytes are not those that its header lists. "
                "Download it again"
            ) from error
        raise SourceError(f"{path}: not a safetensors file, or damaged in its header ({reason})") from error
    repeated = _repeated_tensor(path)
    if repeated is not None:
        raise SourceError(f"{path}: damaged: its header lists the tensor {repeated!r} twice. Download it again")


def _repeated_tensor(path: Path) -> str | None:
    """Return the first tensor that a valid safetensors header names twice, which JSON readers let pass; None where none is."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries: list[tuple[str, Any]] = json.loads(file.read(length), object_pairs_hook=list)
    return next((name for name, count in Counter(name for name, _ in entries).items() if count > 1), None)
