"""`headway export` and `headway compress`: from a model to a verified bundle."""

import gc
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from .. import api
from . import options as o
from .curve import build_curve, read_speeds
from .progress import progress, stages_of
from .shared import console, print_json, print_paths, read_number, read_shapes

if TYPE_CHECKING:
    from ..export import Exported
    from ..recipe.recipe import Recipe


def export(
    source: o.OptionalSource = None,
    *,
    out: o.OptionalOut = None,
    force: o.Force = False,
    work: o.Work = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
    recipe: o.Recipe = None,
    target: o.Target = None,
    kernels: o.Kernels = None,
    dtype: o.DType = None,
    gpu: o.Gpu = None,
    plan: o.Plan = False,
    verify: o.Verify = None,
    data: o.SeveralData = None,
    column: o.Column = None,
    task: o.Task = None,
    adapter: o.Adapters = None,
    allow_pickle: o.Pickle = False,
    allow_code: o.Code = False,
) -> None:
    """Export SOURCE to a verified bundle."""
    if source is None and recipe is None:
        raise UsageError("give a SOURCE, or a --recipe that names one")
    if out is None:
        raise UsageError("give --out, the directory of the bundle")
    engine = ({"gpus": gpu.split(",")} if gpu else {}) | ({"plan": True} if plan else {})
    resolved = api.resolve_recipe(
        source,
        recipe,
        task=task,
        adapters=adapter or None,
        data=data or None,
        column=column,
        target=target,
        kernels=kernels,
        dtype=dtype,
        verify=verify,
        engine=engine or None,
        allow_code=allow_code,
    )
    _make(resolved, out, force=force, work=work, allow_pickle=allow_pickle, quiet=quiet, as_json=as_json)


def compress(
    source: o.Source,
    *,
    speedup: o.Speedup = None,
    quantize: o.Quantize = None,
    max_drop: o.MaxDrop = 5.0,
    latency: o.Latency = None,
    flops: o.Flops = None,
    curve: o.Curve = None,
    recover: o.Recover = None,
    trim_vocabulary: o.TrimVocabulary = False,
    keep_script: o.KeepScript = None,
    search: o.Search = False,
    repair: o.Repair = True,
    data: o.DomainData,
    column: o.Column = None,
    samples: o.Samples = 512,
    out: o.Out,
    force: o.Force = False,
    work: o.Work = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
    target: o.Target = None,
    kernels: o.Kernels = None,
    verify: o.Verify = None,
    shape: o.Shape = None,
    threads: o.Threads = 1,
    task: o.Task = None,
    adapter: o.Adapters = None,
    allow_pickle: o.Pickle = False,
) -> None:
    """Cut and quantize SOURCE to a verified bundle that is as fast as asked."""
    budget = {"speedup": speedup, "latency_ms": read_number(latency, "ms", "--latency"), "flops": flops}
    keys: dict[str, Any] = {
        "data": data,
        "quantize": quantize,
        "recover_minutes": read_number(recover, "-minutes", "--recover"),
        "trim_vocabulary": trim_vocabulary,
        "keep_scripts": keep_script or (),
        "search": search,
        "repair": repair,
        "max_drop": max_drop,
        "column": column,
        "calibration": {"samples": samples},
        "work": {"shapes": read_shapes(shape), "threads": threads},
        "target": target,
        "kernels": kernels,
        "verify": verify,
        "task": task,
        "adapters": adapter or None,
    }
    how: Any = dict(force=force, work=work, allow_pickle=allow_pickle, quiet=quiet, as_json=as_json)
    if curve is None:
        _make(api.compression_recipe(source, budget=budget, **keys), out, **how)
        return
    if any(limit is not None for limit in budget.values()):
        raise UsageError("--curve names the speeds itself: give it without --speedup, --latency and --flops")
    speeds = read_speeds(curve)
    _make_curve([(s, api.compression_recipe(source, budget={"speedup": s}, **keys)) for s in speeds], out, **how)


def _make_curve(
    recipes: list[tuple[float, "Recipe"]],
    out: Path,
    *,
    force: bool,
    work: Path | None,
    allow_pickle: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    gc.enable()
    made = build_curve(
        recipes,
        out,
        force=force,
        allow_pickle=allow_pickle,
        work=work,
        progress=lambda n: progress(n, quiet or as_json),
    )
    if as_json:
        print_json({"metric": made.metric, "rows": [asdict(row) for row in made.rows]})
    elif not quiet:
        from .tables import curve_table

        console().print(curve_table(made))
        print_paths(made.files)


def _make(
    recipe: "Recipe", out: Path, *, force: bool, work: Path | None, allow_pickle: bool, quiet: bool, as_json: bool
) -> None:
    if recipe.passes:
        gc.enable()  # graphs are full of cycles; a compression makes and drops many, with their weights
    with progress(stages_of(recipe), quiet or as_json) as step:
        exported = api.export(
            None, out, recipe=recipe, force=force, allow_pickle=allow_pickle, work_dir=work, progress=step
        )
    if as_json:
        print_json(_as_json(exported))
    elif not quiet:
        _print(exported)


def _as_json(exported: "Exported") -> Mapping[str, Any]:
    compression = exported.manifest.compression
    sizes = {"path": str(exported.path), "artifact_bytes": exported.artifact_bytes}
    if compression is not None:
        return {**sizes, **compression}
    return {
        **sizes,
        "source_bytes": exported.source_bytes,
        "parity": exported.parity.to_json(),
        "lowering": exported.manifest.lowering,
    }


def _print(exported: "Exported") -> None:
    from ..publish.card import meanings
    from .tables import agreement_table, export_table, stages_table

    console().print(export_table(exported.manifest, exported.source_bytes, exported.artifact_bytes))
    if exported.manifest.compression is not None:
        console().print(stages_table(exported.manifest.compression))
        console().print(agreement_table(exported.manifest.compression["agreement"]))
        for sentence in meanings(exported.manifest.compression["agreement"]):
            console().print(sentence)
    print_paths([exported.path])
