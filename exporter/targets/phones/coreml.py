"""Core ML: a `.mlpackage`, converted but not checked, since it runs on Apple's systems alone.

Checked is the torch module that it is converted from, and the user has to ask for that (`verify: module`).
"""

from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ....errors import TargetError
from ....manifest import Manifest
from ....runners.rows import RowRunner
from ...graph.anatomy import Anatomy
from ...graph.edit import nodes, sequence_axis
from ...quiet import quiet
from ...recipe.recipe import Recipe
from ..base import TargetSpec, Text, installed
from .torch_export import WAY_OUT, export_module

PACKAGE = "model.mlpackage"
SPEC = TargetSpec("coreml", neuron_multiple=16, rank_multiple=16, integers="none")
MISSING = "target coreml needs the package coremltools, which is not here: pip install 'headway[coreml]'"
CHECKED = "the torch module that the package is converted from; the package itself was never run"


@dataclass
class CoreMLTarget:
    """Target `coreml`. `precision` is that of the package: fp32 or fp16."""

    precision: str = "fp32"
    spec: TargetSpec = SPEC
    artifact: str = PACKAGE
    dtype: str = "float32"
    module: Any = field(default=None, init=False, repr=False)

    def available(self) -> str | None:
        return None if installed("coremltools") else MISSING

    def lower(self, model: ir.Model, anatomy: Anatomy, text: object = None) -> dict[str, int]:
        """Leave the graph canonical. Raise TargetError for integer weights: what became of them could not be checked."""
        refused = next((v for v in model.graph.initializers.values() if v.dtype in _NOT_TAKEN), None)
        if refused is not None:
            raise TargetError(
                f"{refused.name}: {refused.dtype} is not converted to Core ML; leave the pass out, or use --target executorch"
            )
        return {"attention": len(nodes(model.graph, "Attention"))}

    def build(self, model: ir.Model, directory: Path, text: Text) -> None:
        self.module = convert(model, directory / PACKAGE, text.longest, self.precision)

    def files(self, directory: Path) -> list[Path]:
        return [p for p in sorted((directory / PACKAGE).rglob("*")) if p.is_file()]

    def options(self, *, regroup: bool) -> dict[str, Any]:
        return {"cut_padding": regroup}

    def open(self, directory: Path, options: dict[str, Any], threads: int | None = None) -> "ModuleRunner":
        """Open what the package was converted from: the module of the last `build`."""
        if self.module is None:
            raise TargetError(f"{directory / PACKAGE}: a Core ML package runs on Apple's systems alone")
        return ModuleRunner(*self.module, cut_padding=bool(options.get("cut_padding")))

    def record(self, directory: Path) -> dict[str, Any]:
        return {"convert_only": True, "dtype": self.precision, "checked": CHECKED}

    def finish(self, directory: Path, manifest: Manifest) -> None:
        pass


def coreml_target(recipe: Recipe) -> CoreMLTarget:
    """Return the target that a recipe describes."""
    return CoreMLTarget(recipe.dtype)


_NOT_TAKEN = (ir.DataType.INT8, ir.DataType.INT4, ir.DataType.FLOAT16)


def convert(
    model: ir.Model, package: Path, longest: int, precision: str
) -> tuple[Any, list[tuple[str, int | None]], int]:
    """Write the package, with inputs int32 `[1, 1 to longest]`.

    Return the module, its outputs with their sequence axes, and `longest`. Raise TargetError where the converter refuses the model.
    """
    with quiet(), redirect_stderr(StringIO()):  # the converter draws progress bars
        import coremltools as ct

        module, exported = export_module(model, longest)
        kinds = {"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}
        try:
            converted = ct.convert(
                exported.run_decompositions({}),
                convert_to="mlprogram",
                minimum_deployment_target=ct.target.iOS17,
                compute_precision=kinds[precision],
                outputs=[ct.TensorType(name=name, dtype=np.float32) for name in module.output_names],
                skip_model_load=True,
            )
            spec = converted.get_spec()
            for given, name in zip([i.name for i in spec.description.input], module.input_names, strict=True):
                ct.utils.rename_feature(spec, given, name)
            ct.models.MLModel(spec, weights_dir=converted.weights_dir, skip_model_load=True).save(str(package))
        except Exception as error:  # the converter raises many kinds
            raise TargetError(
                f"coremltools cannot convert the model: {type(error).__name__}: {error}; {WAY_OUT}"
            ) from error
    return module, [(str(v.name), sequence_axis(v)) for v in model.graph.outputs], longest


class ModuleRunner(RowRunner):
    """Run a torch module of a canonical graph row by row, as the package would be run."""

    def __init__(self, module: Any, outputs: list[tuple[str, int | None]], longest: int, *, cut_padding: bool):
        super().__init__(list(module.input_names), outputs, max_length=longest, cut_padding=cut_padding)
        self._module = module

    def row(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        import torch

        with torch.no_grad():
            return [t.numpy() for t in self._module(*(torch.from_numpy(feeds[n]) for n in self.input_names))]
