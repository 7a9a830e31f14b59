"""Read recipes: short YAML files that say what to make. Every bundle holds the resolved one that made it."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ...calibration.corpus import short_names
from ...checked import MOST_NUMBER
from ...errors import UsageError
from ...manifest import MANIFEST
from .limits import Gates
from .messages import in_words
from .pass_specs import StrictModel
from .passes import PassSpec, check_order
from .search_space import SearchSpace
from .targets import TARGETS, targets_with


def _known_target(name: str) -> str:
    if name in TARGETS:
        return name
    *others, last = map(repr, TARGETS)
    raise PydanticCustomError("literal_error", "{expected} is expected", {"expected": f"{', '.join(others)} or {last}"})


TargetName = Annotated[
    str, AfterValidator(_known_target), Field(json_schema_extra=lambda schema: schema.update(enum=list(TARGETS)))
]
"""One of `TARGETS`."""


Size = Annotated[int, Field(ge=1, le=1 << 20)]
"""A number of texts or of tokens in a batch."""


class Calibration(StrictModel):
    """How much of the text is learned from, and the seed of every random choice. The rest is held out to judge by."""

    samples: int = Field(default=512, ge=1, le=1 << 31, description="At most so many texts are learned from.")
    seed: int = Field(default=0, ge=0, le=MOST_NUMBER, description="Seed of every random choice.")
    choose: bool = Field(
        default=False,
        description="Set texts aside to choose by even where no pass tries and compares, as headway search does for all that it makes.",
    )
    shards: list[Path] = Field(
        default_factory=list,
        max_length=1 << 16,
        description="Files or directories of text that are read in shards: on all of it `quantize` observes activations, in place of the "
        "samples of the data. What is held out to judge by is left out.",
    )
    workers: Annotated[int, Field(ge=1, le=4096)] | Literal["ray"] = Field(
        default=1,
        description="What counts shards: so many threads of this machine, or a Ray cluster, at RAY_ADDRESS or else started here.",
    )

    @model_validator(mode="after")
    def _workers_have_work(self) -> "Calibration":
        if self.workers != 1 and not self.shards:
            raise ValueError("workers count shards, and no shards are given: name the files of a corpus")
        return self


class Work(StrictModel):
    """The workload: batches that latency is measured on."""

    shapes: list[tuple[Size, Size]] = Field(
        default_factory=list,
        description="Batches as [texts, tokens]. Where none are given, single texts at the lengths of the data.",
    )
    threads: int = Field(default=1, ge=1, le=4096, description="Threads that each batch is run with.")


class ProfileShapes(StrictModel):
    """The batches that an engine takes, as [texts, tokens], and the one that it is tuned for."""

    min: tuple[Size, Size] = Field(description="Smallest batch, as [texts, tokens].")
    opt: tuple[Size, Size] = Field(description="Batch that the engine is tuned for, as [texts, tokens].")
    max: tuple[Size, Size] = Field(description="Largest batch, as [texts, tokens].")


class EngineOptions(StrictModel):
    """How an engine is built."""

    gpus: list[str] = Field(
        default_factory=list,
        description="GPUs to build for, as sm_89; only for TensorRT-RTX, which needs none of them to build.",
    )
    plan: bool = Field(
        default=False, description="Write the graph and how to build it on the GPU machine, and no engine."
    )
    max_batch: int = Field(
        default=32, ge=1, le=1 << 20, description="Texts in the largest batch, where no profiles are given."
    )
    profiles: list[ProfileShapes] = Field(
        default_factory=list,
        description="Optimization profiles; made from the lengths of the data where none are given.",
    )
    version_compatible: bool = Field(default=False, description="Let later versions of TensorRT open the engine too.")
    hardware: Literal["none", "same", "ampere+"] = Field(
        default="none",
        description="GPUs that the engine runs on: this one (none), its compute capability (same), or Ampere and later.",
    )
    stripped: bool = Field(
        default=False, description="Leave the weights out of the engine; they are refitted when it is opened."
    )
    level: int | None = Field(
        default=None, ge=0, le=5, description="Optimization level of the builder; the builder's own where not given."
    )
    timing_cache: Path | None = Field(
        default=None, description="File that keeps the builder's measurements from one build to the next."
    )


def _one_or_several(data: Any) -> Any:
    """Return a list of files, or the only one."""
    files = list(data) if isinstance(data, list | tuple) else [data]
    if not files or not all(isinstance(file, str | Path) for file in files):
        raise PydanticCustomError("data", "a path or a list of paths is expected")
    return files if len(files) > 1 else files[0]


DataFiles = Annotated[Path | list[Path], BeforeValidator(_one_or_several)]
"""A file of text, or several."""


class Recipe(StrictModel):
    """What to make of a source, version 1. Unknown keys are refused."""

    version: Literal[1] = Field(default=1, description="Version of this format.")
    source: str = Field(description="The model: a Hugging Face directory or name, an .onnx file, or module:callable.")
    adapters: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="Directories of adapters of peft (LoRA, DoRA, IA3) that are merged into the model, in this order.",
    )
    task: str | None = Field(default=None, description="Task of the model; read from the source where not given.")
    target: TargetName = Field(default="ort", description="What the bundle is made for.")
    kernels: Literal["auto", "stock", "custom"] = Field(
        default="auto",
        description="Operators of the bundle: Headway's own too (custom), or only the runtime's (stock). auto is custom where a "
        "pass or the data type needs them and they are built.",
    )
    dtype: Literal["fp32", "fp16", "bf16"] = Field(
        default="fp32", description="Data type that the target computes in, where it has a choice."
    )
    engine: EngineOptions = Field(
        default=EngineOptions(), description="How an engine is built; for tensorrt and tensorrt-rtx."
    )
    verify: Literal["artifact", "module"] = Field(
        default="artifact",
        description="What is compared with the source: the artifact, or for coreml, whose artifact runs only on Apple's systems, "
        "the module that it is converted from.",
    )
    graph_optimization: Literal["baked", "device"] = Field(
        default="baked",
        description="Where ONNX Runtime optimizes the graph: when the bundle is made (baked), or on the device; for ort-mobile.",
    )
    data: DataFiles | None = Field(
        default=None,
        description="Text like production's, to check on and to learn from; a small built-in set where not given. Passes need it. A list "
        "of files, one for each domain, is learned from together and judged file by file.",
    )
    column: str | None = Field(
        default=None, description="Column of the data that holds the text; found where not given."
    )
    tolerance: float | None = Field(
        default=None,
        gt=0,
        description="Largest difference from the source that parity allows; the data type's own by default.",
    )
    max_mb: float | None = Field(default=None, gt=0, description="Gate: megabytes that the artifact may have at most.")
    passes: list[PassSpec] = Field(
        default_factory=list, description="Passes that compress the model, made in this order."
    )
    calibration: Calibration = Field(default=Calibration(), description="What the passes learn from.")
    work: Work = Field(default=Work(), description="What latency is measured on.")
    max_drop: float = Field(
        default=5.0, ge=0, description="Gate: points of quality that the passes may lose on held-out text."
    )
    gates: Gates = Field(default=Gates(), description="What `headway gate` judges the bundle by; an export does not.")
    search: SearchSpace = Field(
        default=SearchSpace(), description="What `headway search` tries; an export does not read it."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        check_order(self.passes)
        target = TARGETS[self.target]
        if "graph_optimization" not in target.options and self.graph_optimization != "baked":
            fitting = targets_with("graph_optimization")
            raise ValueError(f"graph_optimization is for target {fitting}, not for {self.target}")
        if "engine" not in target.options and self.engine != EngineOptions():
            raise ValueError(
                f"engine, --gpu and --plan are for targets {targets_with('engine')}, not for {self.target}"
            )
        if self.calibration.shards and not any(p.observes for p in self.passes):
            raise ValueError("calibration.shards is what quantize observes activations on, and no pass does")
        if self.column is not None and self.data is None:
            raise ValueError("column names a column of data, and no data is given")
        if target.device == "gpu" and any(p.needs_latency for p in self.passes):
            raise ValueError(f"target {self.target}: speed cannot be measured on a CPU; give fit a budget of flops")
        return self

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of `data`, none where there is none."""
        if self.data is None:
            return ()
        return tuple(self.data) if isinstance(self.data, list) else (self.data,)

    @property
    def chooses(self) -> bool:
        """Whether texts are set aside to choose by."""
        return self.calibration.choose or any(spec.chooses for spec in self.passes)

    def without_places(self) -> "Recipe":
        """Return the recipe with the last name alone of each path that says where on this machine a file lies.

        Relative paths stay as they were written, and so do names on the hub and factories.
        """
        changes: dict[str, Any] = {"source": _portable(self.source)}
        if self.adapters:
            changes["adapters"] = [_portable(adapter) for adapter in self.adapters]
        if self.files:
            names = [_portable(str(path)) for path in self.files]
            if len(set(names)) < len(names):
                names = short_names(self.files)
            changes["data"] = [Path(name) for name in names] if isinstance(self.data, list) else Path(names[0])
        if self.calibration.shards:
            portable = [Path(_portable(str(path))) for path in self.calibration.shards]
            changes["calibration"] = self.calibration.model_copy(update={"shards": portable})
        if self.engine.timing_cache is not None:
            cache = Path(_portable(str(self.engine.timing_cache)))
            changes["engine"] = self.engine.model_copy(update={"timing_cache": cache})
        return self.model_copy(update=changes)

    def as_asked(self) -> "Recipe":
        """Return the recipe without what its passes decided, as a user wrote it."""
        passes = [p.model_copy(update=dict.fromkeys(p.decides)) for p in self.passes]
        return self.model_copy(update={"passes": passes})

    def to_yaml(self) -> str:
        """Return the recipe as YAML, without the keys that its target does not have."""
        plain = self.model_dump(mode="json", exclude_none=True)
        if TARGETS[self.target].device == "cpu" and self.dtype == "fp32":
            del plain["dtype"]
        if not self.adapters:
            del plain["adapters"]
        if self.engine == EngineOptions():
            del plain["engine"]
        if not self.calibration.shards:
            del plain["calibration"]["shards"], plain["calibration"]["workers"]
        if self.verify == "artifact":
            del plain["verify"]
        if self.gates == Gates():
            del plain["gates"]
        if self.search == SearchSpace():
            del plain["search"]
        if not self.calibration.choose:
            del plain["calibration"]["choose"]
        if "graph_optimization" not in TARGETS[self.target].options:
            del plain["graph_optimization"]
        if not self.passes:
            for name in ("passes", "calibration", "work", "max_drop"):
                del plain[name]
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


RECIPE_FILE = "recipe.yaml"
"""The name of a bundle's recipe."""

_MOST_BYTES = 1 << 20


def _portable(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() or ".." in Path(path).parts else path


class _PlainLoader(yaml.SafeLoader):
    """Reads plain values, and no aliases: a few lines of them stand for more values than memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"line {self.peek_event().start_mark.line + 1}: aliases are not read in recipes")
        return super().compose_node(parent, index)


def check_code(spec: str, where: Path) -> None:
    """Raise UsageError where a recipe names a factory: code runs only where whoever runs it has named it."""
    if _is_factory(spec) and not Path(spec).exists():
        raise UsageError(
            f"{where}: its source {spec} is a factory, and code runs only when you name it: give {spec} as the source (export) or "
            "with `against` (verify --against), or `allow_code` (--allow-code) if you trust who wrote the recipe"
        )


def find_named(name: str, recipe: Path, key: str, option: str) -> str:
    """Return where a file lies that a bundle's recipe names under `key`: here, or beside the bundle.

    A bundle says no more about places than names. UsageError where it is at neither place: `option` says where it is. Names in a
    recipe that lies in no bundle stay as they are.
    """
    if not (recipe.parent / MANIFEST).is_file():
        return name
    place, route = split_route(name) if key == "source" else (name, "")
    beside = recipe.resolve().parent.parent / place
    if Path(place).exists() or name == "-" or (key == "source" and not _is_place(place)):
        return name
    if not beside.exists():
        raise UsageError(
            f"{recipe}: its {key} {name} is neither here nor beside the bundle: say where it is with {option} (a bundle holds no paths "
            "of the machine that made it)"
        )
    return f"{beside}{route}"


def split_route(spec: str) -> tuple[str, str]:
    """Return the path of a source, and what names the route of a Router behind it, as `#query`; empty where nothing does."""
    path, mark, route = spec.rpartition("#")
    return (path, mark + route) if mark and not Path(spec).exists() else (spec, "")


def find_adapters(recipe: "Recipe", file: Path) -> list[str]:
    """Return where the adapters of a recipe lie, which stands in `file`. Raises UsageError as `find_named` does."""
    return [find_named(name, file, "adapters", "--adapter") for name in recipe.adapters]


def find_data(recipe: "Recipe", file: Path) -> list[Path]:
    """Return where the texts of a recipe lie, which stands in `file`. Raises UsageError as `find_named` does."""
    return [Path(find_named(str(path), file, "data", "--data")) for path in recipe.files]


def find_places(recipe: "Recipe", file: Path, given: Collection[str]) -> dict[str, object]:
    """Return by key where the files lie that a recipe in `file` names, but for the keys that are given otherwise.

    Raises UsageError as `find_named` does.
    """
    found: dict[str, object] = {}
    if recipe.adapters and "adapters" not in given:
        found["adapters"] = find_adapters(recipe, file)
    if recipe.data is not None and "data" not in given:
        found["data"] = find_data(recipe, file)
    if recipe.calibration.shards and "calibration" not in given:
        shards = [
            find_named(str(path), file, "calibration.shards", "a recipe of your own")
            for path in recipe.calibration.shards
        ]
        found["calibration"] = recipe.calibration.model_dump(exclude_unset=True) | {"shards": shards}
    return found


def _is_place(name: str) -> bool:
    """Return whether a source's name can be that of a file: neither one on the hub nor a factory."""
    return name.count("/") != 1 and not _is_factory(name)


def _is_factory(spec: str) -> bool:
    return ":" in spec and not spec.endswith(".onnx")


def read_recipe(path: Path, source: str | None = None) -> Recipe:
    """Read a recipe; `source` takes the place of its own. Raises UsageError, which names the file and the key that is wrong."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path}: larger than any recipe; at most {_MOST_BYTES // 1000} kB are read")
        content = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"{path}: a recipe is a mapping of keys; at least `source:` is needed")
    return make_recipe(str(path), **(content if source is None else content | {"source": source}))


def make_recipe(where: str, **values: object) -> Recipe:
    """Return a checked recipe. Raises UsageError, which names `where` and the key that is wrong."""
    try:
        return Recipe(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise UsageError(f"{where}: {in_words(error.errors())}") from error
