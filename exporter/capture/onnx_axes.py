"""Find out by running which axes of an `.onnx` file's outputs are the batch and the sequence.

Exporters' names do not tell: `Addsequence_dim_1` may be the sequence or the hidden size, `unk__12` anything.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...errors import SourceError
from ..graph.inner_axes import BATCHES, lengths_within
from ..source.source import Source
from .base import Axes

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

_CHOICES = (8, 9)
"""Numbers of choices in two runs, beside the sizes of `graph.inner_axes`."""


def has_free_axes(model: ir.Model) -> bool:
    """Return whether every input is `[batch, sequence]` or `[batch, choices, sequence]`, with no size fixed, ids among them."""
    shapes = [value.shape for value in model.graph.inputs]
    free = all(s is not None and len(s) in (2, 3) and not any(isinstance(d, int) for d in s) for s in shapes)
    return free and any(value.name == "input_ids" for value in model.graph.inputs)


def find_axes(path: Path, run: Run, ranks: Mapping[str, int], source: Source) -> dict[str, Axes]:
    """Return the axes of each output, from two runs of different batch and length. `ranks`: the numbers of the inputs' axes.

    Raises SourceError for an output that does not begin with the batch, or has the sequence elsewhere than next.
    """
    lengths = lengths_within(source.longest)
    pairs = {BATCHES: "batch", lengths: "sequence", _CHOICES: "choices"}
    first, second = (run(_feeds(ranks, source, (b, c, n))) for b, c, n in zip(BATCHES, _CHOICES, lengths, strict=True))
    found: dict[str, Axes] = {}
    for name, array in first.items():
        sizes = zip(np.shape(array), np.shape(second[name]), strict=False)
        axes = tuple(a if a == b else pairs.get((a, b), "?") for a, b in sizes)
        if len(np.shape(array)) != len(np.shape(second[name])) or not _is_read(axes):
            shown = ", ".join(map(str, axes))
            raise SourceError(
                f"{path}: its output {name!r} is [{shown}], and outputs per text, [batch, …], or per token, [batch, sequence, …], "
                "are read: export the model without it"
            )
        found[name] = axes
    return found


def _feeds(ranks: Mapping[str, int], source: Source, sizes: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Return ids that any vocabulary has, with the token at their end that some heads look for, and no padding."""
    batch, choices, length = sizes
    ids = np.full((batch, choices, length), 3, np.int64)
    end = source.config.get("eos_token_id")
    if isinstance(end, int):
        ids[..., -1] = end
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {name: a if ranks.get(name) == 3 else a[:, 0] for name, a in feeds.items()}


def _is_read(axes: Axes) -> bool:
    rest = axes[2:] if axes[1:2] in (("sequence",), ("choices",)) else axes[1:]
    return axes[:1] == ("batch",) and all(isinstance(size, int) for size in rest)
