"""Measure which single changes to the code the tests notice.

    python -m benchmarks.mutants [--count 200] [--seed 0] [--commit HEAD] [--near] [--again]

Takes that many random places of `headway/`, `exporter/` and `calibration/`, changes each in a copy of the commit (the checkout is not
touched), and runs the tests that belong to it: first the test file of the module, then those of its folder, then those that import it
and a few flows over everything. The first failure ends it. Results go to `benchmarks/results/mutants.json` after each change, so
that an interrupted run goes on where it was. `--near` runs only the test file of each module, or those of its folder where it has
none: minutes in place of hours. `--again` runs the changes that survived before once more, on the commit given.
In the results `equivalent` may say by hand why a change cannot be noticed; it is kept from run to run.
"""

import argparse
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from .mutation import Change, changes_of
from .results import kept, save

ROOT = Path(__file__).parents[1]
PACKAGES = ("headway", "exporter", "calibration")
UNTRACKED = ("kernels/cpu/libheadway_cpu.so", ".venv", ".cache", "tests/web/node_modules")
FLOWS = ("tests/exporter/test_export.py", "tests/headway/test_bundle.py", "tests/end_to_end/test_refusals.py")
"""Tests of everything, for what the tests near a module did not notice."""

LIBRARIES = (
    "numpy",
    "torch",
    "transformers",
    "optimum.exporters.tasks",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "onnxruntime",
)
LIBRARIES += ("tokenizers", "safetensors.torch", "pydantic", "typer", "rich", "hypothesis", "pytest")

MOST_IMPORTERS = 4
NOTICED, SURVIVED, TIMED_OUT = "noticed", "survived", "timed out"


@contextmanager
def copy_of(commit: str) -> Iterator[Path]:
    """Yield a folder with the files of a commit, and links to what is built."""
    with tempfile.TemporaryDirectory(prefix="headway-mutants-") as name:
        copy = Path(name) / "copy"
        packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(copy, filter="data")
        for entry in UNTRACKED:
            if (ROOT / entry).exists() and not (copy / entry).exists():
                (copy / entry).symlink_to((ROOT / entry).resolve())
        packages = copy / "build" / "types" / "headway"
        packages.mkdir(parents=True)
        for path in [*(copy / "headway").iterdir(), *(copy / n for n in ("exporter", "kernels", "calibration"))]:
            (packages / path.name).symlink_to(path)
        yield copy


def sample(copy: Path, count: int, seed: int) -> list[Change]:
    """Return `count` changes in the order of a seed; the same for the same sources."""
    rng = random.Random(seed)
    files = sorted(p for name in PACKAGES for p in (copy / name).rglob("*.py"))
    changes = [c for p in files for c in changes_of(p.relative_to(copy).as_posix(), p.read_bytes(), rng)]
    return rng.sample(changes, min(count, len(changes)))


def stages(copy: Path, file: str) -> list[list[str]]:
    """Return the tests that belong to a module, nearest first: its own, those of its folder, those that import it and the flows."""
    place = Path(file)
    folder = Path("tests") / place.parent
    own = folder / f"test_{place.stem}.py"
    near = sorted(p.relative_to(copy) for p in (copy / folder).glob("test_*.py"))
    module = ".".join(place.with_suffix("").parts)
    module = module if module.startswith("headway") else f"headway.{module}"
    users = [
        path.relative_to(copy)
        for path in sorted((copy / "tests").rglob("test_*.py"))
        if f"{module} import" in path.read_text(encoding="utf-8")
    ]
    taken: set[Path] = set()
    result = []
    for paths in ([own], near, [*users[:MOST_IMPORTERS], *map(Path, FLOWS)]):
        fresh = [p for p in dict.fromkeys(paths) if p not in taken and (copy / p).is_file()]
        taken.update(fresh)
        if fresh:
            result.append([str(p) for p in fresh])
    return result


def preload() -> None:
    """Import what all tests need but this project, once: each run of tests is a fork of this process, which saves most of its start."""
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)


def tests_fail(copy: Path, tests: list[str], traces: Path, limit: float) -> bool | None:
    """Run tests in the copy until the first fails; return whether one did, None where the time was over."""
    process = os.fork()
    if process == 0:
        _run_tests(copy, tests, traces)
    end = time.monotonic() + limit
    while (ended := os.waitpid(process, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None
        time.sleep(0.2)
    code = os.waitstatus_to_exitcode(ended[1])
    if code in (3, 4):
        raise RuntimeError(f"the tests did not run: {(copy.parent / 'output').read_text(encoding='utf-8')[-2000:]}")
    return code not in (0, 5)


def _run_tests(copy: Path, tests: list[str], traces: Path) -> NoReturn:
    """Become a process that runs tests of the copy, in a group of its own."""
    code = 3
    try:
        os.setsid()
        with (copy.parent / "output").open("wb") as output:
            for stream in (1, 2):
                os.dup2(output.fileno(), stream)
        os.chdir(copy)
        own = [str(copy / "build" / "types"), str(copy)]
        os.environ |= {
            "PYTHONPATH": os.pathsep.join(own),
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HEADWAY_TRACES": str(traces),
        }
        sys.dont_write_bytecode = True
        sys.path[:] = [*own, *(p for p in sys.path if p and Path(p) not in (ROOT, ROOT / "build" / "types"))]
        for name in [n for n in sys.modules if n.split(".")[0] in ("benchmarks", "tests", "headway")]:
            del sys.modules[name]
        import pytest

        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={copy.parent / 'tmp'}", *tests]))
    except BaseException:  # whatever it is: the parent must not go on twice
        traceback.print_exc()
    os._exit(code)


def judge(copy: Path, change: Change, limit: float, near: bool) -> dict[str, Any]:
    """Make one change, run its tests, take it back; return what to record."""
    path = copy / change.file
    content = path.read_bytes()
    traces = copy.parent / "traces"  # what the capture traces does not depend on other modules
    if change.file.startswith("exporter/capture/"):
        traces = copy.parent / "own-traces"
        shutil.rmtree(traces, ignore_errors=True)
    began, outcome, by = time.monotonic(), SURVIVED, ""
    path.write_bytes(change.apply(content))
    try:
        for tests in stages(copy, change.file)[: 1 if near else None]:
            failed = tests_fail(copy, tests, traces, limit)
            if failed is not False:
                outcome, by = (
                    (NOTICED if failed else TIMED_OUT),
                    tests[0] if len(tests) == 1 else str(Path(tests[0]).parent),
                )
                break
    finally:
        path.write_bytes(content)
    line = content.splitlines()[change.line - 1].decode().strip()
    record = {k: v for k, v in asdict(change).items() if k not in ("start", "end")}
    seconds = round(time.monotonic() - began)
    return record | {"text": line, "outcome": outcome, "by": by, "near": near, "seconds": seconds}


def key(record: dict[str, Any]) -> tuple[str, ...]:
    """Return what tells a change from others, whatever its line."""
    return record["file"], record["text"], record["before"], record["after"]


def again(copy: Path, record: dict[str, Any]) -> Change | None:
    """Return a recorded change for the present sources: nearest to its old line; None where the line is gone."""
    path = copy / record["file"]
    if not path.is_file():
        return None
    content = path.read_bytes()
    starts = [0]
    for line in content.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    before = record["before"].encode()
    places = [
        (abs(number - record["line"]), number, starts[number - 1] + line.find(before.split(b"\n")[0]))
        for number, line in enumerate(content.split(b"\n"), start=1)
        if line.strip().decode() == record["text"]
    ]
    for _, number, start in sorted(places):
        if content[start : start + len(before)] == before:
            return Change(
                record["file"], number, start, start + len(before), record["before"], record["after"], record["kind"]
            )
    return None


def show(console: Console, records: list[dict[str, Any]]) -> None:
    """Print how many changes of each kind were noticed, and those that were not."""
    table = Table("kind", "changes", "noticed", "survived", "equivalent", "timed out")
    counts = Counter((r["kind"], "equivalent" if r.get("equivalent") else r["outcome"]) for r in records)
    for kind in sorted({r["kind"] for r in records}):
        row = [counts[kind, what] for what in (NOTICED, SURVIVED, "equivalent", TIMED_OUT)]
        table.add_row(kind, str(sum(row)), *map(str, row))
    console.print(table)
    for r in records:
        if r["outcome"] != NOTICED:
            why = f"  # {r['equivalent']}" if r.get("equivalent") else ""
            console.print(f"{r['outcome']}: {r['file']}:{r['line']}: {r['before']} → {r['after']}{why}", markup=False)
    counted = [r for r in records if not r.get("equivalent")]
    noticed = sum(r["outcome"] == NOTICED for r in counted)
    console.print(f"{noticed} of {len(counted)} noticed: {100 * noticed / max(1, len(counted)):.1f} %")


def main() -> None:
    """Sample, run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="how many changes")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--commit", default="HEAD", help="the sources and tests")
    parser.add_argument("--limit", type=float, default=600, help="seconds for each stage of tests")
    parser.add_argument("--near", action="store_true", help="only the tests of the module itself")
    parser.add_argument("--again", action="store_true", help="run those that survived once more, on this commit")
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", options.commit], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    console, old = Console(highlight=False), kept("mutants")
    before: list[dict[str, Any]] = old.get("changes", [])
    reasons = {key(r): r["equivalent"] for r in before if r.get("equivalent")}
    preload()
    with copy_of(commit) as copy:
        if options.again:
            records, seed = before, old["seed"]
            open_ones = [r for r in records if r["outcome"] != NOTICED and not r.get("equivalent")]
            todo = [c for r in open_ones if (c := again(copy, r)) is not None]
        else:
            seed = options.seed
            records = before if (old.get("commit"), old.get("seed")) == (commit, seed) else []
            done = {(r["file"], r["line"], r["before"], r["after"]) for r in records}
            todo = [c for c in sample(copy, options.count, seed) if (c.file, c.line, c.before, c.after) not in done]
        for number, change in enumerate(todo, start=1):
            console.print(f"{number} of {len(todo)}: {change.file}:{change.line}", end="", markup=False)
            record = judge(copy, change, options.limit, options.near) | {"commit": commit}
            if key(record) in reasons:
                record["equivalent"] = reasons[key(record)]
            console.print(f": {record['outcome']} after {record['seconds']} s", markup=False)
            records = [r for r in records if not (options.again and key(r) == key(record))] + [record]
            save("mutants", {"commit": old["commit"] if options.again else commit, "seed": seed, "changes": records})
    show(console, records)


if __name__ == "__main__":
    main()
