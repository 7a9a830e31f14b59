"""`headway verify`, `bench`, `inspect` and `lint`: what a bundle computes, how fast, and what it is made of."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import GateError, UsageError
from .. import api
from . import options as o
from .progress import progress
from .shared import console, print_json, print_paths, read_shapes

if TYPE_CHECKING:
    from ..check.lint import Findings

_LintTarget = Annotated[
    str,
    typer.Option(
        "--target",
        "-t",
        metavar="NAME",
        help="x86-avx2, x86-vnni, arm-dotprod, arm-i8mm, ort-mobile or tensorrt.",
        rich_help_panel=o.TARGET,
    ),
]
_Artifact = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory of a bundle, or an .onnx file.")]
_AgainstSource = Annotated[
    str | None,
    typer.Option(
        "--against",
        "-a",
        metavar="SOURCE",
        help="The source; the one that the bundle's recipe names where not given.",
        rich_help_panel=o.SOURCE,
    ),
]
_Length = Annotated[
    int,
    typer.Option(
        "--length", min=1, metavar="N", help="Tokens in a sequence, for FLOPs and times.", rich_help_panel=o.MEASURE
    ),
]
_Time = Annotated[
    bool,
    typer.Option(
        "--time", help="Measure the share of each kind of operator in ONNX Runtime.", rich_help_panel=o.MEASURE
    ),
]
_BenchOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        file_okay=False,
        metavar="DIR",
        help="Directory for JSON and plot.",
        rich_help_panel=o.OUTPUT,
    ),
]
_Diff = Annotated[
    Path | None,
    typer.Option(
        "--diff",
        metavar="BUNDLE",
        help="Show where the difference to another bundle of the model lies: milliseconds by block, module and operator.",
        rich_help_panel=o.MEASURE,
    ),
]
_PublicKey = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="Public key (PEM): check the signature and nothing else.",
        rich_help_panel=o.SOURCE,
    ),
]
_Signature = Annotated[
    Path | None,
    typer.Option(
        "--signature", metavar="FILE", help="The signature; BUNDLE.sig where not given.", rich_help_panel=o.SOURCE
    ),
]
_Save = Annotated[
    bool, typer.Option("--save", help="Put result, card and plot into the bundle.", rich_help_panel=o.OUTPUT)
]


def verify(
    bundle: o.Bundle,
    against: _AgainstSource = None,
    data: o.SeveralData = None,
    column: o.Column = None,
    adapter: o.Adapters = None,
    allow_pickle: o.Pickle = False,
    allow_code: o.Code = False,
    key: _PublicKey = None,
    signature: _Signature = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Compare BUNDLE with its source on real text again, and its files with their checksums; with --key, its signature alone."""
    if key is None and signature is not None:
        raise UsageError("--signature belongs to --key: give the public key, or leave it out")
    if key is not None:
        if against or data or column or adapter or allow_pickle or allow_code:
            raise UsageError(
                "--key checks the signature alone: leave --against, --data, --column, --adapter, --allow-pickle and --allow-code out"
            )
        _verify_signature(bundle, key, signature, quiet, as_json)
        return
    with progress(4, quiet or as_json) as step:
        verdict = api.verify(
            bundle,
            against=against,
            data=data,
            column=column,
            adapters=adapter or (),
            allow_pickle=allow_pickle,
            allow_code=allow_code,
            progress=step,
        )
    if as_json:
        print_json(verdict.to_json())
    elif not quiet and verdict.parity is not None:
        from .tables import parity_table

        console().print(parity_table(verdict.parity))
    elif not quiet:
        console().print(
            f"{verdict.metric}: {verdict.quality:.2f} points (the source has {verdict.source_quality:.2f}; "
            f"{verdict.recorded:.2f} when the bundle was made)"
        )
        if verdict.agreement is not None:
            from .tables import agreement_table

            console().print(agreement_table(verdict.agreement))
    if not (quiet or as_json):
        console().print(verdict.compared, soft_wrap=True)
    if not verdict.ok:
        raise GateError(
            f"{bundle}: no longer agrees with its source on this text: export it again before you deploy it"
        )


def _verify_signature(bundle: Path, key: Path, signature: Path | None, quiet: bool, as_json: bool) -> None:
    with api.needs("sign"):
        import model_signing  # noqa: F401

        from ..package.signature import check_signature
    place = check_signature(bundle, key, signature)
    if as_json:
        print_json({"ok": True, "signature": str(place)})
    elif not quiet:
        console().print(f"{bundle}: all files are those that were signed in {place}", soft_wrap=True)


def bench(
    bundle: o.Bundle,
    against: o.Against = None,
    diff: _Diff = None,
    threads: o.Threads = 1,
    rounds: o.Rounds = None,
    data: o.Data = None,
    column: o.Column = None,
    device: o.Device = None,
    serial: o.Serial = None,
    tool: o.Tool = None,
    shape: o.DeviceShape = None,
    out: _BenchOut = None,
    save: _Save = False,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Measure latency and throughput of BUNDLE, paired with others."""
    if diff is not None:
        if against or device or serial or tool or shape or save or out or rounds:
            raise UsageError(
                "--diff shows two bundles alone: leave --against, --device, --serial, --tool, --shape, --rounds, --save and --out out"
            )
        _bench_diff(bundle, diff, threads, data, column, as_json=as_json, quiet=quiet)
        return
    if device is not None:
        if against:
            raise UsageError("--against is not measured on a device: leave it out, and bench each bundle there")
        _bench_device(
            bundle, serial, tool, shape, threads, rounds, data, column, out, save=save, quiet=quiet, as_json=as_json
        )
        return
    if serial or tool or shape:
        raise UsageError("--serial, --tool and --shape belong to --device adb: add it, or leave them out")
    with progress(None, quiet or as_json) as step:
        result = api.bench(
            bundle,
            against=against or (),
            threads=threads,
            data=data,
            column=column,
            rounds=rounds or 15,
            out=out,
            save=save,
            progress=step,
        )
    if as_json:
        print_json(result.to_json())
    elif not quiet:
        from .tables import bench_table

        console().print(bench_table(result))
        print_paths(result.files)


def _bench_diff(
    first: Path, second: Path, threads: int, data: Path | None, column: str | None, *, as_json: bool, quiet: bool
) -> None:
    with api.needs("export"):
        from ..bench.attribution import difference_of
        from .tables import difference_tables
    found = difference_of(first, second, threads=threads, data=data, column=column)
    if as_json:
        print_json(found.to_json())
    for table in difference_tables(found) if not (as_json or quiet) else ():
        console().print(table)


def _bench_device(
    bundle: Path,
    serial: str | None,
    tool: list[Path] | None,
    shape: list[str] | None,
    threads: int,
    runs: int | None,
    data: Path | None,
    column: str | None,
    out: Path | None,
    *,
    save: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    from ..bench.device import RUNS, bench_on_device, keep_device_record
    from ..publish.staging import output_folder

    if out is not None:
        output_folder(out)  # before anything is measured
    with progress(None, quiet or as_json) as step:
        record = bench_on_device(
            bundle,
            serial=serial,
            tool=tool or [],
            shapes=read_shapes(shape),
            runs=runs or RUNS,
            threads=threads,
            data=data,
            column=column,
            on_step=step,
        )
    files = keep_device_record(record, bundle, out, save=save)
    if as_json:
        print_json(record)
    elif not quiet:
        from .tables import device_table

        console().print(device_table(record))
        print_paths(files)


def inspect(
    model: o.Model,
    length: _Length = 128,
    time: _Time = False,
    task: o.Task = None,
    adapter: o.Adapters = None,
    allow_pickle: o.Pickle = False,
    as_json: o.Json = False,
) -> None:
    """Print what MODEL is made of."""
    inspection = api.inspect(
        model, task=task, length=length, time=time, allow_pickle=allow_pickle, adapters=adapter or ()
    )
    if as_json:
        print_json(inspection)
        return
    from .tables import anatomy_table, share_table

    console().print(anatomy_table(inspection))
    if inspection["time_share"]:
        console().print(share_table(inspection["time_share"], length))


def lint(bundle: _Artifact, target: _LintTarget, as_json: o.Json = False) -> None:
    """Say what in BUNDLE would be wrong, refused or slow on a processor or runtime.

    Exit code 1 where answers would be wrong or refused.
    """
    with api.needs("export"):
        from ..check.lint import lint as run
    findings = run(bundle, target)
    if as_json:
        print_json([{"severity": f.severity, "where": f.where, "what": f.what} for f in findings])
    for finding in findings if not as_json else []:
        print(f"{finding.where}: {finding.severity}: {finding.what}")
    if not as_json:
        print(f"read {findings.nodes} nodes of {findings.file.name} for {target}: {_counted(findings)}")
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def _counted(findings: "Findings") -> str:
    """Return how many findings there are of each severity, in words."""
    counts = Counter(finding.severity for finding in findings)
    return ", ".join(f"{count} {severity}" for severity, count in counts.items()) or "nothing to say"
