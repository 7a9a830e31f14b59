"""Run the torch model behind a capture: it is the reference. Imports torch when it runs."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from ...errors import SourceError
from ...text import Text
from ..source.source import Source
from .base import Answers, NotRunError
from .source_tokens import SourceTokens


def first_lines(error: Exception) -> str:
    """Return the first lines of an error's message, or its type where it has none."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__


class TorchReference:
    """The torch model behind the capture, as it was wrapped to be traced."""

    def __init__(self, module: Any, source: Source):
        self.module = module
        self.source = source
        self.tokens = SourceTokens(source)

    @property
    def judge(self) -> str:
        """The library, its version and the class that gives the answers."""
        library = type(self.module.model).__module__.split(".")[0]
        named = f"{library} {version(library)}" if library == "transformers" else "torch"
        return f"{named}, {type(self.module.model).__name__}"

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return outputs by name. SourceError where the model's own code fails."""
        import torch

        try:
            with torch.inference_mode():
                results = self.module(*[torch.from_numpy(np.ascontiguousarray(feeds[n])) for n in self.module.names])
        except SourceError:
            raise
        except Exception as error:  # whatever a model's own code raises
            raise NotRunError(
                f"the source itself does not run on ids of shape {feeds['input_ids'].shape}: {first_lines(error)}"
            ) from error
        return {n: r.numpy() for n, r in zip(self.module.outputs, results, strict=True)}

    def exactly(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return outputs by name, float64. The reference computes in float64 from then on. NotRunError where memory is short."""
        try:
            self.module.double()
        except RuntimeError as error:  # what torch raises where it cannot allocate
            raise NotRunError(f"the source does not fit into memory in float64: {first_lines(error)}") from error
        return {name: array.astype(np.float64) for name, array in self.run(feeds).items()}

    def from_text(self, texts: Sequence[Text]) -> Answers:
        """Return token ids and outputs of texts, by the source's own tokenizer."""
        return self.tokens.answer(texts, self.module.names, self.run)

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
