"""Adapters of peft, LoRA, DoRA and IA3: merged into the weights as peft merges them."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .....errors import SourceError
from ..adapted_task import with_task
from ..adapter import ADAPTER_CONFIG, Adapter, adapter_settings
from ..checkpoint import Checkpoint
from ..state import StoredTensor, listed

ORDER = 20
NAME = "LoRA adapters of peft"
MARKS = (
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_A.default.weight",
    ".lora_B.default.weight",
    ".lora_embedding_A",
    ".ia3_l",
)

_PARTS = {
    "lora_A.weight": "A",
    "lora_B.weight": "B",
    "lora_B.bias": "B bias",
    "lora_embedding_A": "A",
    "lora_embedding_B": "B",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "ia3_l": "scale",
    "token_adapter.trainable_tokens_delta": "rows",
}

_INSIDE = re.compile(
    r"\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|ia3_l)\.([^.]+)(?:\.|$)"
)
"""Tensors of an adapter that lie in a model's own state dict, by the name of the adapter, as `default`."""


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Merge the next adapter that waits, or one whose tensors lie among those of the model.

    SourceError names a tensor of it that fits nowhere.
    """
    checkpoint = checkpoint if checkpoint.adapters else _taken_out(checkpoint)
    if not checkpoint.adapters:
        return None
    adapter, *others = checkpoint.adapters
    checkpoint, adapter = _same_names(checkpoint, adapter)
    layers, plain = _sorted(adapter)
    unused = sorted(name for name in plain if name in checkpoint.state and not _saved(adapter, name))
    if unused:
        raise SourceError(
            f"{adapter.directory}: {listed(unused)}: no part of the adapter, nor of its modules_to_save: save the adapter again"
        )
    state = {**checkpoint.state, **plain}
    for path, parts in layers.items():
        state |= _merged(adapter, path, parts, state)
    kept = {name: i for name, i in checkpoint.integers.items() if state.get(name) is checkpoint.state.get(name)}
    ranks = sorted({parts["A"].shape[0] for parts in layers.values() if "A" in parts})
    of = f" of rank {', '.join(map(str, ranks))}" if ranks else ""
    sentence = f"{adapter.kind} adapter {adapter.directory.name}{of} merged into {len(layers)} layers"
    if plain:
        sentence += f"; {listed(sorted({n.rpartition('.')[0] for n in plain}), 4)} taken from it"
    if len(kept) < len(checkpoint.integers):
        sentence += f"; {len(checkpoint.integers) - len(kept)} quantized weights are floats with it"
    changed = checkpoint.changed(sentence, state=state, integers=kept, adapters=tuple(others))
    return with_task(changed, adapter, plain)


def _taken_out(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with an adapter that was saved inside it, unmerged, among those that wait."""
    names = {m[2] for name in checkpoint.state if (m := _INSIDE.search(name))}
    if not names:
        return checkpoint
    if len(names) > 1:
        raise SourceError(
            f"{checkpoint.directory}: holds several adapters, {listed(sorted(names))}: save one, or merge them"
        )
    if not (checkpoint.directory / ADAPTER_CONFIG).is_file():
        raise SourceError(
            f"{checkpoint.directory}: holds LoRA factors, and no {ADAPTER_CONFIG} says what they are scaled by: copy it here"
        )
    (name,) = names
    inside: dict[str, StoredTensor] = {}
    base: dict[str, StoredTensor] = {}
    for key, tensor in checkpoint.state.items():
        short = re.sub(rf"\.{re.escape(name)}(?=\.|$)", "", key)
        if _INSIDE.search(key) or ".modules_to_save." in key or ".trainable_tokens_delta" in key:
            inside[short] = tensor
        elif ".trainable_tokens_original" not in key:
            plain = key.replace(".token_adapter", "").replace(".base_layer.", ".").replace(".original_module.", ".")
            if plain in base:
                raise SourceError(
                    f"{checkpoint.directory}: {plain} is there twice, as it is and inside an adapted module: keep the one that the "
                    "model runs"
                )
            base[plain] = tensor
    adapter = Adapter(checkpoint.directory, adapter_settings(checkpoint.directory), inside)
    return replace(checkpoint, state=base, adapters=(adapter,))


def _sorted(adapter: Adapter) -> tuple[dict[str, dict[str, StoredTensor]], dict[str, StoredTensor]]:
    """Return the parts of each adapted layer by its path, and the tensors that take the place of others by name."""
    layers: dict[str, dict[str, StoredTensor]] = {}
    plain: dict[str, StoredTensor] = {}
    for name, tensor in adapter.state.items():
        ending = next((e for e in _PARTS if name.endswith(f".{e}")), None)
        if ending is not None:
            layers.setdefault(name.removesuffix(f".{ending}"), {})[_PARTS[ending]] = tensor
        elif ".original_module." not in name and ".modules_to_save." not in name:
            plain[name.replace(".base_layer.", ".")] = tensor
    for name, tensor in adapter.state.items():  # bias="all" saves those of replaced modules twice
        if ".modules_to_save." in name:
            plain.setdefault(name.replace(".modules_to_save.", "."), tensor)
    return layers, plain


def _saved(adapter: Adapter, name: str) -> bool:
    """Return whether a tensor that the base has, too, is one that peft saves: a bias, a module to save, an embedding that grew."""
    modules = adapter.settings.get("modules_to_save") or []
    bias = name.endswith(".bias") and adapter.settings.get("bias", "none") != "none"
    embedding = "embed" in name.split(".")[-2] if "." in name else False
    return bias or embedding or any(f".{module}." in f".{name}" for module in modules)


def _same_names(checkpoint: Checkpoint, adapter: Adapter) -> tuple[Checkpoint, Adapter]:
    """Return both with the same names: one of them may lack the part that a class with a head puts before the base model's."""
    path = next(iter(_sorted(adapter)[0]), None)
    if path is None or f"{path}.weight" in checkpoint.state:
        return checkpoint, adapter
    first, _, rest = path.partition(".")
    if f"{rest}.weight" in checkpoint.state:
        return checkpoint.renamed(lambda name: f"{first}.{name}"), adapter
    longer = next((name for name in checkpoint.state if name.endswith(f".{path}.weight")), None)
    if longer is not None:
        prefix = longer.removesuffix(f"{path}.weight")
        return checkpoint, replace(adapter, state={f"{prefix}{name}": t for name, t in adapter.state.items()})
    return checkpoint, adapter


def _merged(
    adapter: Adapter, path: str, parts: Mapping[str, StoredTensor], state: Mapping[str, StoredTensor]
) -> dict[str, StoredTensor]:
    """Return the tensors of a layer with the adapter in them: they are computed when they are read."""
    weight, bias = state.get(f"{path}.weight"), state.get(f"{path}.bias")
    if weight is None:
        raise SourceError(
            f"{adapter.directory}: it adapts {path}, and the model has no {path}.weight: give the model that the adapter was trained on "
            f"({adapter.settings.get('base_model_name_or_path')})"
        )
    if "scale" in parts:
        return _scaled(adapter, path, parts["scale"], weight, bias)
    merged = {}
    if "rows" in parts:
        weight = merged[f"{path}.weight"] = _with_rows(adapter, path, parts["rows"], weight)
    if parts.keys() - {"rows"}:
        weight = merged[f"{path}.weight"] = _with_product(adapter, path, parts, weight)
    if "B bias" in parts:
        if bias is None or bias.shape != parts["B bias"].shape:
            raise SourceError(
                f"{adapter.directory}: {path}.lora_B.bias has no bias of its shape to be added to: {_AGAIN}"
            )
        scale, added = adapter.scaling(path, parts["A"].shape[0]), parts["B bias"]
        merged[f"{path}.bias"] = bias.computed(lambda old: old.float() + added.read().float() * scale)
    return merged


_AGAIN = "give the base that the adapter was trained on, or save the adapter again"


def _with_product(adapter: Adapter, path: str, parts: Mapping[str, StoredTensor], weight: StoredTensor) -> StoredTensor:
    """Return a weight plus the scaled product of two factors, and for DoRA with the magnitudes that were learned."""
    a, b = parts.get("A"), parts.get("B")
    if a is None or b is None:
        raise SourceError(f"{adapter.directory}: {path} has one of lora_A and lora_B alone: {_AGAIN}")
    magnitude = parts.get("magnitude")
    if bool(adapter.settings.get("use_dora")) != (magnitude is not None):
        word = "no" if magnitude is None else "a"
        raise SourceError(
            f"{adapter.directory}: use_dora does not fit {path}, which has {word} lora_magnitude_vector: {_AGAIN}"
        )
    embedding = any(f"{path}.lora_embedding_A" in name for name in adapter.state)
    turned = embedding or bool(adapter.settings.get("fan_in_fan_out"))
    fitting = len(a.shape) == len(b.shape) == 2 and a.shape[0] == b.shape[1]
    shape: tuple[int, ...] = (b.shape[0], a.shape[1]) if fitting else ()
    if weight.shape != (shape[::-1] if turned else shape):
        raise SourceError(
            f"{adapter.directory}: {path}: factors of {list(b.shape)} and {list(a.shape)} for a weight of {list(weight.shape)}: {_AGAIN}"
        )
    if magnitude is not None and magnitude.shape != shape[:1]:
        raise SourceError(
            f"{adapter.directory}: {path}: {list(magnitude.shape)} magnitudes for {shape[0]} outputs: {_AGAIN}"
        )
    scale = adapter.scaling(path, a.shape[0])

    def add(old: Any) -> Any:
        import torch

        change = b.read().float() @ a.read().float()
        new = old.float() + (change.T if turned else change) * scale
        if magnitude is not None:
            lengths = torch.linalg.vector_norm(new, dim=0 if turned else 1)
            factor = magnitude.read().float() / lengths
            new = new * (factor if turned else factor[:, None])
        return new

    return weight.computed(add)


def _with_rows(adapter: Adapter, path: str, rows: StoredTensor, weight: StoredTensor) -> StoredTensor:
    """Return an embedding in which the rows of some tokens are those that were trained."""
    given = adapter.settings.get("trainable_token_indices")
    name = path.rpartition(".")[2]
    indices = given.get(name) if isinstance(given, Mapping) else given
    fitting = isinstance(indices, list) and all(type(i) is int and 0 <= i < weight.shape[0] for i in indices)
    if not fitting or rows.shape != (len(indices or ()), *weight.shape[1:]):
        raise SourceError(f"{adapter.directory}: {list(rows.shape)} rows for the tokens {indices} of {path}: {_AGAIN}")

    def put(old: Any) -> Any:
        new = old.float().clone()
        new[indices] = rows.read().float()
        return new

    return weight.computed(put)


def _scaled(
    adapter: Adapter, path: str, scale: StoredTensor, weight: StoredTensor, bias: StoredTensor | None
) -> dict[str, StoredTensor]:
    """Return a layer of IA3: its inputs are scaled (a row of scales), or its outputs, bias included (a column)."""
    turned = bool(adapter.settings.get("fan_in_fan_out"))
    out, into = weight.shape[::-1] if turned else weight.shape
    if scale.shape not in ((1, into), (out, 1)):
        raise SourceError(
            f"{adapter.directory}: {path}.ia3_l is {list(scale.shape)} for a weight of {list(weight.shape)}: {_AGAIN}"
        )

    def scales() -> Any:
        values = scale.read().float()
        return values.T if turned else values

    merged = {f"{path}.weight": weight.computed(lambda old: old.float() * scales())}
    if scale.shape == (out, 1) and bias is not None:
        merged[f"{path}.bias"] = bias.computed(lambda old: old.float() * scale.read().float().reshape(-1))
    return merged
