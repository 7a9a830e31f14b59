"""The public functions of the exporter: `headway.export`, `compress`, `inspect`, `verify`, `bench` and `Recipe`.

The command line parses text and calls these. Heavy libraries are imported when a function is called: one that is missing is
named, with the extra of Headway that installs it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, Unpack

from ..errors import TargetError, UsageError

if TYPE_CHECKING:
    from .bench.measure import BenchResult
    from .export import Exported
    from .inspection import Inspection
    from .recipe.recipe import Recipe
    from .validate.ask import GateOptions
    from .validate.outputs import GateResult
    from .verification import Verdict

__all__ = ["Recipe", "bench", "compress", "export", "gate", "inspect", "report", "verify"]


class Progress(Protocol):
    """What is told how far the work is: `step` begins; a long step has `of` parts, of which `at` are done."""

    def __call__(self, step: str, *, of: int | None = None, at: float | None = None) -> None: ...


class RecipeOptions(TypedDict, total=False):
    """The keys of a recipe that `export` takes as options; see the recipe reference for each."""

    adapters: Sequence[str]
    column: str | None
    kernels: Literal["auto", "stock", "custom"] | None
    dtype: Literal["fp32", "fp16", "bf16"] | None
    engine: Mapping[str, Any] | None
    verify: Literal["artifact", "module"] | None
    graph_optimization: Literal["baked", "device"]
    tolerance: float
    max_mb: float
    passes: Sequence[Mapping[str, Any]]
    calibration: Mapping[str, Any]
    work: Mapping[str, Any]
    max_drop: float
    gates: Mapping[str, Any]


class CompressOptions(TypedDict, total=False):
    """The keys of a recipe that `compress` takes as options."""

    task: str | None
    adapters: Sequence[str]
    target: str | None
    column: str | None
    kernels: Literal["auto", "stock", "custom"]
    verify: Literal["artifact", "module"] | None


def export(
    source: str | Path | None,
    out: str | Path,
    *,
    recipe: "Recipe | str | Path | None" = None,
    data: str | Path | Sequence[str | Path] | None = None,
    task: str | None = None,
    target: str | None = None,
    force: bool = False,
    allow_pickle: bool = False,
    allow_code: bool = False,
    work_dir: str | Path | None = None,
    progress: Progress | None = None,
    **options: Unpack[RecipeOptions],
) -> "Exported":
    """Export `source` to a verified bundle at `out`, or raise and leave `out` as it was.

    `source` is a Hugging Face directory or name, an `.onnx` file, or `module:callable`; None where the recipe names it.
    `recipe` is a recipe or the path of one. Options given here replace its values; `engine` replaces key by key. A recipe with
    passes compresses the model as well, and needs `data`: text like production's. Without passes, `data` is the text that
    the bundle is compared with its source on (a built-in set where None). Several files may be given.
    `force` replaces a bundle that is at `out`. `allow_pickle` loads pickled weights: only from an author you trust.
    A factory runs where `source` or a `Recipe` names it. One that a recipe's file names runs only with `allow_code`. `work_dir` is a
    folder that keeps what passes learn, so that another run goes on from there; one in the user's cache where None.

    Raises UsageError (recipe, options or `out`), SourceError (source unreadable or unsupported), GateError (parity, quality or
    size; nothing is written) and TargetError (the target cannot be built on this machine).
    """
    with needs("export"):
        from .export import export as run
    resolved = resolve_recipe(source, recipe, data=data, task=task, target=target, allow_code=allow_code, **options)
    return run(
        resolved,
        Path(out),
        force=force,
        allow_pickle=allow_pickle,
        work=None if work_dir is None else Path(work_dir),
        on_step=progress or _silent,
    )


def compress(
    source: str | Path,
    out: str | Path,
    *,
    data: str | Path | Sequence[str | Path],
    speedup: float | None = None,
    latency_ms: float | None = None,
    flops: float | None = None,
    quantize: Literal["int8", "int4", "float16"] | None = None,
    recover_minutes: float | None = None,
    trim_vocabulary: bool = False,
    keep_scripts: Sequence[str] = (),
    search: bool = False,
    repair: bool = True,
    max_drop: float = 5.0,
    shapes: Sequence[tuple[int, int]] = (),
    samples: int = 512,
    threads: int = 1,
    force: bool = False,
    allow_pickle: bool = False,
    work_dir: str | Path | None = None,
    progress: Progress | None = None,
    **options: Unpack[CompressOptions],
) -> "Exported":
    """Compress `source` until it meets a budget, repair it, and export it to a verified bundle at `out`.

    `data` is text like production's, a few hundred lines or more; its labels are used where it has some. Several files, one for
    each domain, are learned from together and judged one by one; the worst counts. Give at most one
    budget: `speedup` (times as fast as the source), `latency_ms`, or `flops` (the part of the operations that stays, 0 to 1).
    Latency is measured on batches of `shapes`, as (texts, tokens), with `threads` threads; on batches of one text at the
    lengths of `data` where none are given. `quantize`: "int8" for speed and bytes, "int4" or "float16" for bytes alone.
    `search` leaves weights in float until `max_drop` holds. `recover_minutes` distills from the source for so long; a model that was cut
    to a budget is distilled for three rounds over the text, at most 3 minutes, where it is None; 0 does not.
    `trim_vocabulary` removes tokens that text like `data` will hardly use, but none of `keep_scripts`.
    `repair` refits the remaining weights by least squares.
    `samples` texts are learned from; others judge the quality, of which at most `max_drop` points may be lost. What was learned is kept
    in the folder `work_dir`, in the user's cache where None: the same call with another budget goes on from there.

    Raises as `export` does, and GateError where too much quality is lost or the budget is out of reach.
    """
    recipe = compression_recipe(
        source,
        data=data,
        budget={"speedup": speedup, "latency_ms": latency_ms, "flops": flops},
        quantize=quantize,
        recover_minutes=recover_minutes,
        trim_vocabulary=trim_vocabulary,
        keep_scripts=keep_scripts,
        search=search,
        repair=repair,
        calibration={"samples": samples},
        work={"shapes": list(shapes), "threads": threads},
        max_drop=max_drop,
        **options,
    )
    return export(
        None, out, recipe=recipe, force=force, allow_pickle=allow_pickle, work_dir=work_dir, progress=progress
    )


def inspect(
    model: str | Path,
    *,
    task: str | None = None,
    length: int = 128,
    time: bool = False,
    allow_pickle: bool = False,
    adapters: Sequence[str | Path] = (),
) -> "Inspection":
    """Return what a model is made of: blocks, widths, parameters, bytes and FLOPs per token at `length` tokens.

    `model` is any source that `export` takes, or a bundle. With `time`, `time_share` is the measured share of each kind of
    operator in ONNX Runtime, on one thread. Raises SourceError where the model cannot be read, and UsageError where `length` is
    longer than the model takes or `task` is not the bundle's.
    """
    with needs("export"):
        from .inspection import inspect_model
    return inspect_model(
        str(model),
        task=task,
        length=length,
        time=time,
        allow_pickle=allow_pickle,
        adapters=[str(adapter) for adapter in adapters],
    )


def verify(
    bundle: str | Path,
    *,
    against: str | Path | None = None,
    data: str | Path | Sequence[str | Path] | None = None,
    column: str | None = None,
    adapters: Sequence[str | Path] = (),
    allow_pickle: bool = False,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> "Verdict":
    """Compare a bundle with its source again, and its files with their checksums; `Verdict.ok` is the answer.

    `against` is the source; the one that the bundle's recipe names where None. `data` is the text to compare on, one file or
    several; the recipe's, or the built-in set, where None. `column` is that of the text in `data`, found where None. `adapters` are the
    directories of the adapters that were merged into the source, where they do not lie as the recipe says.

    Raises SourceError where a file of the bundle was changed, or the source is another model, and UsageError where its recipe names
    a factory: code runs only where `against` names it, or with `allow_code`.
    """
    with needs("export"):
        from .verification import verify_bundle
    source = None if against is None else str(against)
    texts = [data] if isinstance(data, str | Path) else data or ()
    return verify_bundle(
        Path(bundle),
        source,
        [Path(text) for text in texts],
        column=column,
        adapters=[str(adapter) for adapter in adapters],
        allow_pickle=allow_pickle,
        allow_code=allow_code,
        on_step=progress or _silent,
    )


def bench(
    bundle: str | Path,
    *,
    against: str | Path | Sequence[str | Path] = (),
    threads: int = 1,
    data: str | Path | None = None,
    column: str | None = None,
    rounds: int = 15,
    out: str | Path | None = None,
    save: bool = False,
    progress: Progress | None = None,
) -> "BenchResult":
    """Measure latency and throughput of a bundle in paired rounds with others.

    `against` names the others: bundles, `.onnx` files, or Hugging Face directories, which PyTorch runs. All get the same
    arrays and `threads` threads. `data` is the text that they are made of, `column` that of its text, found where None; a built-in set
    where no data is given. With `save` the result goes into the bundle (manifest, card, plot), and to the directory `out` where
    given; its `files` are what was written. Needs no library beyond those of deployment, except to run PyTorch and to draw the plot.

    Raises SourceError where a file of the bundle was changed, or one of the others answers differently; UsageError where
    `data` or `out` cannot be used.
    """
    from .bench.bench_bundle import bench_bundle

    if rounds < 3:
        raise UsageError(f"rounds {rounds}: a median needs at least 3; give 15 or more for figures to publish")
    rivals = [against] if isinstance(against, str | Path) else against
    return bench_bundle(
        Path(bundle),
        [str(rival) for rival in rivals],
        threads=threads,
        data=None if data is None else Path(data),
        column=column,
        rounds=rounds,
        out=None if out is None else Path(out),
        save=save,
        on_step=progress or _silent,
    )


def gate(
    bundle: str | Path,
    *,
    gates: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **options: Unpack["GateOptions"],
) -> "GateResult":
    """Decide whether a bundle may be shipped: `GateResult.verdict` is "pass", "fail" or "undecided".

    `gates` are limits by name, beside those of the bundle's recipe, which names them all. `out` gets JSON, JUnit XML, Markdown and the
    lock. The options: `baseline`, a bundle of the same model or a lock, that it may not be slower than; `lock`, which writes one; `mode`
    ("quick", "default", "long"); `data`, text like production's with its `column`, with labels where quality is gated; `against`, the
    source; `threads`; `scenarios` to measure besides, with `bound_ms` for a server; `sweep` over threads and batches; `tokenize`.

    Raises UsageError where there is nothing to judge by, or lock or data belong to something else; SourceError where a file of the
    bundle was changed; TargetError where it cannot run here. A runner that crashes is a result that fails.
    """
    with needs("export"):
        from .validate.ask import ask
    return ask(Path(bundle), gates or {}, None if out is None else Path(out), progress or _silent, **options)


def report(
    bundles: str | Path | Sequence[str | Path],
    *,
    out: str | Path = "report.html",
    verdicts: Sequence[str | Path] = (),
    sensitivities: Sequence[str | Path] = (),
    stored: bool = False,
    save: bool = False,
    data: str | Path | None = None,
    column: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write one HTML page on bundles to `out`, which works offline, and return its place.

    Its figures are those that manifests hold, and `verdicts` of `gate` and `sensitivities` of `headway sensitivity`, as files or their
    folders. Time by operator alone is profiled now, on `data` with its `column`; with `stored` nothing is run.
    With `save` each bundle's own figures go into its card, as PNG.

    Raises UsageError for a file that is not there or belongs to none of the bundles, SourceError for one that cannot be read.
    """
    with needs("export"):
        import jinja2  # noqa: F401 - before anything is measured

        from .validate.report.write_report import ReportRequest, write_report
    given = [bundles] if isinstance(bundles, str | Path) else bundles
    places = [[Path(place) for place in names] for names in (given, verdicts, sensitivities)]
    text = None if data is None else Path(data)
    request = ReportRequest(places[0], Path(out), places[1], places[2], stored, save, text, column)
    return write_report(request, progress or _silent)


def resolve_recipe(
    source: str | Path | None, recipe: "Recipe | str | Path | None" = None, *, allow_code: bool = False, **options: Any
) -> "Recipe":
    """Return the recipe that a source, a recipe and options make together; options that are not None replace its values.

    Raises UsageError naming the recipe's file and the key that is wrong, where no source is named, or where a file names a factory and
    `allow_code` is not given.
    """
    with needs("export"):
        from .recipe.recipe import Recipe, check_code, find_named, find_places, make_recipe, read_recipe
    given = {"source": source if source is None else str(source)} | options
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("dtype") == "int8":
        raise UsageError(
            "int8 needs the ranges of activations, which are learned from text: use `quantize` of compress "
            "(headway compress --quantize int8), or a recipe with data and a quantize pass; dtype says what the rest is computed in"
        )
    if recipe is None or isinstance(recipe, Recipe):
        base = recipe
    else:
        file = Path(recipe)
        base = read_recipe(file, given.get("source"))
        if source is None:
            if not allow_code:
                check_code(base.source, file)
            given["source"] = find_named(base.source, file, "source", "SOURCE")
        given |= find_places(base, file, given.keys())
    if base is not None and not given:
        return base
    values: dict[str, Any] = {} if base is None else {name: getattr(base, name) for name in base.model_fields_set}
    if base is not None and "engine" in given:
        given["engine"] = base.engine.model_dump(exclude_unset=True) | dict(given["engine"])
    values |= given
    if "source" not in values:
        raise UsageError("give a source (a Hugging Face directory or name, an .onnx file), or a recipe that names one")
    return make_recipe("options" if recipe is None or recipe is base else str(recipe), **values)


def compression_recipe(
    source: str | Path,
    *,
    budget: Mapping[str, float | None],
    quantize: Literal["int8", "int4", "float16"] | None,
    recover_minutes: float | None,
    trim_vocabulary: bool,
    keep_scripts: Sequence[str] = (),
    search: bool,
    repair: bool,
    **options: Any,
) -> "Recipe":
    """Return the recipe that the options of `compress` stand for; `options` are keys of the recipe. Raises UsageError."""
    from .recipe.compression_passes import compression_passes

    passes = compression_passes(
        budget, quantize, recover_minutes, trim_vocabulary, keep_scripts, search=search, repair=repair
    )
    return resolve_recipe(source, passes=passes, **options)


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Name the extra of Headway that installs a library which is missing. Raises TargetError in place of the import's error."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise TargetError(f"this needs {error.name}, which is not installed: pip install 'headway[{extra}]'") from error


def _silent(step: str, *, of: int | None = None, at: float | None = None) -> None:
    """Tell nobody."""


def __getattr__(name: str) -> object:
    # Types of arguments and results: loaded on first use, since they import pydantic and more.
    if name == "Recipe":
        with needs("export"):
            from .recipe.recipe import Recipe

        return Recipe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
