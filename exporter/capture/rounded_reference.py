"""Run a torch model that rounds in more places than a graph does: without these it is the reference. Imports torch when it runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..source.source import Source
from .onnx_distance import Distance
from .torch_reference import TorchReference
from .trained_rounding import TrainedRounding, places


class RoundedReference(TorchReference):
    """The torch model without the roundings that are left out. How far the module itself is from that is measured on the same inputs."""

    def __init__(self, module: Any, source: Source, rounding: TrainedRounding):
        super().__init__(module, source)
        self.rounding = rounding
        what = f"the rounding of activations in {places(len(rounding.left))}"
        self.distance = Distance([what], "module") if rounding.left else None
        self._measures = True

    @property
    def judge(self) -> str:
        """The library, its version, the class that gives the answers, and what it does not round."""
        return f"{super().judge}{self.distance.words() if self.distance is not None else ''}"

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return outputs by name. SourceError where the model's own code fails, or where what is left out is what it computes."""
        outputs = super().run(feeds)
        if self.distance is not None and self._measures:
            with self._all_rounded():
                self.distance.add(feeds, super().run(feeds), outputs)
            self.distance.check(self.source.spec)
        return outputs

    def exactly(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return outputs by name, float64, of the weights as they are rounded in float32."""
        self._measures = False
        for path in self.rounding.weights:  # these are rounded already
            self.module.model.get_submodule(path).disable_fake_quant()
        return super().exactly(feeds)

    def inside(self, feeds: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        """Return results of inner modules, without the roundings that are left out."""
        measured, self._measures = self._measures, False
        try:
            return super().inside(feeds, names)
        finally:
            self._measures = measured

    @contextmanager
    def _all_rounded(self) -> Iterator[None]:
        modules = [module for module, _ in self.rounding.left.values()]
        for module in modules:
            module.enable_fake_quant()
        try:
            yield
        finally:
            for module in modules:
                module.disable_fake_quant()
