"""Load a source in torch and trace it to a raw ONNX graph; the loaded model is the reference. Imports torch."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ...errors import SourceError
from ..quiet import quiet
from ..source.source import TASK_OUTPUTS, Source
from .base import Captured
from .fake_quant import check_learned, frozen
from .stack import find_stack, first_layer_only, repeat_layer

_POOLER_UNUSED = ("feature-extraction", "sentence-embedding")


def load_model(source: Source) -> tuple[Any, Source]:
    """Load a directory or call a factory; return the wrapped torch module, and the source as completed by loading."""
    if source.kind == "huggingface":
        model = _from_directory(source)
    else:
        model, directory = _from_factory(source)
        config: dict[str, Any] = getattr(getattr(model, "config", None), "to_dict", dict)()
        source = replace(source, directory=directory, config=config)
        check_learned(model)
    return wrap(model, source), source


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Suppress logs and warnings as `quiet` does, and transformers' own log and progress bars."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with quiet():
        yield


def _from_directory(source: Source) -> Any:
    import torch
    from optimum.exporters.tasks import TasksManager

    task = "feature-extraction" if source.task == "sentence-embedding" else source.task
    try:
        model_class = TasksManager.get_model_class_for_task(
            task, framework="pt", model_type=source.config.get("model_type")
        )
        model, report = model_class.from_pretrained(
            source.directory,
            dtype=torch.float32,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except Exception as error:  # transformers raises OSError, ValueError, RuntimeError, KeyError …
        raise SourceError(f"{source.directory}: the model does not load: {_first_lines(error)}") from error
    _check_loaded(source, model, report)
    return model.eval()


def _check_loaded(source: Source, model: Any, report: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that fits only partly: transformers would complete it with random weights."""
    # The pooler of a model without a head gives none of the outputs; that of a classifier does.
    missing = sorted(
        k for k in report["missing_keys"] if not k.startswith("pooler.") or source.task not in _POOLER_UNUSED
    )
    mismatched = sorted(str(k) for k in report["mismatched_keys"])
    if mismatched:
        raise SourceError(f"{source.directory}: config.json disagrees with the weights: {', '.join(mismatched[:3])}")
    if missing:
        raise SourceError(
            f"{source.directory}: task {source.task!r} needs {len(missing)} tensors that the checkpoint lacks "
            f"({', '.join(missing[:3])}): choose another --task, or give the fine-tuned checkpoint"
        )
    known = {name for name, _ in model.named_modules()}
    for key in sorted(report["unexpected_keys"]):
        parts = key.split(".")
        for i, part in enumerate(parts):
            parent = ".".join(parts[:i])
            base = getattr(model, "base_model_prefix", "")
            for prefix in {parent, f"{base}.{parent}", parent.removeprefix(f"{base}.")}:
                if part.isdigit() and prefix in known and f"{prefix}.{part}" not in known:
                    raise SourceError(
                        f"{source.directory}: config.json disagrees with the weights: the checkpoint has {key}, "
                        f"but the configured model has no {prefix}.{part}"
                    )


def _from_factory(source: Source) -> tuple[Any, Path | None]:
    """Call `module:callable`, which returns a torch module, or the module and the directory of its tokenizer."""
    import sys

    import torch

    module_name, _, attribute = source.spec.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: the user's module is in the working directory
    try:
        returned = getattr(importlib.import_module(module_name), attribute)()
    except Exception as error:
        raise SourceError(
            f"{source.spec}: the factory failed: {type(error).__name__}: {_first_lines(error)}"
        ) from error
    model, directory = (
        returned
        if isinstance(returned, tuple) and len(returned) == 2
        else (returned, getattr(returned, "name_or_path", None))
    )
    if not isinstance(model, torch.nn.Module):
        raise SourceError(f"{source.spec}: the factory returned {type(model).__name__}, not a torch.nn.Module")
    return model.eval().float(), Path(directory) if directory else None


def _first_lines(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__


def input_names(model: Any) -> list[str]:
    """Return the input names of a torch model: those of the three that its `forward` takes and its config uses."""
    accepted = inspect.signature(model.forward).parameters
    names = ["input_ids", "attention_mask"]
    if "token_type_ids" in accepted and getattr(getattr(model, "config", None), "type_vocab_size", 2) > 1:
        names.append("token_type_ids")
    return names


def wrap(model: Any, source: Source) -> Any:
    """Return a torch module from positional inputs `names` to the task's `outputs`, pooling included."""
    import torch

    from .sentence import sentence_head

    names = input_names(model)
    accepted = inspect.signature(model.forward).parameters.values()
    takes_return_dict = any(p.name == "return_dict" or p.kind is p.VAR_KEYWORD for p in accepted)
    options = {"return_dict": True} if takes_return_dict else {}
    outputs = TASK_OUTPUTS[source.task]
    head = sentence_head(source.sentence_modules) if source.task == "sentence-embedding" else torch.nn.ModuleList()
    if source.task == "sentence-embedding" and not len(head):
        raise SourceError(f"{source.spec}: no modules.json says how to pool; use --task feature-extraction")

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.head = head
            self.names = names
            self.outputs = outputs
            self.extra: list[Any] = []

        def forward(self, *inputs: Any) -> tuple[Any, ...]:
            """Return the task's outputs, then the values in `extra`."""
            result = self.model(**dict(zip(names, inputs, strict=True)), **options)
            if not isinstance(result, Mapping):
                raise SourceError(
                    f"{source.spec}: the model gives {type(result).__name__}: a dict with {list(outputs)} is expected"
                )
            named = {name: result[name] for name in outputs if name in result}
            if len(self.head):
                vector = result["last_hidden_state"]
                for step in self.head:
                    vector = step(vector, inputs[1]) if type(step).__name__ == "Pooling" else step(vector)
                named["sentence_embedding"] = vector
            missing = [name for name in outputs if name not in named]
            if missing:
                raise SourceError(
                    f"{source.spec}: task {source.task!r} wants output {missing[0]!r}, the model gives {list(result)}: "
                    "choose another --task"
                )
            return (*(named[name] for name in outputs), *self.extra)

    return Wrapped().eval()


def trace_model(wrapped: Any, source: Source, *, whole: bool) -> Captured:
    """Trace the module; a stack of equal layers once, unless `whole`."""
    stack = None if whole else find_stack(wrapped)
    reference = TorchReference(wrapped)
    if stack is None:
        return Captured(_export(wrapped, source, list(wrapped.outputs)), reference, source)
    try:
        with first_layer_only(wrapped, stack) as boundary:
            wrapped.extra = boundary
            model = _export(wrapped, source, [*wrapped.outputs, "layer.entry", "layer.leave"])
        wrapped.extra = []
        leave, entry = (_named(model.graph.outputs.pop()) for _ in range(2))
        repeat_layer(model, stack, entry, leave)
    except SourceError:  # the layers are connected by more than one value
        wrapped.extra = []
        return trace_model(wrapped, source, whole=True)
    return Captured(model, reference, source, repeated=True)


def _named(value: ir.Value) -> ir.Value:
    """Return the value behind an output: an Identity is between where one value is two outputs."""
    node = value.producer()
    return node.inputs[0] if node is not None and node.op_type == "Identity" and node.inputs[0] is not None else value


def _export(wrapped: Any, source: Source, outputs: list[str]) -> ir.Model:
    import torch

    shape = (2, 3, 7) if source.task == "multiple-choice" else (2, 7)
    vocabulary = int(getattr(getattr(wrapped.model, "config", None), "vocab_size", 100))
    ids = torch.arange(int(np.prod(shape))).reshape(shape) % max(vocabulary - 1, 1) + 1
    mask = torch.ones_like(ids)
    mask[..., 1, 5:] = 0
    sample = [ids, mask, torch.zeros_like(ids)][: len(wrapped.names)]
    dynamic = tuple({axis: torch.export.Dim.DYNAMIC for axis in range(len(shape))} for _ in sample)
    try:
        with torch.no_grad(), frozen(wrapped):
            program = torch.export.export(wrapped, tuple(sample), dynamic_shapes=(dynamic,), strict=False)
            exported = torch.onnx.export(program, dynamo=True, opset_version=23, optimize=False, verbose=False)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{source.spec}: torch could not export the model: {_first_lines(error)}") from error
    assert exported is not None
    _name_boundary(exported.model, wrapped.names, outputs)
    return exported.model


def _name_boundary(model: ir.Model, inputs: list[str], outputs: list[str]) -> None:
    """Name inputs and outputs as the source does; inner values with such a name are renamed."""
    graph = model.graph
    for value in [out for node in graph for out in node.outputs]:
        if value.name in inputs or value.name in outputs:
            value.name = f"{value.name}.inner"
    for value, name in zip(graph.inputs, inputs, strict=True):
        value.name = name
    for i, (value, name) in enumerate(zip(list(graph.outputs), outputs, strict=True)):
        if value in graph.outputs[:i] or value.is_graph_input() or value.is_initializer():
            node = ir.node("Identity", [value])
            graph.append(node)
            graph.outputs[i] = value = node.outputs[0]
        value.name = name


def name_parameters(graph: ir.Graph) -> None:
    """Name parameters by their path in the source model, not in the wrapper."""
    for value in list(graph.initializers.values()):
        name = value.name or ""
        short = name.removeprefix("model.")
        if name != short and short not in graph.initializers:
            value.name = short


class TorchReference:
    """The torch model behind the capture, as `wrap` returned it."""

    def __init__(self, module: Any):
        self.module = module

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return outputs by name. SourceError where the model's own code fails."""
        import torch

        try:
            with torch.inference_mode():
                results = self.module(*[torch.from_numpy(np.ascontiguousarray(feeds[n])) for n in self.module.names])
        except SourceError:
            raise
        except Exception as error:  # whatever a model's own code raises
            raise SourceError(
                f"the source itself does not run on ids of shape {feeds['input_ids'].shape}: {_first_lines(error)}"
            ) from error
        return {n: r.numpy() for n, r in zip(self.module.outputs, results, strict=True)}

    def inside(self, feeds: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        """Return results of inner modules: `path`, and `path#1` … for later calls of one module."""
        import torch

        modules = dict(self.module.model.named_modules())
        results: dict[str, np.ndarray] = {}
        handles = []
        for path in {n.split("#")[0] for n in names} & modules.keys():

            def keep(_module: Any, _inputs: Any, result: Any, path: str = path) -> None:
                if isinstance(result, torch.Tensor):
                    count = sum(1 for n in results if n.split("#")[0] == path)
                    results[f"{path}#{count}" if count else path] = result.numpy().copy()

            handles.append(modules[path].register_forward_hook(keep))
        try:
            self.run(feeds)
        finally:
            for handle in handles:
                handle.remove()
        return {n: results[n] for n in names if n in results}

    def close(self) -> None:
        """Free the memory of the weights."""
        import torch

        # Tracing leaves references to the module in torch's own caches, so the weights are freed, not the module.
        for tensor in [*self.module.parameters(), *self.module.buffers()]:
            tensor.data = torch.empty(0)
