"""Tell which modules the class of a config has by name, and how many parts a name has before them. Imports transformers."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from json import dumps, loads
from typing import Any

_MOST_PARTS = 4
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
_LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")


def foreign_prefix(names: Iterable[str], config: Mapping[str, Any]) -> str:
    """Return what stands before the names of the config's class in most `names`, as `model.`; nothing where there is nothing.

    A part that the class itself puts first, as ModernBERT's `model.`, is none of it.
    """
    names = list(names)
    heads = Counter(name.split(".")[0] for name in names if "." in name)
    if not heads or heads.most_common(1)[0][1] * 2 < len(names):
        return ""
    known, base = _modules(dumps(dict(config), sort_keys=True, default=str))
    if not known:
        return ""
    prefix, best = "", _count(names, "", known, base)
    for parts in range(1, _MOST_PARTS + 1):
        starts = Counter(".".join(n.split(".")[:parts]) + "." for n in names if n.count(".") > parts)
        if not starts:
            break
        start = starts.most_common(1)[0][0]
        count = _count(names, start, known, base)
        if count > best:
            prefix, best = start, count
    return prefix


def _count(names: list[str], prefix: str, known: frozenset[str], base: str) -> int:
    """Return how many names are those of the class once `prefix` is off."""
    paths = (n.removeprefix(prefix).rpartition(".")[0] for n in names if n.startswith(prefix))
    return sum(_NUMBER.sub("#", path.removeprefix(f"{base}.") if base else path) in known for path in paths)


@lru_cache(maxsize=4)
def _modules(settings: str) -> tuple[frozenset[str], str]:
    """Return the paths of the base class's modules that have weights, numbers as `#`, and the name that heads put before them."""
    import torch
    from transformers import AutoConfig, AutoModel

    values = loads(settings)
    try:
        for name in _LAYERS:
            if isinstance(values.get(name), int):
                values[name] = min(values[name], 2)
        values.pop("layer_types", None)
        config = AutoConfig.for_model(str(values.pop("model_type", None)), **values)
        with torch.device("meta"):
            model = AutoModel.from_config(config)
    except Exception:  # an unknown family, or settings that it does not take: said when the model is loaded
        return frozenset(), ""
    paths = (name.rpartition(".")[0] for name, _ in model.named_parameters())
    return frozenset(_NUMBER.sub("#", path) for path in paths), str(model.base_model_prefix)
