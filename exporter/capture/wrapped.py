"""Give a source's torch model positional inputs and the task's outputs, so that it can be traced. Imports torch."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import SourceError
from ..source.source import TASK_OUTPUTS, Source, task_of_architecture


def input_names(model: Any) -> list[str]:
    """Return the input names of a torch model: those of the three that its `forward` takes and its config uses.

    Where a tokenizer gives no token types, a bundle gives type 0, as such models do by themselves.
    """
    accepted = inspect.signature(model.forward).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    without_mask = "input_ids" in accepted and "attention_mask" not in accepted and not open_ended
    names = ["input_ids"] if without_mask else ["input_ids", "attention_mask"]
    if "token_type_ids" in accepted and _types(model) > 1:
        names.append("token_type_ids")
    return names


_BESIDE_TEXT = ("bbox", "xpath_tags_seq", "xpath_subs_seq", "visual_embeds", "image", "pixel_values")
"""Inputs that some families have beside text, and without which they see less than they were trained on."""


def check_inputs(model: Any, source: Source) -> None:
    """Raise SourceError naming an input that text does not give, and that the model would do without in a bundle."""
    accepted = inspect.signature(model.forward).parameters
    config = getattr(model, "config", None)
    beside = [name for name in _BESIDE_TEXT if name in accepted]
    if "task_type_ids" in accepted and getattr(config, "use_task_id", False):
        beside.append("task_type_ids")
    if "langs" in accepted and getattr(config, "use_lang_emb", False) and getattr(config, "n_langs", 1) > 1:
        beside.append("langs")
    if "token_type_ids" in accepted and getattr(config, "type_vocab_sizes", None):
        beside.append("token_type_ids")  # TAPAS: seven for each token, from a table
    if beside:
        raise SourceError(
            f"{source.spec}: {type(model).__name__} takes {', '.join(beside)} beside text, which a bundle does not give: give a torch "
            "module that fills it in as module:callable"
        )


def _types(model: Any) -> int:
    """Return how many token types a model has an embedding for; models without a config are taken to have two."""
    config = getattr(model, "config", None)
    return int(getattr(config, "type_vocab_size", 2 if not hasattr(config, "model_type") else 0) or 0)


class Wrapped(torch.nn.Module):
    """A torch model from positional inputs `names` to the task's `outputs`, then the values in `extra`."""

    def __init__(self, model: Any, source: Source):
        super().__init__()
        self.model = model
        self.names = input_names(model)
        self.outputs = TASK_OUTPUTS[source.task]
        self.place = f"{source.spec}: task {source.task!r}"
        self.extra: list[Any] = []

    def results(self, features: dict[str, Any]) -> Mapping[str, Any]:
        """Return the model's own results by name."""
        raise NotImplementedError

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """Return the task's outputs, then the values in `extra`."""
        results = self.results(dict(zip(self.names, inputs, strict=True)))
        if not isinstance(results, Mapping):
            raise SourceError(
                f"{self.place}: the model gives {type(results).__name__}: a dict with {list(self.outputs)} is expected"
            )
        missing = [name for name in self.outputs if name not in results]
        if missing:
            raise SourceError(
                f"{self.place} wants output {missing[0]!r}, the model gives {list(results)}: {self._fitting(results)}"
            )
        return (*(results[name] for name in self.outputs), *self.extra)

    def _fitting(self, results: Mapping[str, Any]) -> str:
        """Return what to give: the task that the model's class is named for, or those whose outputs it has."""
        named = task_of_architecture(type(self.model).__name__)
        tasks = [task for task, outputs in TASK_OUTPUTS.items() if all(name in results for name in outputs)]
        if named in tasks:
            return f"give `task` (--task) {named}"
        if tasks:
            return f"give `task` (--task) as what it is: {', '.join(tasks)}"
        return "choose another `task` (--task), or name the outputs as a task of transformers does: last_hidden_state, or logits"


class WrappedModel(Wrapped):
    """A model of transformers, or of a factory."""

    def keep_all(self) -> None:
        """Add what the model gives beside the task's outputs: those of several heads on one encoder, by their names.

        Only a plain dict counts, whose names its author chose; what is no float tensor is left out.
        """
        ids = torch.ones(2, 7, dtype=torch.long)
        with torch.no_grad():
            results = self.results({name: ids for name in self.names})
        if type(results) is dict and all(name in results for name in self.outputs):
            floats = (
                n for n, r in results.items() if isinstance(r, torch.Tensor) and r.is_floating_point() and r.ndim > 1
            )
            self.outputs = tuple(dict.fromkeys((*self.outputs, *floats)))

    def __init__(self, model: Any, source: Source):
        super().__init__(model, source)
        accepted = inspect.signature(model.forward).parameters.values()
        takes_return_dict = any(p.name == "return_dict" or p.kind is p.VAR_KEYWORD for p in accepted)
        self.options = {"return_dict": True} if takes_return_dict else {}

    def results(self, features: dict[str, Any]) -> Mapping[str, Any]:
        """Return what the model's `forward` returns."""
        results: Mapping[str, Any] = self.model(**features, **self.options)
        return results
