"""Run a bundle over files in shards: what is finished stays finished, however a run ends.

A run writes its parts into a folder beside the output. Parts and their order follow from the plan alone. So a run that was killed goes
on with the parts that are missing, by whatever process. No row comes twice into the output, and none is left out.
"""

import hashlib
import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SourceError, UsageError
from ..manifest import Manifest
from ..replaced import held
from .result_files import Counts, counts_of, is_part, join, with_answers, write_part
from .shards import Shard, files_of, names_of, read_shard, shards_of, state_of, texts_of
from .text_column import text_column
from .texts_to_columns import Dtype, TextsToColumns

ROWS = 8192
"""Rows of a shard: some seconds of work, which is what a run that is killed loses."""

_AT_ONCE = 2
"""Shards under way at once: while one is tokenized or written, the batches of the other keep the lanes busy."""

_PLAN = "plan"
"""The file with the plan's fingerprint."""

_PARTS = "part-*.parquet"


@dataclass(frozen=True)
class Plan:
    """What is run over what. `bundle` and `folder`, where parts are written, are absolute; `identity` is that of the bundle."""

    bundle: Path
    identity: str
    column: str
    dtype: Dtype
    prompt_name: str | None
    shards: tuple[Shard, ...]
    folder: Path

    def part(self, number: int) -> Path:
        """Return where the answers to a shard are written."""
        return self.folder / f"part-{number:06d}.parquet"

    @property
    def missing(self) -> list[int]:
        """Return the numbers of the shards that have no part yet."""
        return [n for n in range(len(self.shards)) if not self.part(n).is_file()]

    def fingerprint(self) -> str:
        """Return a digest of all that the parts depend on: the bundle, the settings, and the files by size and time."""
        files = {str(file): state_of(file) for file in dict.fromkeys(s.file for s in self.shards)}
        shards = [(str(s.file), s.start, s.rows) for s in self.shards]
        told = [self.identity, self.column, self.dtype, self.prompt_name, files, shards]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@dataclass(frozen=True)
class Done:
    """What a run wrote. `kept` shards were there from a run before."""

    out: Path
    counts: Counts
    shards: int
    kept: int
    seconds: float
    """Seconds of this run, opening the bundle among them."""

    texts_per_second: float | None
    """Texts that this run answered, by the seconds it needed for that; None where all were answered before."""


Compute = Callable[[Plan, Sequence[int], Callable[..., None]], None]
"""What computes the parts of shards, and tells each that is done."""


def run(
    bundle: Path,
    data: Path,
    out: Path,
    *,
    column: str | None = None,
    dtype: Dtype = "float32",
    prompt_name: str | None = None,
    lanes: int = 1,
    rows: int = ROWS,
    force: bool = False,
    compute: Compute | None = None,
    step: Callable[..., None] = lambda *_, **__: None,
) -> Done:
    """Answer all rows of `data` and write them with their answers to `out`: a file where it ends in .parquet, else a directory.

    UsageError where `out` is there and `force` is not given, where parts of a run with other settings lie beside it, and where another
    run writes there now. Errors of bundle and data as their own functions raise them.
    """
    began = time.monotonic()
    if out.resolve() == data.resolve():
        raise UsageError(f"{out}: is the data; give another --out")
    _check_place(out, force)
    files = files_of(data)
    step("read the data")
    shards = tuple(shards_of([f.resolve() for f in files], rows))
    if not shards:
        raise UsageError(f"{data}: has no rows")
    name = text_column(data, *names_of(files[0], column), column)
    plan = Plan(bundle.resolve(), identity_of(bundle), name, dtype, prompt_name, shards, _folder_beside(out))
    with _held(plan, force):
        _check_place(out, force)  # another run may have finished meanwhile
        missing = plan.missing
        step("run")
        step("shards", of=len(shards), at=len(shards) - len(missing))
        started = time.monotonic()
        (compute or _local(lanes))(plan, missing, step)
        took = time.monotonic() - started
        counts = [counts_of(plan.part(n)) for n in range(len(shards))]
        step("write")
        _put_in_place(plan, out)
    rate = sum(counts[n].texts for n in missing) / took if missing else None
    return Done(out, sum(counts, Counts()), len(shards), len(shards) - len(missing), time.monotonic() - began, rate)


def answer_shard(plan: Plan, number: int, runs: TextsToColumns, table: Any = None) -> Counts:
    """Answer the rows of one shard and write its part; return its counts. `table` is what was read of it already."""
    began = time.monotonic()
    shard = plan.shards[number]
    rows = read_shard(shard) if table is None else table
    texts = texts_of(rows, shard, plan.column)
    present = np.array([t is not None for t in texts], bool)
    answers = runs([t for t in texts if t is not None])
    counts = Counts(len(texts), int(present.sum()), answers.tokens, answers.truncated, time.monotonic() - began)
    write_part(plan.part(number), with_answers(rows, present, answers), counts)
    return counts


def identity_of(bundle: Path) -> str:
    """Return a digest of a bundle: all that its manifest says but what was measured of its speed. SourceError where it is none."""
    told = asdict(Manifest.read(bundle))
    for measured in ("bench", "devices"):
        del told[measured]
    told["files"] = {n: f for n, f in told["files"].items() if n != "README.md" and not n.startswith("plots/")}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def opened(plan: Plan, lanes: int = 1) -> TextsToColumns:
    """Return the bundle of a plan, opened once for each process. SourceError where it was replaced since the run began."""
    return _opened(plan.bundle, plan.identity, plan.dtype, plan.prompt_name, lanes)


@lru_cache(maxsize=1)
def _opened(bundle: Path, identity: str, dtype: Dtype, prompt_name: str | None, lanes: int) -> TextsToColumns:
    runs = TextsToColumns(bundle, lanes=lanes, dtype=dtype, prompt_name=prompt_name)
    if identity_of(bundle) != identity:
        raise SourceError(f"{bundle}: was replaced since the run began; start it again with --force")
    return runs


def _local(lanes: int) -> Compute:
    def compute(plan: Plan, missing: Sequence[int], step: Callable[..., None]) -> None:
        if not missing:
            return
        runs = opened(plan, lanes)
        done = len(plan.shards) - len(missing)
        running: deque[Future[Counts]] = deque()

        def finish() -> None:
            nonlocal done
            running.popleft().result()
            done += 1
            step("shards", of=len(plan.shards), at=done)

        with ThreadPoolExecutor(_AT_ONCE, "headway-shard") as threads:
            try:
                for number, table in _ahead(plan, missing):
                    if len(running) == _AT_ONCE:
                        finish()
                    running.append(threads.submit(answer_shard, plan, number, runs, table))
                while running:
                    finish()
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    return compute


def _ahead(plan: Plan, numbers: Iterable[int]) -> Iterator[tuple[int, Any]]:
    """Yield shards with their rows; the next one is read meanwhile."""
    numbers = list(numbers)
    with ThreadPoolExecutor(1, "headway-read") as reader:
        coming = reader.submit(read_shard, plan.shards[numbers[0]])
        for place, number in enumerate(numbers):
            table = coming.result()
            if place + 1 < len(numbers):
                coming = reader.submit(read_shard, plan.shards[numbers[place + 1]])
            yield number, table


def _folder_beside(out: Path) -> Path:
    real = out.resolve()
    folder = real.with_name(f".{real.name}.parts")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out.parent}: cannot be written ({error.strerror})") from error
    return folder


@contextmanager
def _held(plan: Plan, force: bool) -> Iterator[None]:
    """Hold the folder of parts for this run alone, after checking that its parts are of this plan."""
    with held(plan.folder, f"{plan.folder}: another run writes there; wait for it, or give another --out"):
        try:
            _check_parts(plan, force)
            yield
        except BaseException:
            if not any(plan.folder.glob(_PARTS)):  # nothing is lost
                shutil.rmtree(plan.folder, ignore_errors=True)
            raise


def _check_parts(plan: Plan, force: bool) -> None:
    """Keep the parts of the same plan. UsageError for parts of another one; with `force` they are removed."""
    file, own = plan.folder / _PLAN, plan.fingerprint()
    parts = list(plan.folder.glob(_PARTS))
    stored = file.read_text(encoding="utf-8") if file.is_file() else ""
    others = bool(parts) and stored != own
    if others and not force:
        raise UsageError(
            f"{plan.folder}: holds the parts of a run over other data, or with other settings: run that again, or give --force to begin "
            "anew"
        )
    if others:
        for part in parts:
            part.unlink()
    for left in plan.folder.glob(f".{_PARTS}.*"):  # by a run that was killed while it wrote
        left.unlink()
    file.write_text(own, encoding="utf-8")


def _check_place(out: Path, force: bool) -> None:
    if not out.exists():
        return
    if not force:
        raise UsageError(f"{out} exists; give --force to replace it, or another --out")
    wants_file = out.suffix.lower() == ".parquet"
    if wants_file != out.is_file() or (out.is_dir() and not all(p.match(_PARTS) and is_part(p) for p in out.iterdir())):
        raise UsageError(f"{out}: is not what a run wrote, so that it is not replaced; give another --out")


def _put_in_place(plan: Plan, out: Path) -> None:
    parts = [plan.part(n) for n in range(len(plan.shards))]
    if out.suffix.lower() == ".parquet":
        join(parts, out)
        shutil.rmtree(plan.folder)
        return
    (plan.folder / _PLAN).unlink()
    old = plan.folder.with_name(f"{plan.folder.name}.old")
    if out.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    plan.folder.rename(out)
    shutil.rmtree(old, ignore_errors=True)
