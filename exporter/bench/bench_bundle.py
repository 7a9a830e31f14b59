"""`headway bench`: open the contestants, measure them, and keep the result in the bundle."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...bundle import Bundle
from ...calibration.corpus import lines_or_builtin
from ...errors import SourceError, TargetError
from ...manifest import MANIFEST, Manifest, check_files
from ...runners.ort import OrtRunner
from ..publish.card import CARD, seal
from ..publish.staging import output_folder, staged
from ..publish.writing import written
from .measure import DEFAULT_CASES, BenchResult, Contestant, feeds_for, measure

RESULT_FILE = "bench.json"
PLOT = Path("plots") / "latency.png"


def bench_bundle(
    path: Path,
    against: Sequence[str],
    *,
    threads: int,
    data: Path | None,
    rounds: int,
    column: str | None = None,
    out: Path | None = None,
    save: bool = False,
    on_step: Callable[..., None] = lambda *_, **__: None,
) -> BenchResult:
    """Measure a bundle and its rivals in paired rounds.

    With `save` the result goes into the bundle (manifest, card, plot), and into `out` where given. Every contestant gets the same
    arrays and the same number of threads. Raises SourceError where a rival answers differently: its time would mean nothing.
    """
    if out is not None:
        output_folder(out)  # before anything is measured
    bundle = Bundle.open(path, threads=threads)
    longest = bundle.manifest.tokenizer.max_length
    lines = lines_or_builtin(data, column)
    feeds = {
        case: feeds_for(case, bundle.encoder, lines, longest, seed=0)
        for case in DEFAULT_CASES
        if (case.length or 0) <= longest
    }
    contestants = [
        Contestant(str(path), bundle.runner.run),
        *(open_contestant(spec, threads, bundle) for spec in against),
    ]
    # A compressed model is not quite its source: only what has nothing to do with it is refused.
    check_agreement(contestants, next(iter(feeds.values())), least=0.5 if bundle.manifest.compression else 0.9)
    result = measure(contestants, feeds, rounds=rounds, threads=threads, on_progress=on_step)
    if out is not None:
        result.files += keep(result, out, None)
    if save:
        result.files += keep(without_places(result), path, bundle)
    return result


def open_contestant(spec: str, threads: int, bundle: Bundle) -> Contestant:
    """Open a bundle, an `.onnx` file, or a Hugging Face directory, which PyTorch runs."""
    path = Path(spec)
    if (path / MANIFEST).is_file():
        return Contestant(spec, Bundle.open(path, threads=threads).runner.run)
    if path.suffix == ".onnx":
        return Contestant(spec, OrtRunner(path, threads=threads).run)
    try:
        import torch

        from ..capture.capture import load_reference
        from ..source.source import open_source
    except ModuleNotFoundError as error:
        raise TargetError(
            f"{spec}: runs in PyTorch, but {error.name} is not installed: pip install 'headway[export]'"
        ) from error
    torch.set_num_threads(threads)
    reference, _ = load_reference(open_source(spec, task=bundle.manifest.task))
    return Contestant(f"PyTorch {torch.__version__.split('+')[0]}", reference.run)


def check_agreement(contestants: Sequence[Contestant], feeds: dict[str, np.ndarray], least: float = 0.9) -> None:
    """Raise SourceError naming a contestant whose first common output is another model's (cosine below `least`)."""
    first = _as_dict(contestants[0].run(feeds))
    mask = feeds["attention_mask"].astype(bool)
    for rival in contestants[1:]:
        other = _as_dict(rival.run(feeds))
        shared = [name for name in first if name in other and other[name].shape == first[name].shape]
        if not shared:
            raise SourceError(
                f"{rival.name}: gives none of the outputs {list(first)} in the same shape: compare with a model for the same task"
            )
        a, b = first[shared[0]], other[shared[0]]
        if a.shape[:2] == mask.shape:
            a, b = a[mask], b[mask]
        cosine = float(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b)))
        if cosine < least:
            raise SourceError(
                f"{rival.name}: answers differently (cosine {cosine:.3f} on {shared[0]}): it is not the same model; compare with "
                "what was made from the same source"
            )


def _as_dict(result: object) -> Mapping[str, np.ndarray]:
    assert isinstance(result, Mapping)
    return result


def without_places(result: BenchResult) -> BenchResult:
    """Return a result whose contestants are named by the last part of their paths: a bundle does not say where it was made."""
    names: dict[str, str] = {}
    for name in result.contestants:
        short = Path(name).resolve().name if os.sep in name or name in (".", "..") else name
        same = sum(other.split(" #")[0] == short for other in names.values())
        names[name] = f"{short} #{same + 1}" if same else short
    cases = [replace(c, milliseconds={names[n]: times for n, times in c.milliseconds.items()}) for c in result.cases]
    return replace(result, contestants=[names[n] for n in result.contestants], cases=cases, files=[])


def keep(result: BenchResult, folder: Path, bundle: Bundle | None) -> list[Path]:
    """Write JSON and plot to `folder`; or, into a bundle, manifest, card and plot, all of them or none. Return the files."""
    if bundle is None:
        with written(folder):
            (output_folder(folder) / RESULT_FILE).write_text(
                json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8"
            )
            return [*_plot(result, folder), folder / RESULT_FILE]
    bundle.manifest.bench = result.to_json()
    with revised(folder, bundle.manifest) as staging:
        (staging / PLOT).unlink(missing_ok=True)
        plots = _plot(result, staging)
    return [*(folder / p.relative_to(staging) for p in plots), folder / MANIFEST]


@contextmanager
def revised(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """Yield a copy of a bundle that replaces it on success, with another manifest and its card; on an error nothing changes.

    Files in the copy are second names for the old bundle's bytes: unlink one before it is written again.
    """
    # Checksums are computed again below: check now, so that what was damaged since does not pass for the bundle's own.
    check_files(folder, manifest)
    with staged(folder, force=True) as staging:
        shutil.copytree(folder, staging, copy_function=_link, dirs_exist_ok=True)
        for name in (CARD, MANIFEST):
            (staging / name).unlink(missing_ok=True)
        yield staging
        seal(staging, manifest)


def _plot(result: BenchResult, folder: Path) -> list[Path]:
    from .plot import plot_bench

    try:
        (folder / PLOT).parent.mkdir(parents=True, exist_ok=True)
        plot_bench(result, folder / PLOT)
    except ModuleNotFoundError:
        return []  # matplotlib comes with the export extra; at deploy time the figures are enough
    return [folder / PLOT]


def _link(source: str, target: str) -> None:
    """Give the same bytes a second name, so that weights are not copied. File systems without links get a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
