"""Read folders that `save_to_disk` of the `datasets` library wrote: Arrow files, and a list of them."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UsageError

SUFFIX = ".arrow"
_STATE, _SPLITS = "state.json", "dataset_dict.json"


def is_datasets_folder(path: Path) -> bool:
    """Return whether a folder is one of `datasets`, of one split or of several."""
    state = path / _STATE
    with suppress(OSError, UnicodeDecodeError):  # other tools call files so, too
        return (path / _SPLITS).is_file() or (state.is_file() and "_data_files" in state.read_text(encoding="utf-8"))
    return False


def arrow_files(path: Path) -> list[Path]:
    """Return the data files of a folder of `datasets`, in their order; of several splits, those of `train`.

    Raises UsageError where it is none, or no split is called `train`; KeyError, TypeError and ValueError where its lists hold something
    else.
    """
    splits = path / _SPLITS
    if splits.is_file():
        names = json.loads(splits.read_text(encoding="utf-8"))["splits"]
        if len(names) > 1 and "train" not in names:
            raise UsageError(f"{path}: which split? Found {', '.join(names)}; name one, as {path / names[0]}")
        path = path / ("train" if "train" in names else names[0])
    state = path / _STATE
    if not state.is_file():
        raise UsageError(f"{path}: not a folder that `save_to_disk` of datasets wrote (it has no state.json)")
    return [path / f["filename"] for f in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]


def schema_of(file: Path) -> Any:
    """Return the `pyarrow.Schema` of an Arrow file."""
    import pyarrow as pa

    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
        return stream.schema


def batches_of(file: Path) -> Iterator[Any]:
    """Yield the record batches of an Arrow file; the system reads of it what is looked at."""
    import pyarrow as pa

    with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
        yield from stream
