"""Read an adapter as peft saves it, adapter_config.json and its tensors; refuse by name what cannot be merged into weights."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....errors import SourceError
from ....json_file import read_json
from .state import State, read_state

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")

_MERGE = "merge it with peft (merge_and_unload, then save_pretrained) and give that directory"

_VECTORS = "it puts learned vectors before the text or before keys and values, which no weights hold"
_FORMULA = "its formula is not one of those that are merged here (LORA with use_dora or without, IA3)"
_REASONS = dict.fromkeys(
    ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE", "ADAPTION_PROMPT"),
    _VECTORS,
)

_FOLLOWED = {
    "alpha_pattern",
    "bias",
    "fan_in_fan_out",
    "lora_alpha",
    "lora_bias",
    "r",
    "rank_pattern",
    "trainable_token_indices",
}
_FOLLOWED |= {"use_dora", "use_rslora", "peft_type", "task_type", "modules_to_save", "base_model_name_or_path"}
_TRAINING = {"auto_mapping", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules", "inference_mode"}
_TRAINING |= {
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
}
_TRAINING |= {"peft_version", "qalora_group_size", "revision", "target_modules", "velora_config", "runtime_config"}
_TRAINING |= {"feedforward_modules", "init_ia3_weights", "init_lora_weights", "use_dora_cache"}
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways of `init_lora_weights` that leave the weights of the base as they are."""


@dataclass(frozen=True)
class Adapter:
    """An adapter of a model: its settings, and its tensors by their names in peft, without `base_model.model.`."""

    directory: Path
    settings: Mapping[str, Any]
    state: State

    @property
    def kind(self) -> str:
        """The kind in words, as `LoRA`."""
        if self.settings["peft_type"] == "IA3":
            return "IA3"
        return "DoRA" if self.settings.get("use_dora") else "LoRA"

    def scaling(self, path: str, rank: int) -> float:
        """Return what the product of two factors of `rank` is multiplied by at a module's path.

        SourceError where the config says another rank.
        """
        settings = self.settings
        wanted = self._at(path, "rank_pattern", settings.get("r"))
        alpha = self._at(path, "alpha_pattern", settings.get("lora_alpha"))
        if wanted != rank:
            raise SourceError(
                f"{self.directory}: {path} has rank {rank}, and {ADAPTER_CONFIG} says {wanted!r}: give the settings that belong to the "
                "tensors"
            )
        if isinstance(alpha, bool) or not isinstance(alpha, int | float):
            raise SourceError(
                f"{self.directory / ADAPTER_CONFIG}: lora_alpha of {path} = {alpha!r}: a number is expected"
            )
        return float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else rank)

    def _at(self, path: str, pattern: str, default: Any) -> Any:
        """Return what a pattern of the config says for a module, the first that its path ends in; `default` where none does."""
        for key, value in (self.settings.get(pattern) or {}).items():
            try:
                found = re.match(rf"(.*\.)?({key})$", path)
            except re.error as error:
                raise SourceError(
                    f"{self.directory / ADAPTER_CONFIG}: {pattern}: {key!r} is no pattern ({error})"
                ) from error
            if found:
                return value
        return default


def adapter_file(directory: Path) -> Path:
    """Return the weight file of an adapter. SourceError where there is none."""
    path = next((directory / name for name in ADAPTER_FILES if (directory / name).is_file()), None)
    if path is None:
        raise SourceError(f"{directory}: {ADAPTER_CONFIG} without {ADAPTER_FILES[0]}: copy both")
    return path


def read_adapter(directory: Path) -> Adapter:
    """Return the adapter of a directory, whose file was checked. SourceError where it cannot be merged, with the reason."""
    settings = adapter_settings(directory)
    state, _ = read_state((adapter_file(directory),))
    return Adapter(directory, settings, {name.removeprefix("base_model.model."): t for name, t in state.items()})


def check_present(directory: Path, names: Iterable[str]) -> None:
    """Raise SourceError where a directory of weights has the settings of an adapter, and no tensors of one."""
    if (directory / ADAPTER_CONFIG).is_file() and not any(".lora_" in name or ".ia3_l" in name for name in names):
        settings = adapter_settings(directory)
        raise SourceError(
            f"{directory / ADAPTER_CONFIG}: an adapter ({settings['peft_type']}) for {settings.get('base_model_name_or_path')} whose "
            f"tensors are not here: copy {ADAPTER_FILES[0]}, too, or delete {ADAPTER_CONFIG} if it was merged"
        )


def adapter_settings(directory: Path) -> dict[str, Any]:
    """Return the settings of an adapter that can be merged. SourceError names what cannot, and why."""
    path = directory / ADAPTER_CONFIG
    settings = read_json(path)
    kind = str(settings.get("peft_type"))
    if kind not in ("LORA", "IA3"):
        raise SourceError(
            f"{path}: an adapter of the kind {kind} is not merged: {_REASONS.get(kind, _FORMULA)}: {_MERGE}"
        )
    start = settings.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        raise SourceError(
            f"{path}: init_lora_weights = {start!r} changed the weights of the base before training, and the adapter does not hold "
            f"how: {_MERGE}"
        )
    for name, value in settings.items():
        if name not in _FOLLOWED | _TRAINING and value not in (None, False, "", [], {}):
            raise SourceError(
                f"{path}: {name} = {str(value)[:60]} changes how an adapter is merged, and is not followed: {_MERGE}"
            )
    for name in ("rank_pattern", "alpha_pattern"):
        if not isinstance(settings.get(name) or {}, Mapping):
            raise SourceError(f"{path}: {name}: an object is expected")
    return settings
