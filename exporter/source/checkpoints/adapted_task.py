"""Give a base model the head and the vocabulary that an adapter was trained with. Imports transformers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .adapter import Adapter
from .checkpoint import Checkpoint
from .state import StoredTensor

_MAPPINGS = {
    "SEQ_CLS": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "TOKEN_CLS": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "QUESTION_ANS": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
}
"""Where transformers keeps the class of a family for each task that peft names."""


def with_task(checkpoint: Checkpoint, adapter: Adapter, taken: Mapping[str, StoredTensor]) -> Checkpoint:
    """Return the checkpoint with a config for the tensors that were `taken` from the adapter: class, classes, vocabulary."""
    config = dict(checkpoint.config)
    config |= _head(config, str(adapter.settings.get("task_type")), taken)
    for name, tensor in taken.items():
        if (
            name.endswith(("embeddings.weight", "embed_tokens.weight", "tok_embeddings.weight"))
            and "position" not in name
        ):
            config["vocab_size"] = tensor.shape[0]
    return replace(checkpoint, config=config)


def _head(config: Mapping[str, Any], task: str, taken: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """Return the settings of the class that peft's task is for, where the base is of another one."""
    mapping = _MAPPINGS.get(task)
    if mapping is None:
        return {}
    from transformers.models.auto import modeling_auto

    settings: dict[str, Any] = {}
    name = getattr(modeling_auto, mapping).get(str(config.get("model_type")))
    if name is not None and name not in (config.get("architectures") or []):
        settings["architectures"] = [name]
    rows = [t.shape[0] for n, t in taken.items() if len(t.shape) == 2 and "embed" not in n]
    classes = rows[-1] if rows else None
    if task != "QUESTION_ANS" and classes is not None and classes != _classes(config):
        settings["id2label"] = {str(i): f"LABEL_{i}" for i in range(classes)}
        settings["label2id"] = {f"LABEL_{i}": i for i in range(classes)}
        settings["num_labels"] = classes
    return settings


def _classes(config: Mapping[str, Any]) -> int:
    names = config.get("id2label")
    return len(names) if names else int(config.get("num_labels") or 2)
