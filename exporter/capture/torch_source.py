"""Load a directory by its own library, or call a factory. Imports torch when it loads."""

import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import HeadwayWarning, SourceError
from ..quiet import quiet
from ..source.config import undone_config
from ..source.settings import check_settings
from ..source.source import EMBEDDING_TASKS, LIBRARY_TASKS, Source, architectures, task_of_architecture
from .fake_quant import check_learned, has_rounding, hold_scales
from .last_token import check_last_token
from .loading_report import check_loaded, reported
from .torch_reference import TorchReference, first_lines
from .weights import check_finite


def load_model(source: Source) -> tuple[TorchReference, Source]:
    """Load a directory or call a factory; return the reference, and the source as completed by loading.

    SourceError where it does not load, or where anything of it would be left out; HeadwayWarning names heads that the task does
    not need.
    """
    notes = [f"{source.spec}: {sentence}" for sentence in source.sentences]
    with quiet_tracing():
        reference = _from_directory(source, notes) if source.kind == "huggingface" else _from_factory(source, notes)
        check_finite(reference.module, reference.source)
    for note in notes:
        warnings.warn(note, HeadwayWarning, stacklevel=2)
    return reference, reference.source


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Suppress logs and warnings, and transformers' own log and progress bars. Errors that are logged are raised, too."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with quiet(logging.CRITICAL):
        yield


def _from_directory(source: Source, notes: list[str]) -> TorchReference:
    check_settings(source)
    with reported(source) as reports:
        if source.judge_class is not None:
            from .sentence import WrappedSentence, load_sentence

            wrapped: Any = WrappedSentence(load_sentence(source), source)
            check_last_token(wrapped.model, source)
            reference: TorchReference = _sentence_reference(wrapped, _probed(wrapped, source))
        else:
            from .wrapped import WrappedModel, check_inputs

            model = _load_transformers(source).eval()
            check_inputs(model, source)
            check_last_token(model, source)
            wrapped = WrappedModel(model, source)
            reference = TorchReference(wrapped, _probed(wrapped, source))
    for model, report in reports:
        notes += check_loaded(source, model, report)
    return reference


def _sentence_reference(wrapped: Any, source: Source) -> TorchReference:
    from .late_interaction import LateInteractionReference, with_sides
    from .sentence import SentenceReference

    if source.judge_class == "MultiVectorEncoder":
        return LateInteractionReference(wrapped, with_sides(source, wrapped.opened))
    return SentenceReference(wrapped, source)


def _load_transformers(source: Source) -> Any:
    """Return the model of the class that the config names, or that transformers has for the task."""
    import torch

    if source.task in EMBEDDING_TASKS:
        library = next(name for name, task in LIBRARY_TASKS.items() if task == source.task)
        raise SourceError(
            f"{source.spec}: no modules.json of a {library} says how to pool; use `task` (--task) feature-extraction"
        )
    try:
        model = _class_for(source).from_pretrained(
            source.encoder_directory,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            **undone_config(source),
        )
    except SourceError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, RuntimeError, KeyError …
        said = first_lines(error).replace(str(source.encoder_directory), str(source.place))
        raise SourceError(f"{source.place}: the model does not load: {said}") from error
    if hasattr(model, "encoder") and hasattr(model, "decoder"):
        raise SourceError(
            f"{source.place}: {type(model).__name__} is an encoder with a decoder, and only encoders are exported: if the family has "
            "a class for its encoder alone, name it in architectures of config.json"
        )
    return model


def _class_for(source: Source) -> Any:
    import transformers
    from optimum.exporters.tasks import TasksManager

    for name in architectures(source.config):
        named = getattr(transformers, name, None)
        headless = name.endswith(("Model", "Encoder")) and not name.endswith("LMHeadModel")
        encoder = source.task == "feature-extraction" and headless
        if isinstance(named, type) and (encoder or task_of_architecture(name) == source.task):
            configured = getattr(getattr(named, "config_class", None), "model_type", None)
            if configured == source.config.get("model_type"):
                return named
    return TasksManager.get_model_class_for_task(
        source.task, framework="pt", model_type=source.config.get("model_type")
    )


def _from_factory(source: Source, notes: list[str]) -> TorchReference:
    """Call `module:callable`, which returns a torch module, or the module and the directory of its tokenizer."""
    import torch

    from .wrapped import WrappedModel

    module_name, _, attribute = source.spec.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: the user's module is in the working directory
    try:
        returned = getattr(importlib.import_module(module_name), attribute)()
    except Exception as error:
        raise SourceError(f"{source.spec}: the factory failed: {type(error).__name__}: {first_lines(error)}") from error
    model, directory = (
        returned
        if isinstance(returned, tuple) and len(returned) == 2
        else (returned, getattr(returned, "name_or_path", None))
    )
    if not isinstance(model, torch.nn.Module):
        raise SourceError(f"{source.spec}: the factory returned {type(model).__name__}, not a torch.nn.Module")
    model = model.eval().float()
    check_learned(model)
    hold_scales(model)
    config: dict[str, Any] = getattr(getattr(model, "config", None), "to_dict", dict)()
    completed = replace(source, directory=Path(directory) if directory else None, config=config)
    wrapped = WrappedModel(model, completed)
    with suppress(Exception):  # a model that does not run is refused when it is traced, with its reason
        wrapped.keep_all()
    return _without_left(TorchReference(wrapped, _probed(wrapped, completed)), notes)


def _without_left(reference: TorchReference, notes: list[str]) -> TorchReference:
    """Return the reference of a module that has fake quantization of its own, without what of it a graph cannot follow."""
    wrapped, source = reference.module, reference.source
    if not has_rounding(wrapped):
        return reference
    from .rounded_reference import RoundedReference
    from .trained_rounding import fit_rounding

    ids = np.ones((2, 3, 7) if source.task == "multiple-choice" else (2, 7), np.int64)
    try:
        rounding = fit_rounding(wrapped.model, lambda: reference.run(dict.fromkeys(wrapped.names, ids)))
    except SourceError as error:
        raise SourceError(f"{source.spec}: {error}") from error
    sentence = rounding.sentence()
    notes.append(f"{source.spec}: {sentence}")
    return RoundedReference(wrapped, replace(source, form=(*source.form, sentence)), rounding)


def _probed(wrapped: Any, source: Source) -> Source:
    """Return the source with the number of positions that its loaded model has."""
    from .positions import probed_positions

    return replace(source, probed=probed_positions(wrapped, source))
