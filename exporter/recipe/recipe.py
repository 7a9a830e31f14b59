"""The recipe: one short YAML file that says what to make. Every bundle holds the resolved one that made it."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from ...errors import UsageError
from .passes import (
    QUANTIZING,
    REMOVING,
    FitSpec,
    PassSpec,
    QuantizeSpec,
    RemoveBlocksSpec,
    RemoveHeadsSpec,
    RemoveNeuronsSpec,
    RemovePartsSpec,
    ShareSpec,
    StrictModel,
    chooses,
    without_attention,
)

_ON_GPUS = ("ort-cuda", "ort-tensorrt", "tensorrt", "tensorrt-rtx")
_ENGINES = ("tensorrt", "tensorrt-rtx")


class Calibration(StrictModel):
    """How much of the text is used to learn from, and the seed of every random choice. The rest is held out to judge by."""

    samples: int = Field(default=512, ge=1)
    seed: int = 0


class Work(StrictModel):
    """Batches that speed is measured on, as [texts, tokens]; where none are given, batches of one at the text's lengths."""

    shapes: list[tuple[int, int]] = Field(default_factory=list)
    threads: int = Field(default=1, ge=1)


class ProfileShapes(StrictModel):
    """Batches an engine takes, as [texts, tokens], and the one it is built for."""

    min: tuple[int, int]
    opt: tuple[int, int]
    max: tuple[int, int]


class EngineOptions(StrictModel):
    """How an engine is built. `gpus` as sm_89, for TensorRT-RTX; `plan` writes the graph and how to build it, and no engine.

    `profiles` are made from the text where none are given, for batches of up to `max_batch` texts.
    """

    gpus: list[str] = Field(default_factory=list)
    plan: bool = False
    max_batch: int = Field(default=32, ge=1)
    profiles: list[ProfileShapes] = Field(default_factory=list)
    version_compatible: bool = False
    hardware: Literal["none", "same", "ampere+"] = "none"
    stripped: bool = False
    level: int | None = Field(default=None, ge=0, le=5)
    timing_cache: Path | None = None


class Recipe(StrictModel):
    """Version 1. Unknown keys are refused. `tolerance` replaces the dtype's own; `max_mb` is a gate on the artifact's size.

    `column` of a table in `data` is the text; found where not named. `graph_optimization` is for ort-mobile, see
    `targets.ort_mobile`.
    `kernels`: "custom" lets the bundle use Headway's own operators, "stock" only the runtime's; "auto" is custom where a pass needs
    them and they are built. `passes` are made in their order; `max_drop` is the gate on quality after them, in points.
    `verify`: "module" allows an artifact that no machine of this kind can run (coreml): what it is converted from is checked.
    """

    version: Literal[1] = 1
    source: str
    task: str | None = None
    target: Literal[
        "ort",
        "ort-mobile",
        "web",
        "executorch",
        "litert",
        "coreml",
        "ort-cuda",
        "ort-tensorrt",
        "tensorrt",
        "tensorrt-rtx",
    ] = "ort"
    kernels: Literal["auto", "stock", "custom"] = "auto"
    dtype: Literal["fp32", "fp16", "bf16"] = "fp32"
    engine: EngineOptions = EngineOptions()
    verify: Literal["artifact", "module"] = "artifact"
    graph_optimization: Literal["baked", "device"] = "baked"
    data: Path | None = None
    column: str | None = None
    tolerance: float | None = Field(default=None, gt=0)
    max_mb: float | None = Field(default=None, gt=0)
    passes: list[PassSpec] = Field(default_factory=list)
    calibration: Calibration = Calibration()
    work: Work = Work()
    max_drop: float = Field(default=5.0, ge=0)

    @model_validator(mode="after")
    def _order(self) -> "Recipe":
        kinds = [p.kind for p in self.passes]
        for once in ("fit", "trim_vocabulary", "recover", "quantize", "float16"):
            if kinds.count(once) > 1:
                raise ValueError(f"pass {once} is given twice")
        behind = [k for k in kinds[kinds.index("recover") + 1 :] if k not in QUANTIZING] if "recover" in kinds else []
        if behind:
            raise ValueError(
                f"recover comes last: {behind[0]} behind it would undo what it learned; only quantization may follow"
            )
        if self.target != "ort-mobile" and self.graph_optimization != "baked":
            raise ValueError(f"graph_optimization is for target ort-mobile, not for {self.target}")
        if self.target not in _ENGINES and self.engine != EngineOptions():
            raise ValueError(
                f"engine, --gpu and --plan are for targets tensorrt and tensorrt-rtx, not for {self.target}"
            )
        if self.column is not None and self.data is None:
            raise ValueError("column names a column of data, and no data is given")
        if self.target in _ON_GPUS and any(isinstance(p, FitSpec) and p.flops is None for p in self.passes):
            raise ValueError(f"target {self.target}: speed cannot be measured on a CPU; give fit a budget of flops")
        for i, one in enumerate(self.passes):
            if isinstance(
                one, RemoveHeadsSpec | RemoveNeuronsSpec | RemoveBlocksSpec | RemovePartsSpec
            ) and not chooses(one):
                for before in self.passes[:i]:
                    bare = without_attention(before)
                    if bare:
                        raise ValueError(
                            f"{one.kind} behind {before.kind}, which leaves block {bare[0]} no attention: a block without one is "
                            f"counted to the block before, so that numbers would mean others; put {one.kind} in front"
                        )
            if isinstance(one, QuantizeSpec) and "float16" in kinds[:i]:
                raise ValueError("quantize behind float16: its matrices are float16 by then; put quantize in front")
            if one.kind == "repair" and not any(k in (*REMOVING, "share") for k in kinds[:i]):
                raise ValueError("repair has nothing to repair: put it behind the passes that remove")
            if isinstance(one, ShareSpec) and one.tolerance and "repair" not in kinds[i:]:
                raise ValueError("sharing near-equal tensors changes the answers: put a repair behind it")
            if one.kind not in QUANTIZING and any(k in QUANTIZING for k in kinds[:i]):
                raise ValueError(
                    f"{one.kind} behind {kinds[i - 1]}: a quantized matrix is neither cut, split nor solved for"
                )
            if one.kind in REMOVING and "repair" in kinds[:i]:
                raise ValueError(f"{one.kind} behind a repair would undo it: repair comes after all that remove")
        return self

    def to_yaml(self) -> str:
        plain = self.model_dump(mode="json", exclude_none=True)
        if self.target == "ort":
            del plain["dtype"]
        if self.engine == EngineOptions():
            del plain["engine"]
        if self.verify == "artifact":
            del plain["verify"]
        if self.target != "ort-mobile":
            del plain["graph_optimization"]
        if not self.passes:
            for name in ("passes", "calibration", "work", "max_drop"):
                del plain[name]
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe. UsageError names the file and the key that is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: a recipe is a mapping of keys; at least `source:` is needed")
    return make_recipe(str(path), **content)


def make_recipe(where: str, **values: object) -> Recipe:
    """A checked recipe; `where` is named in the error."""
    try:
        return Recipe(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{where}: {problems}") from error
