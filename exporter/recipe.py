"""The recipe: one short YAML file that says what to make. Every bundle holds the resolved one that made it."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import UsageError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Fit(_Strict):
    """Heads, neurons and ranks go until the budget is met: exactly one of the three is given.

    Rounds repair between one and the next. By default one round and one for each factor of 1.5 are tried, and the better kept.
    """

    kind: Literal["fit"] = "fit"
    speedup: float | None = Field(default=None, gt=1)
    latency_ms: float | None = Field(default=None, gt=0)
    flops: float | None = Field(default=None, gt=0, lt=1)
    rounds: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_budget(self) -> "Fit":
        if sum(v is not None for v in (self.speedup, self.latency_ms, self.flops)) != 1:
            raise ValueError("give exactly one of speedup, latency_ms and flops")
        return self


class RemoveHeads(_Strict):
    """Heads that stay, by block: their numbers, or how many of the most important."""

    kind: Literal["remove_heads"] = "remove_heads"
    keep: dict[int, list[int] | int]


class RemoveNeurons(_Strict):
    """Neurons that stay, by block (its first feed-forward): their numbers, or how many of the most important.

    A number of neurons is grown to the multiple that pays on the target.
    """

    kind: Literal["remove_neurons"] = "remove_neurons"
    keep: dict[int, list[int] | int]


class RemoveBlocks(_Strict):
    """Blocks that go with their norms: by number, every n-th (the second, fourth … for 2), or the least important."""

    kind: Literal["remove_blocks"] = "remove_blocks"
    blocks: list[int] = Field(default_factory=list)
    every: int | None = Field(default=None, ge=2)
    least_important: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_choice(self) -> "RemoveBlocks":
        if bool(self.blocks) + (self.every is not None) + (self.least_important is not None) != 1:
            raise ValueError("give one of blocks, every and least_important")
        return self


class RemoveParts(_Strict):
    """Attentions and (first) feed-forwards that go, by block; the residual and its norm stay."""

    kind: Literal["remove_parts"] = "remove_parts"
    attentions: list[int] = Field(default_factory=list)
    feed_forwards: list[int] = Field(default_factory=list)


class Split(_Strict):
    """Matrices of the blocks become pairs of lower rank until `keep` of their parameters are left; see passes.lowrank."""

    kind: Literal["split"] = "split"
    keep: float = Field(gt=0, lt=1)
    method: Literal["activation", "fisher", "plain"] = "activation"
    embedding_rank: int | None = Field(default=None, ge=1)


class TrimVocabulary(_Strict):
    """Tokens that the text does not use go, but for special ones and single characters.

    With `tokens`, at most so many stay: those that the text uses most. Words of the others become several tokens.
    """

    kind: Literal["trim_vocabulary"] = "trim_vocabulary"
    tokens: int | None = Field(default=None, ge=1)


class Share(_Strict):
    """Equal tensors are stored once; near-equal ones too where `tolerance` (relative Frobenius distance) is above 0."""

    kind: Literal["share"] = "share"
    tolerance: float = Field(default=0.0, ge=0)


class Repair(_Strict):
    """Least squares on what is left: whole projections, or one scale a gate."""

    kind: Literal["repair"] = "repair"
    method: Literal["projection", "scale"] = "projection"


class Recover(_Strict):
    """Distillation from the source for so many minutes."""

    kind: Literal["recover"] = "recover"
    minutes: float = Field(gt=0)


class Quantize(_Strict):
    """Matrices of the blocks and tables in whole numbers, and what goes into the products where the target computes so.

    `activations`: "per-token" finds each token's range as it comes (needs Headway's kernels), "static" rounds to ranges
    calibrated on the text, "none" rounds only weights; "auto" is per-token where the bundle has the kernels, else static.
    `block` divides the inputs of int4 matrices. `keep` names modules or weights that stay float. `search`: groups of matrices go
    back to float until at most `max_drop` points are lost.
    """

    kind: Literal["quantize"] = "quantize"
    weights: Literal["int8", "int4"] = "int8"
    activations: Literal["auto", "per-token", "static", "none"] = "auto"
    block: int | None = Field(default=None, ge=16)
    rounding: Literal["gptq", "nearest"] = "gptq"
    ranges: Literal["min-max", "percentile", "entropy", "mse"] = "min-max"
    migrate: bool = True
    correct_bias: bool = True
    tables: bool = True
    keep: list[str] = Field(default_factory=list)
    search: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "Quantize":
        if self.weights == "int4" and self.activations not in ("auto", "none"):
            raise ValueError("int4 is weight-only: no target here multiplies int4 by rounded activations")
        return self


class Half(_Strict):
    """Matrices and tables stored as float16: half the bytes; arithmetic stays float32 on CPUs."""

    kind: Literal["float16"] = "float16"


PassSpec = Annotated[
    Fit
    | RemoveHeads
    | RemoveNeurons
    | RemoveBlocks
    | RemoveParts
    | Split
    | TrimVocabulary
    | Share
    | Repair
    | Recover
    | Quantize
    | Half,
    Field(discriminator="kind"),
]


def _chooses(one: PassSpec) -> bool:
    """Whether a pass finds its blocks itself."""
    return isinstance(one, RemoveBlocks) and one.least_important is not None


def _without_attention(one: PassSpec) -> list[int]:
    """Blocks that a pass leaves without attention."""
    if isinstance(one, RemoveHeads):
        return [b for b, kept in one.keep.items() if not kept]
    return list(one.attentions) if isinstance(one, RemoveParts) else []


_ON_GPUS = ("ort-cuda", "ort-tensorrt", "tensorrt", "tensorrt-rtx")
_ENGINES = ("tensorrt", "tensorrt-rtx")
_QUANTIZING = ("quantize", "float16")
_REMOVING = ("fit", "remove_heads", "remove_neurons", "remove_blocks", "remove_parts", "split")


class Calibration(_Strict):
    """How much of the text is used to learn from, and the seed of every random choice. The rest is held out to judge by."""

    samples: int = Field(default=512, ge=1)
    seed: int = 0


class Work(_Strict):
    """Batches that speed is measured on, as [texts, tokens]; where none are given, batches of one at the text's lengths."""

    shapes: list[tuple[int, int]] = Field(default_factory=list)
    threads: int = Field(default=1, ge=1)


class ProfileShapes(_Strict):
    """Batches an engine takes, as [texts, tokens], and the one it is built for."""

    min: tuple[int, int]
    opt: tuple[int, int]
    max: tuple[int, int]


class EngineOptions(_Strict):
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


class Recipe(_Strict):
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
        behind = [k for k in kinds[kinds.index("recover") + 1 :] if k not in _QUANTIZING] if "recover" in kinds else []
        if behind:
            raise ValueError(
                f"recover comes last: {behind[0]} behind it would undo what it learned; only quantisation may follow"
            )
        if self.target != "ort-mobile" and self.graph_optimization != "baked":
            raise ValueError(f"graph_optimization is for target ort-mobile, not for {self.target}")
        if self.target not in _ENGINES and self.engine != EngineOptions():
            raise ValueError(
                f"engine, --gpu and --plan are for targets tensorrt and tensorrt-rtx, not for {self.target}"
            )
        if self.column is not None and self.data is None:
            raise ValueError("column names a column of data, and no data is given")
        if self.target in _ON_GPUS and any(isinstance(p, Fit) and p.flops is None for p in self.passes):
            raise ValueError(f"target {self.target}: speed cannot be measured on a CPU; give fit a budget of flops")
        for i, one in enumerate(self.passes):
            if isinstance(one, RemoveHeads | RemoveNeurons | RemoveBlocks | RemoveParts) and not _chooses(one):
                for before in self.passes[:i]:
                    bare = _without_attention(before)
                    if bare:
                        raise ValueError(
                            f"{one.kind} behind {before.kind}, which leaves block {bare[0]} no attention: a block without one is "
                            f"counted to the block before, so that numbers would mean others; put {one.kind} in front"
                        )
            if isinstance(one, Quantize) and "float16" in kinds[:i]:
                raise ValueError("quantize behind float16: its matrices are float16 by then; put quantize in front")
            if one.kind == "repair" and not any(k in (*_REMOVING, "share") for k in kinds[:i]):
                raise ValueError("repair has nothing to repair: put it behind the passes that remove")
            if isinstance(one, Share) and one.tolerance and "repair" not in kinds[i:]:
                raise ValueError("sharing near-equal tensors changes the answers: put a repair behind it")
            if one.kind not in _QUANTIZING and any(k in _QUANTIZING for k in kinds[:i]):
                raise ValueError(
                    f"{one.kind} behind {kinds[i - 1]}: a quantised matrix is neither cut, split nor solved for"
                )
            if one.kind in _REMOVING and "repair" in kinds[:i]:
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
