"""`headway`: one verb a step, each usable alone. Exit codes are those of `errors`; heavy imports wait for the verb."""

import gc
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer

from ...errors import HeadwayError, HeadwayWarning, Interrupted, TargetError, UsageError
from .kernel_verbs import kernels_app
from .shared import Json, Quiet, Threads, console, needs_export, print_json, print_paths, progress
from .tokenizer_verbs import tokenizer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Makes a trained Transformer deployable, and proves that it still computes the same.\n\n"
    "Exit codes: 0 done, 1 a gate or parity failed, 2 usage, 3 source unreadable or unsupported, 4 target not available, 5 interrupted.",
)


app.add_typer(kernels_app, name="kernels")


_TYPER_INTERRUPTED = 130
"""What typer returns when the user interrupts a command."""

Task = Annotated[str | None, typer.Option("--task", help="Task; read from the source where not given.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Text to check on: txt, csv, jsonl, parquet, a datasets directory, or - for standard input. "
        "A small built-in set where not given.",
    ),
]

Column = Annotated[
    str | None, typer.Option("--column", help="Column of --data that is the text; found where not given.")
]

Pickle = Annotated[bool, typer.Option("--allow-pickle", help="Load pickled weights: only from an author you trust.")]
Verify = Annotated[
    Literal["artifact", "module"] | None,
    typer.Option(
        "--verify", help="module: for coreml, whose artifact cannot be run here; what it is converted from is."
    ),
]


@app.command()
def export(
    source: Annotated[
        str | None, typer.Argument(help="Hugging Face directory or name, .onnx file, or module:callable.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Directory of the bundle.")] = None,
    task: Task = None,
    target: Annotated[str, typer.Option("--target", help="What it is made for.")] = "ort",
    kernels: Annotated[
        str | None,
        typer.Option(
            "--kernels", help="stock: the target's own operators; custom: Headway's, on tokens without padding."
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="YAML recipe; options given here replace its values.")
    ] = None,
    data: Data = None,
    column: Column = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="fp32, fp16 or bf16; for GPUs. int8 comes with a recipe's passes.")
    ] = None,
    verify: Verify = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="GPUs to build for with tensorrt-rtx, as sm_89,sm_120.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Write the graph and how to build it on the GPU machine; no engine.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Export SOURCE to a verified bundle."""
    with needs_export():
        from ..export import STEPS
        from ..export import export as run
        from ..recipe.recipe import make_recipe, read_recipe
    values: dict[str, Any] = read_recipe(recipe).model_dump(exclude_unset=True) if recipe else {}
    given = {
        "source": source,
        "task": task,
        "data": data,
        "column": column,
        "target": target if target != "ort" or "target" not in values else None,
        "kernels": kernels,
        "dtype": _dtype(dtype),
        "verify": verify,
    }
    values |= {k: v for k, v in given.items() if v is not None}
    engine = ({"gpus": gpu.split(",")} if gpu else {}) | ({"plan": True} if plan else {})
    if engine:
        values["engine"] = values.get("engine", {}) | engine
    if "source" not in values:
        raise UsageError("give a SOURCE, or a --recipe that names one")
    if out is None:
        raise UsageError("give --out, the directory of the bundle")
    made = make_recipe(str(recipe or "command line"), **values)
    if made.passes:
        _compress(made, out, force=force, allow_pickle=allow_pickle, quiet=quiet, as_json=as_json)
        return
    with progress(len(STEPS), quiet or as_json) as step:
        done = run(made, out, force=force, allow_pickle=allow_pickle, on_step=step)
    if as_json:
        print_json(
            {
                "path": str(done.path),
                "source_bytes": done.source_bytes,
                "artifact_bytes": done.artifact_bytes,
                "parity": done.parity.to_json(),
                "lowering": done.manifest.lowering,
            }
        )
    elif not quiet:
        from .tables import export_table

        console().print(export_table(done.manifest, done.source_bytes, done.artifact_bytes))
        console().print(f"bundle: {done.path}", soft_wrap=True)


def _dtype(text: str | None) -> str | None:
    if text == "int8":
        raise UsageError(
            "int8 needs the ranges of activations, which are learned from text: give a --recipe with data and a pass that "
            "quantizes; --dtype says what the rest is computed in"
        )
    return text


@app.command()
def compress(
    source: Annotated[str, typer.Argument(help="Hugging Face directory or name, .onnx file, or module:callable.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the bundle.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Text like production's: txt, csv, jsonl, parquet, a datasets directory, or - for standard input; "
            "a column label is used where there is one.",
        ),
    ],
    speedup: Annotated[
        float | None, typer.Option("--speedup", help="How many times as fast as the source, measured.")
    ] = None,
    latency: Annotated[str | None, typer.Option("--latency", help="Time on the workload, as 8ms.")] = None,
    flops: Annotated[float | None, typer.Option("--flops", help="Part of the operations that may stay.")] = None,
    recover: Annotated[
        str | None, typer.Option("--recover", help="Distil from the source for so long, as 10-minutes; resumable.")
    ] = None,
    trim_vocabulary: Annotated[
        bool, typer.Option("--trim-vocabulary", help="Drop tokens that the text does not use.")
    ] = False,
    quantize: Annotated[
        Literal["int8", "int4", "float16"] | None,
        typer.Option(
            "--quantize", help="Whole numbers: int8 for speed and bytes, int4 (weights) or float16 for bytes alone."
        ),
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Leave what is sensitive in float until --max-drop is kept.")
    ] = False,
    kernels: Annotated[
        Literal["auto", "stock", "custom"],
        typer.Option("--kernels", help="Headway's own operators (custom), or only the runtime's (stock)."),
    ] = "auto",
    repair: Annotated[bool, typer.Option("--repair/--no-repair", help="Least squares on what is left.")] = True,
    max_drop: Annotated[float, typer.Option("--max-drop", help="Points of quality that may be lost.")] = 5.0,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", help="Workload, as 8x128 (texts x tokens); the text's lengths where not given."),
    ] = None,
    column: Column = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Texts to learn from.")] = 512,
    threads: Threads = 1,
    task: Task = None,
    target: Annotated[str, typer.Option("--target", help="What it is made for.")] = "ort",
    verify: Verify = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Remove heads, neurons and ranks from SOURCE until it is as fast as asked, repair it, and export it."""
    with needs_export():
        from ..recipe.recipe import make_recipe
    passes: list[dict[str, Any]] = [{"kind": "trim_vocabulary"}] if trim_vocabulary else []
    budget = {"speedup": speedup, "latency_ms": _number(latency, "ms", "--latency"), "flops": flops}
    if any(v is not None for v in budget.values()):
        passes.append({"kind": "fit", **budget} | ({} if repair else {"rounds": 1}))
        passes += [{"kind": "repair"}] if repair else []
    if recover is not None:
        passes.append({"kind": "recover", "minutes": _number(recover, "-minutes", "--recover")})
    if search and quantize in (None, "float16"):
        raise UsageError("--search leaves matrices out of rounding: give --quantize int8 or int4 with it")
    if quantize == "float16":
        passes.append({"kind": "float16"})
    elif quantize is not None:
        block = {"block": 32} if quantize == "int4" else {}
        passes.append({"kind": "quantize", "weights": quantize, "search": search, **block})
    if not passes:
        raise UsageError("say what to do: --speedup, --latency, --flops, --trim-vocabulary, --recover or --quantize")
    made = make_recipe(
        "command line",
        source=source,
        task=task,
        target=target,
        **({"verify": verify} if verify else {}),
        data=data,
        column=column,
        passes=passes,
        kernels=kernels,
        calibration={"samples": samples},
        work={"shapes": [_shape(s) for s in shape or []], "threads": threads},
        max_drop=max_drop,
    )
    _compress(made, out, force=force, allow_pickle=allow_pickle, quiet=quiet, as_json=as_json)


def _compress(made: Any, out: Path, *, force: bool, allow_pickle: bool, quiet: bool, as_json: bool) -> None:
    gc.enable()  # graphs are full of cycles, and a compression makes and drops many, with their weights
    with needs_export():
        from ..compression import compress as run
    with progress(len(made.passes) + 8, quiet or as_json) as step:
        done = run(made, out, force=force, allow_pickle=allow_pickle, on_step=step)
    compression = done.manifest.compression
    assert compression is not None
    if as_json:
        print_json({"path": str(done.path), "artifact_bytes": done.artifact_bytes, **compression})
    elif not quiet:
        from .tables import export_table, stages_table

        console().print(export_table(done.manifest, done.source_bytes, done.artifact_bytes))
        console().print(stages_table(compression))
        console().print(f"bundle: {done.path}", soft_wrap=True)


@app.command()
def profile(
    source: Annotated[str, typer.Argument(help="Any source that export takes.")],
    data: Data = None,
    shape: Annotated[list[str] | None, typer.Option("--shape", help="Workload, as 8x128 (texts x tokens).")] = None,
    target: Annotated[str, typer.Option("--target", help="What it is measured on.")] = "ort",
    threads: Threads = 1,
    task: Task = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Measure again what is in the cache.")] = False,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure what heads, neurons and ranks of SOURCE cost on this machine; kept in the user's cache."""
    with needs_export():
        from ..compress.profile import profile_model
        from .tables import latency_table
    if target != "ort":
        raise TargetError(f"target {target!r} cannot be measured here; known: ort")
    with progress(None, quiet or as_json) as step:
        table = profile_model(
            source,
            task=task,
            data=data,
            shapes=[_shape(s) for s in shape or []],
            threads=threads,
            refresh=refresh,
            allow_pickle=allow_pickle,
            on_step=step,
        )
    if as_json:
        print_json(table.to_json())
    elif not quiet:
        console().print(latency_table(table))


def _number(text: str | None, unit: str, option: str) -> float | None:
    """A number with its unit, or without."""
    if text is None:
        return None
    try:
        return float(text.removesuffix(unit).removesuffix(unit.rstrip("s")))
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: a number of {unit.strip('-')} is expected, as 8{unit}") from error


def _shape(text: str) -> tuple[int, int]:
    try:
        batch, length = (int(n) for n in text.lower().split("x"))
    except ValueError as error:
        raise UsageError(f"--shape {text!r}: texts x tokens is expected, as 8x128") from error
    if batch < 1 or length < 1:
        raise UsageError(f"--shape {text!r}: both numbers have to be at least 1")
    return batch, length


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="Any source that export takes, or a bundle.")],
    task: Task = None,
    length: Annotated[int, typer.Option("--length", min=1, help="Tokens in a sequence, for FLOPs and times.")] = 128,
    time: Annotated[
        bool, typer.Option("--time", help="Measure the share of each kind of operator in ONNX Runtime.")
    ] = False,
    allow_pickle: Pickle = False,
    as_json: Json = False,
) -> None:
    """Print what MODEL is made of."""
    with needs_export():
        from ..inspection import inspect_model
        from .tables import anatomy_table, share_table
    found = inspect_model(model, task=task, length=length, time=time, allow_pickle=allow_pickle)
    if as_json:
        print_json(found)
        return
    console().print(anatomy_table(found))
    if found.get("time_share"):
        console().print(share_table(found["time_share"], length))


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    against: Annotated[str | None, typer.Option("--against", help="The source; the recipe's where not given.")] = None,
    data: Data = None,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare BUNDLE with its source on real text again, and its files with their checksums."""
    with needs_export():
        from ..verification import verify_bundle
        from .tables import parity_table
    with progress(4, quiet or as_json) as step:
        verdict = verify_bundle(bundle, against, data, allow_pickle=allow_pickle, on_step=step)
    if as_json:
        print_json(verdict.to_json())
    elif not quiet and verdict.parity is not None:
        console().print(parity_table(verdict.parity))
    elif not quiet:
        console().print(
            f"{verdict.metric}: {verdict.quality:.2f} points (the source has {verdict.source_quality:.2f}; "
            f"{verdict.recorded:.2f} when the bundle was made)"
        )
    if not verdict.ok:
        raise typer.Exit(1)


@app.command()
def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    against: Annotated[
        list[str] | None,
        typer.Option("--against", help="Bundle, .onnx file or Hugging Face directory; may be repeated."),
    ] = None,
    threads: Threads = 1,
    data: Data = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=3, help="Paired rounds of each case (15), or runs on a device (200).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", file_okay=False, help="Directory for JSON and plot; into the bundle where not given."),
    ] = None,
    device: Annotated[
        Literal["adb"] | None, typer.Option("--device", help="adb: an Android device, by the runtime's own perf tool.")
    ] = None,
    serial: Annotated[str | None, typer.Option("--serial", help="Which device, where several are connected.")] = None,
    tool: Annotated[
        list[Path] | None,
        typer.Option("--tool", help="The perf tool built for the device; again for each library that it needs."),
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option("--shape", help="Case on a device, as 1x32 (texts x tokens); may be repeated.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure latency and throughput of BUNDLE, paired with others."""
    if device is not None:
        if against:
            raise UsageError("--against is not measured on a device: bench each bundle there")
        shapes = [_shape(s) for s in shape or []]
        _bench_device(bundle, serial, tool or [], shapes, threads, data, rounds, out, quiet=quiet, as_json=as_json)
        return
    if serial or tool or shape:
        raise UsageError("--serial, --tool and --shape belong to --device adb")
    from ..bench.bench_bundle import bench_bundle

    with progress(None, quiet or as_json) as step:
        result, files = bench_bundle(
            bundle, against or [], threads=threads, data=data, rounds=rounds or 15, out=out, on_step=step
        )
    if as_json:
        print_json(result.to_json())
    elif not quiet:
        from .tables import bench_table

        console().print(bench_table(result))
        print_paths(files)


def _bench_device(
    bundle: Path,
    serial: str | None,
    tool: list[Path],
    shapes: list[tuple[int, int]],
    threads: int,
    data: Path | None,
    runs: int | None,
    out: Path | None,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    from ..bench.device import RUNS, bench_on_device, keep_device_record

    with progress(None, quiet or as_json) as step:
        record = bench_on_device(
            bundle,
            serial=serial,
            tool=tool,
            shapes=shapes,
            runs=runs or RUNS,
            threads=threads,
            data=data,
            on_step=step,
        )
    files = keep_device_record(record, bundle, out)
    if as_json:
        print_json(record)
    elif not quiet:
        from .tables import device_table

        console().print(device_table(record))
        print_paths(files)


@app.command()
def package(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    platform: Annotated[Literal["android", "ios", "web"], typer.Option("--for", help="What the app runs on.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the package.")],
    max_mb: Annotated[
        float | None, typer.Option("--max-mb", help="Largest size of all files together; a gate.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a package that is there.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Lay BUNDLE out for an app: model, tokenizer, license, checksums and the code that runs it."""
    from ..package.app import package as run

    with needs_export():
        done = run(bundle, platform, out, max_mb=max_mb, force=force)
    if as_json:
        print_json({"path": str(done.path), "bytes": done.nbytes, "files": done.files})
    elif not quiet:
        for name, size in sorted(done.files.items(), key=lambda item: -item[1]):
            console().print(f"{size / 1e6:9.3f} MB  {name}", soft_wrap=True)
        console().print(f"{done.nbytes / 1e6:9.3f} MB  {done.path}", soft_wrap=True)


@app.command()
def sensitivity(
    source: Annotated[str, typer.Argument(help="Any source that export takes.")],
    data: Annotated[Path, typer.Option("--data", help="Text like production's, as for compress.")],
    column: Column = None,
    activations: Annotated[
        Literal["per-token", "static", "none"], typer.Option("--activations", help="How values are rounded.")
    ] = "per-token",
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="Directory for JSON and plot.")] = Path(
        "sensitivity"
    ),
    samples: Annotated[int, typer.Option("--samples", min=1, help="Texts to compare on.")] = 128,
    task: Task = None,
    allow_pickle: Pickle = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Round one group of SOURCE's matrices at a time to int8, and say what each costs."""
    with needs_export():
        from ..compress.sensitivity import sensitivity_of
        from .tables import sensitivity_table
    with progress(None, quiet or as_json) as step:
        found, files = sensitivity_of(
            source,
            task=task,
            data=data,
            column=column,
            activations=activations,
            samples=samples,
            out=out,
            allow_pickle=allow_pickle,
            on_step=step,
        )
    if as_json:
        print_json(found)
    elif not quiet:
        console().print(sensitivity_table(found))
        print_paths(files)


@app.command()
def lint(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or an .onnx file.")],
    target: Annotated[
        str,
        typer.Option("--target", help="x86-avx2, x86-vnni, arm-dotprod, arm-i8mm, ort-mobile or tensorrt."),
    ],
    as_json: Json = False,
) -> None:
    """Say what in BUNDLE would saturate, overflow, be refused or run slowly on a target; exit 1 where answers would be wrong."""
    with needs_export():
        from ..check.lint import lint as run
    found = run(bundle, target)
    if as_json:
        print_json([{"severity": f.severity, "where": f.where, "what": f.what} for f in found])
    for finding in found if not as_json else []:
        print(f"{finding.where}: {finding.severity}: {finding.what}")
    if any(f.severity == "error" for f in found):
        raise typer.Exit(1)


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(help="A bundle made with --target web.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
) -> None:
    """Serve the page of BUNDLE on this machine, with the headers that threads in WebAssembly need."""
    from ..targets.web.serve import server

    with server(bundle, port) as running:
        print(f"http://127.0.0.1:{running.server_port}/", flush=True)
        running.serve_forever()


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Directory of the bundle.")] = Path("build/minilm"),
    cache: Annotated[Path, typer.Option("--cache", help="Where downloads are kept.")] = Path(".cache/models"),
    quiet: Quiet = False,
) -> None:
    """Export, verify and measure a real model (all-MiniLM-L6-v2)."""
    with needs_export():
        from .demo import run_demo
    run_demo(out, cache, console=None if quiet else console(), progress=lambda total: progress(total, quiet))


app.command()(tokenizer)


def main() -> None:
    """Entry point: errors become one message and their exit code."""
    signal.signal(signal.SIGTERM, _stop)
    # A command lives for seconds: passes over everything that torch imports would cost more than the garbage they find.
    gc.disable()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    warnings.simplefilter("default", HeadwayWarning)
    warnings.showwarning = lambda message, *_, **__: print(f"headway: warning: {message}", file=sys.stderr)
    code = _run()
    if "torch" in sys.modules or code == Interrupted.exit_code:
        # Taking torch down takes a second and frees nothing that the system would not. And an interpreter that was interrupted while it
        # ran generated code, as a dataclass's, would end itself by the signal, whatever code is asked for.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False)
    except HeadwayError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = _TYPER_INTERRUPTED
    except Exception as error:
        if not hasattr(error, "show"):  # what the parser raises shows itself; its class moved between typer's versions
            raise
        error.show()
        return UsageError.exit_code
    if code == _TYPER_INTERRUPTED:
        return _fail("interrupted; nothing half-written is left, run the command again", Interrupted.exit_code)
    return code if isinstance(code, int) else 0


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> int:
    print(f"headway: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
