"""Run a torch model once, and note what each FakeQuantize of `torch.ao` rounds and what reads its results. Imports torch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .fake_quant import rounds


@dataclass
class Rounded:
    """What one FakeQuantize rounded in a run.

    `parameters` are those that it was given as they are. `computed`: it was given what is computed of parameters and buffers alone.
    `activations`: it was given what depends on the text. `weights` are the results of FakeQuantize by which linear layers multiply
    its own; None stands for other weights. `elsewhere`: something else than linear layers reads its results, too.
    """

    parameters: list[Any] = field(default_factory=list)
    computed: bool = False
    activations: bool = False
    weights: list["Rounded | None"] = field(default_factory=list)
    elsewhere: bool = False


class _Readers(TorchFunctionMode):
    """Note who reads results of FakeQuantize, and which tensors are computed of parameters alone."""

    def __init__(self, root: torch.nn.Module, places: Mapping[torch.nn.Module, Rounded]):
        super().__init__()
        self.places = places
        self.inside = 0
        self.results: dict[int, Rounded] = {}
        self.trained = {id(t) for t in (*root.parameters(), *root.buffers()) if t.is_floating_point()}
        self.alive: list[Any] = []  # an id says which tensor it is only while that is there
        self.read: set[int] = set()

    def enter(self, module: Any, inputs: tuple[Any, ...]) -> None:
        """Note what a FakeQuantize is given."""
        self.inside += 1
        place, given = self.places[module], inputs[0]
        self.alive.append(given)
        if isinstance(given, torch.nn.Parameter):
            if not any(p is given for p in place.parameters):
                place.parameters.append(given)
        elif id(given) in self.trained:
            place.computed = True
        else:
            place.activations = True
        if id(given) in self.results:
            self.results[id(given)].elsewhere = True

    def leave(self, module: Any, _inputs: tuple[Any, ...], result: Any) -> None:
        """Note what a FakeQuantize gives."""
        self.inside -= 1
        self.alive.append(result)
        self.results[id(result)] = self.places[module]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and note which of its inputs are results of FakeQuantize."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given, got = list(tensors([args, kwargs])), list(tensors(result))
        if self.inside or not got:  # shapes and types are not what was rounded
            return result
        self.alive += got
        if given and all(id(t) in self.trained for t in given):
            self.trained |= {id(t) for t in got}
        self.read |= {id(t) for t in given}
        linear = func is torch.nn.functional.linear and len(args) > 1 and args[0].ndim > 2
        for tensor in given:
            place = self.results.get(id(tensor))
            if place is None or (linear and tensor is args[1]):
                continue
            if linear and tensor is args[0]:
                place.weights.append(self.results.get(id(args[1])))
            else:
                place.elsewhere = True
        return result

    def end(self, results: Any) -> None:
        """Note what of the model's own results is a result of FakeQuantize."""
        for tensor in tensors(results):
            if id(tensor) in self.results:
                self.results[id(tensor)].elsewhere = True


def tensors(value: Any) -> Iterator[Any]:
    """Yield the tensors in nested tuples, lists and mappings."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


@contextmanager
def watched(root: Any) -> Iterator[tuple[dict[str, Rounded], set[int]]]:
    """Watch every FakeQuantize of `root` that rounds, while `root` runs inside the block.

    Yield what each rounds by its path, and the `id` of each tensor that something else reads; both are complete after the block.
    """
    modules = {path: module for path, module in root.named_modules() if rounds(module)}
    places = {module: Rounded() for module in modules.values()}
    mode = _Readers(root, places)
    handles = [root.register_forward_hook(lambda _module, _inputs, results: mode.end(results))]
    for module in places:
        handles += [module.register_forward_pre_hook(mode.enter), module.register_forward_hook(mode.leave)]
    try:
        with mode:
            yield {path: places[module] for path, module in modules.items()}, mode.read
    finally:
        for handle in handles:
            handle.remove()
