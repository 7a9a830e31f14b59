"""`headway gate`: one verdict on a bundle, for people and for CI."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import GateError, UsageError
from .. import api
from . import options as o
from .progress import progress
from .shared import console, print_json, print_paths

if TYPE_CHECKING:
    from ..validate.outputs import GateResult

GATES = "Gates"

_Baseline = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        "-b",
        metavar="BUNDLE_OR_LOCK",
        help="What it may not be slower than: another bundle of the model, or a headway.lock.",
        rich_help_panel=GATES,
    ),
]
_Gate = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        "-g",
        metavar="NAME=LIMIT",
        help="A limit, as p99_ms=20, throughput=200 or max_quality_drop=1; repeatable. Those of the bundle's recipe hold as well.",
        rich_help_panel=GATES,
    ),
]
_Lock = Annotated[
    bool,
    typer.Option("--lock", help="Write headway.lock, by which later runs are judged.", rich_help_panel=GATES),
]
_Quick = Annotated[
    bool, typer.Option("--quick", help="Half a minute: finds large slowdowns.", rich_help_panel=o.MEASURE)
]
_Long = Annotated[
    bool, typer.Option("--long", help="Up to a quarter of an hour: finds slowdowns of 5 %.", rich_help_panel=o.MEASURE)
]
_Scenario = Annotated[
    list[str] | None,
    typer.Option(
        "--scenario",
        metavar="NAME",
        help="Measure it besides: single-stream, multi-stream, offline or server of LoadGen, or closed-loop, which stands for them; "
        "repeatable.",
        rich_help_panel=o.MEASURE,
    ),
]
_Sweep = Annotated[
    bool,
    typer.Option(
        "--sweep", help="Measure every number of threads and size of batch, and the warm-up.", rich_help_panel=o.MEASURE
    ),
]
_Bound = Annotated[
    float | None,
    typer.Option(
        "--bound",
        min=0.001,
        metavar="MS",
        help="Scenario server: the milliseconds that 99 % of the answers have to keep.",
        rich_help_panel=o.MEASURE,
    ),
]
_Tokenize = Annotated[
    bool, typer.Option("--tokenize", help="Count tokenization into the latency.", rich_help_panel=o.MEASURE)
]
_Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        "-a",
        metavar="SOURCE",
        help="The source, for quality and parity; the one that the bundle's recipe names where not given.",
        rich_help_panel=o.SOURCE,
    ),
]
_Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        "-d",
        metavar="FILE",
        help=f"Text like production's: {o.FORMATS}; with labels where quality is gated. A small built-in set where not given.",
        rich_help_panel=o.TEXT,
    ),
]
_Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        file_okay=False,
        metavar="DIR",
        help="Directory for gate.json, gate.xml (JUnit), gate.md and the lock.",
        rich_help_panel=o.OUTPUT,
    ),
]


def gate(
    bundle: o.Bundle,
    baseline: _Baseline = None,
    limits: _Gate = None,
    lock: _Lock = False,
    quick: _Quick = False,
    long: _Long = False,
    scenario: _Scenario = None,
    sweep: _Sweep = False,
    bound: _Bound = None,
    tokenize: _Tokenize = False,
    threads: o.Threads = 1,
    data: _Data = None,
    column: o.Column = None,
    against: _Against = None,
    out: _Out = None,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Decide whether BUNDLE may be shipped: pass, fail, or undecided.

    Exit code 0 where all gates pass, and 1 where one fails or cannot be decided. The table says what would settle it.
    """
    if quick and long:
        raise UsageError("--quick and --long: give one of them")
    with progress(None, quiet or as_json) as step:
        result = api.gate(
            bundle,
            baseline=baseline,
            gates=_read_limits(limits or ()),
            mode="quick" if quick else "long" if long else "default",
            scenarios=scenario or (),
            sweep=sweep,
            bound_ms=bound,
            tokenize=tokenize,
            threads=threads,
            data=data,
            column=column,
            against=against,
            lock=lock,
            out=out,
            progress=step,
        )
    if as_json:
        print_json(result.to_json())
    elif not quiet:
        _print(result)
    if result.verdict != "pass":
        raise GateError(result.line)


def _read_limits(texts: Any) -> dict[str, Any]:
    """Return limits by name. UsageError for what is no NAME=LIMIT."""
    limits: dict[str, Any] = {}
    for text in texts:
        name, sign, limit = text.partition("=")
        if not sign and name != "parity":
            raise UsageError(f"--gate {text!r}: a name and a limit are expected, as p99_ms=20")
        limits[name.strip()] = limit.strip() or "true"
    return limits


def _print(result: "GateResult") -> None:
    from .tables import gate_table

    if result.verdict == "pass":
        console().print(result.line, soft_wrap=True)
    if result.rows:
        console().print(gate_table(result.rows))
    for row in result.rows:
        if row.note:
            console().print(f"{row.gate}: {row.note}", soft_wrap=True)
    for remark in result.remarks:
        console().print(remark, soft_wrap=True)
    print_paths(result.files)
