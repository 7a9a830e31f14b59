"""`headway`: one verb for each step, each usable alone. Exit codes are those of `errors`; heavy imports wait for the verb."""

import gc
import logging
import os
import signal
import sys
import warnings
from contextlib import suppress
from io import TextIOWrapper
from types import FrameType
from typing import Annotated

import typer

from ... import __version__
from ...errors import HeadwayError, HeadwayWarning, Interrupted, UsageError
from .check_verbs import bench, inspect, lint, verify
from .deploy_verbs import package, tokenizer
from .gate_verb import gate
from .guard import check_surroundings, explain
from .help import CONTEXT, PlainCommand, PlainGroup
from .kernel_verbs import kernels_app
from .machine_verbs import cache, demo, targets
from .make_verbs import compress, export
from .pick_verb import pick
from .provenance_verbs import bom, pack, sign, unpack
from .report_verb import report
from .run_verb import run
from .search_verb import search
from .serve_verb import serve
from .study_verbs import profile, sensitivity

_TYPER_INTERRUPTED = 130
"""What typer returns when the user interrupts a command."""

_BROKEN_PIPE = 1
"""What typer returns where whoever reads the output, as `head`, stops early."""

app = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=CONTEXT,
    help="Make a trained Transformer deployable, and prove that it still computes the same.",
    epilog="Exit codes: 0 done, 1 a gate or parity failed, 2 usage, 3 source unreadable or unsupported, "
    "4 target not available, 5 interrupted.",
)

_GROUPS = {
    "Make a bundle": (export, compress, search, pick),
    "Check and measure it": (verify, bench, gate, report, inspect, lint),
    "Deploy it": (package, serve, run, tokenizer),
    "Pass it on": (pack, unpack, sign, bom),
    "Get started": (demo, targets),
    "Look closer": (profile, sensitivity, cache),
}
"""The commands, in the order in which most people need them."""

for _heading, _verbs in _GROUPS.items():
    for _verb in _verbs:
        app.command(cls=PlainCommand, context_settings=CONTEXT, rich_help_panel=_heading)(_verb)
app.add_typer(kernels_app, name="kernels", rich_help_panel="Look closer")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"headway {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""
    check_surroundings(sys.argv[1:])


def main() -> None:
    """Run the command line: errors become one message and their exit code."""
    signal.signal(signal.SIGTERM, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks a character gets its number
            stream.reconfigure(errors="backslashreplace")
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
        code = app(prog_name="headway", standalone_mode=False)
        sys.stdout.flush()
    except HeadwayError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = _TYPER_INTERRUPTED
    except BrokenPipeError:
        with suppress(OSError):  # what is still buffered goes nowhere, so that it cannot fail once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as error:
        if hasattr(error, "show"):  # what the parser raises shows itself; its class moved between typer's versions
            error.show()
            return UsageError.exit_code
        reason = explain(error)
        if reason is None:
            raise
        return _fail(reason, UsageError.exit_code)
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
