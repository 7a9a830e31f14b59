"""Compare what a source's config declares with what its graph is."""

import warnings
from collections.abc import Mapping
from typing import Any

from ...errors import HeadwayWarning
from ..graph.anatomy import Anatomy
from .source import Source


def check_config(source: Source, anatomy: Anatomy) -> None:
    """Compare what the config declares with what the graph is. HeadwayWarning names each disagreement: parity decides.

    What was not read is not compared. A graph that zeros were cut out of has other numbers than its source.
    """
    known = [block for block in anatomy.blocks if block.attention is not None]
    if not source.config or not source.config.get("model_type") or not known or source.cut:
        return
    declared = normalized_config(source.config)
    attention = anatomy.blocks[0].attention
    pairs = [("num_hidden_layers", declared.get("num_layers"), len(anatomy.blocks))]
    if attention is not None and (source.checkpoint is None or not source.checkpoint.resized):
        heads = attention.heads
        pairs.append(("num_attention_heads", declared.get("num_attention_heads"), heads))
    for name, wanted, actual in pairs:
        if wanted is not None and wanted != actual and "pruned_heads" not in source.config:
            warnings.warn(
                f"{source.spec}: config.json says {name} = {wanted}, the graph has {actual}; whether the answers agree is compared",
                HeadwayWarning,
                stacklevel=2,
            )


def undone_config(source: Source) -> dict[str, Any]:
    """Return `{"config": …}`, by which transformers' loaders take the config of a form that was undone; nothing for others."""
    if source.checkpoint is None:
        return {}
    from transformers import AutoConfig

    settings = {k: v for k, v in source.config.items() if k != "model_type"}
    return {"config": AutoConfig.for_model(str(source.config.get("model_type")), **settings)}


def normalized_config(config: Mapping[str, Any]) -> dict[str, int]:
    """Return layer and head counts from a config, under the family's own key names as Optimum maps them."""
    from optimum.utils import NormalizedConfigManager
    from transformers import AutoConfig

    model_type = str(config.get("model_type"))
    try:
        loaded = AutoConfig.for_model(model_type, **{k: v for k, v in config.items() if k != "model_type"})
        try:
            normal = NormalizedConfigManager.get_normalized_config_class(model_type)(loaded)
        except KeyError:  # a family Optimum has no entry for: the common names
            normal = loaded
    except Exception:  # an unknown model type cannot be cross-checked
        return {}
    counts = {}
    for key, names in (
        ("num_layers", ("num_layers", "num_hidden_layers")),
        ("num_attention_heads", ("num_attention_heads",)),
    ):
        value = next((getattr(normal, name) for name in names if _has(normal, name)), None)
        if isinstance(value, int):
            counts[key] = value
    if "num_layers" in counts and _has(loaded, "inner_group_num"):
        counts["num_layers"] *= (
            loaded.inner_group_num
        )  # ALBERT's groups of layers, which run as often as layers are declared
    return counts


def _has(config: Any, name: str) -> bool:
    try:  # Optimum's normalized configs raise for a name they do not map
        getattr(config, name)
    except AttributeError:
        return False
    return True
