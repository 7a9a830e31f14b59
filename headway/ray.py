"""Answer texts of a Ray dataset by a bundle.

import ray
from headway.ray import BundleMapper

dataset = ray.data.read_parquet("texts.parquet")
dataset.map_batches(BundleMapper, fn_constructor_args=("bundle",), concurrency=2, batch_size=4096)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .bulk.texts_to_columns import Dtype, TextsToColumns
from .errors import UsageError


class BundleMapper:
    """A callable for `map_batches` in numpy's format: it gives each batch the columns of the bundle's answers.

    Embeddings are `embedding`, classes `label` and `score`, entities `entities`; `truncated` says which texts were cut. `bundle` lies
    where every node finds it. `lanes` batches are computed at once by each process, each by one thread.
    """

    def __init__(
        self,
        bundle: str | Path,
        column: str = "text",
        *,
        dtype: Dtype = "float32",
        prompt_name: str | None = None,
        lanes: int = 1,
    ):
        self._column = column
        self._runs = TextsToColumns(Path(bundle), lanes=lanes, dtype=dtype, prompt_name=prompt_name)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch with its answers. UsageError where the column is missing, or holds what is no text."""
        if self._column not in batch:
            raise UsageError(f"there is no column {self._column!r}; found {', '.join(batch)}")
        answers = self._runs([text if isinstance(text, str) else None for text in batch[self._column]])  # type: ignore[misc]
        answers.check_free(batch.keys())
        return {**batch, **{name: _array(column) for name, column in answers.columns.items()}}


def _array(column: Any) -> np.ndarray:
    if isinstance(column, np.ndarray):
        return column
    array = np.empty(len(column), object)
    array[:] = column
    return array
