"""Layers that were dropped: those left have their old numbers (LayerDrop, Patient Knowledge Distillation)."""

import re
from collections import defaultdict

from .....errors import SourceError
from ..checkpoint import Checkpoint, layers_of, pruned_heads

ORDER = 50
NAME = "layers that keep their old numbers after others were dropped"
MARKS: tuple[str, ...] = ("\0",)

_LISTS = ("layer", "layers")
_ALIKE = (
    "bert",
    "camembert",
    "data2vec-text",
    "deberta-v2",
    "distilbert",
    "electra",
    "mobilebert",
    "mpnet",
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
)
"""Families whose layers all compute the same of their weights. ModernBERT's attend by their number."""

_DEPTHS = ("num_hidden_layers", "n_layers")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Renumber the layers, and set their number in the config: to run the rest in order is what the method does.

    Families in which a layer's number decides what it computes are left alone. SourceError where a layer is not whole.
    """
    found = layers_of(checkpoint.state)
    depth = next((name for name in _DEPTHS if name in checkpoint.config), None)
    if (
        found is None
        or depth is None
        or checkpoint.config.get("model_type") not in _ALIKE
        or found[0].split(".")[-1] not in _LISTS
    ):
        return None
    path, kept = found
    if kept == list(range(len(kept))):
        return None
    _check(checkpoint, path, kept)
    numbers = {old: new for new, old in enumerate(kept)}
    name_of = re.compile(rf"{re.escape(path)}\.(\d+)\.")
    renamed = checkpoint.renamed(
        lambda name: name_of.sub(lambda match: f"{path}.{numbers[int(match[1])]}.", name, count=1)
    )
    before = checkpoint.config[depth]
    of = f" of {before}" if isinstance(before, int) and before > kept[-1] else ""
    sentence = f"{len(kept)} layers{of}, LayerDrop kept {', '.join(map(str, kept))}"
    config = {**checkpoint.config, depth: len(kept)}
    pruned = pruned_heads(checkpoint)
    if pruned:  # by old numbers, too
        config["pruned_heads"] = {str(numbers[old]): pruned[old] for old in kept if old in pruned}
    return renamed.changed(sentence, config=config)


def _check(checkpoint: Checkpoint, path: str, kept: list[int]) -> None:
    tensors: dict[int, set[str]] = defaultdict(set)
    for name in checkpoint.state:
        match = re.fullmatch(rf"{re.escape(path)}\.(\d+)\.(.+)", name)
        if match:
            tensors[int(match[1])].add(match[2])
    whole = set().union(*tensors.values())
    for number in kept:
        missing = sorted(whole - tensors[number])
        if missing:
            raise SourceError(
                f"{checkpoint.directory}: {path}.{number} lacks {missing[0]}, which other layers have: the checkpoint is not whole; "
                "download it again"
            )
