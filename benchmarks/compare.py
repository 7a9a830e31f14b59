"""Our bundle against every peer, paired: same model, same text, same threads, one run in turn each.

    python -m benchmarks.compare [--threads 1 2] [--rounds 15]

Prints a table, writes JSON and a plot to `benchmarks/results/`.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, TimeRemainingColumn

from headway import Bundle
from headway.calibration.corpus import builtin_lines
from headway.exporter.bench.measure import DEFAULT_CASES, BenchResult, Case, Contestant, feeds_for, measure
from headway.exporter.bench.plot import plot_bench
from headway.exporter.cli.tables import bench_table
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from .models import minilm
from .peers.artifacts import Peer, all_peers
from .results import save

WORKER = Path(__file__).parent / "peers" / "worker.py"
RIVALS = ("Optimum O2", "Optimum O3", "ONNX Runtime fused", "OpenVINO")
"""The ones a float32 bundle has to match on padded batches; CTranslate2 skips padding and is shown beside them."""


class Worker:
    """A contestant in its own process."""

    def __init__(self, peer: Peer, threads: int, feeds: Path):
        self.peer = peer
        command = [peer.python, WORKER, peer.kind, peer.artifact, str(threads), feeds]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._expect("ready")

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{self.peer.name}: its process ended")
        return line

    def _expect(self, word: str) -> None:
        line = self._line()
        while line != word:  # some libraries greet on standard output
            line = self._line()


def run(
    bundle: Path,
    peers: Sequence[Peer],
    threads: int,
    rounds: int,
    *,
    least_cosine: float = 0.999,
    cases: Sequence[Case] = DEFAULT_CASES,
) -> BenchResult:
    """One paired run of all contestants, the bundle first, under a bar; RuntimeError where one computes something else."""
    opened = Bundle.open(bundle)
    longest = opened.manifest.anatomy["embeddings"]["embeddings.position_embeddings.weight"][0]
    feeds = {case: feeds_for(case, opened.encoder, builtin_lines(), longest) for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "feeds.npz"
        np.savez(
            stored, **{f"{case.label}/{name}": array for case, batch in feeds.items() for name, array in batch.items()}
        )
        own = Peer("Headway", "headway", Path(sys.executable), bundle)
        workers = [Worker(peer, threads, stored) for peer in (own, *peers)]
        for case in feeds:
            answers = []
            for worker in workers:
                path = Path(folder) / "answer.npy"
                worker.ask(f"check\t{case.label}\t{path}")
                answers.append(np.load(path))
            for worker, answer in zip(workers[1:], answers[1:], strict=True):
                cosine = (
                    np.sum(answer * answers[0], 1) / np.linalg.norm(answer, axis=1) / np.linalg.norm(answers[0], axis=1)
                )
                if cosine.min() < least_cosine:
                    raise RuntimeError(
                        f"{worker.peer.name} computes something else on {case.label}: cosine {cosine.min():.4f}"
                    )
        labels = {id(batch): case.label for case, batch in feeds.items()}
        contestants = [Contestant(w.peer.name, lambda batch, w=w: float(w.ask(labels[id(batch)]))) for w in workers]
        with Progress(*Progress.get_default_columns(), TimeRemainingColumn(), transient=True) as bar:
            task = bar.add_task(f"{threads} threads")

            def step(label: str, *, of: int) -> None:
                bar.update(task, description=label, total=of, advance=1)

            result = measure(contestants, feeds, rounds=rounds, threads=threads, seconds_per_case=90, on_progress=step)
        for worker in workers:
            worker.process.kill()
    return result


def verdict(result: BenchResult) -> list[str]:
    """Case by case against the fastest rival: how many times as long it takes as we do."""
    lines, ratios = [], []
    for case in result.cases:
        best = min(RIVALS, key=lambda name: case.percentile(name, 50))
        ratio, low, high = case.ratio(best)
        ratios.append(ratio)
        word = "not slower" if high >= 1 else "SLOWER"
        lines.append(
            f"{case.label:>9}: best rival {best} takes {ratio:.3f} ({low:.3f} to {high:.3f}) times as long: {word}"
        )
    lines.append(f"geometric mean against the best rival of each row: {np.exp(np.mean(np.log(ratios))):.3f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    console = Console(width=200)
    model = minilm()
    done = export(Recipe(source=str(model)), Path("build/compare-bundle"), force=True)
    block = done.manifest.anatomy["blocks"][0]
    packed = export(Recipe(source=str(model), kernels="custom"), Path("build/compare-packed-bundle"), force=True).path
    peers = [Peer("Headway kernels", "headway", Path(sys.executable), packed)]
    peers += all_peers(model, block["heads"], block["heads"] * block["head_dim"])
    for threads in arguments.threads:
        result = run(done.path, peers, threads, arguments.rounds)
        console.print(bench_table(result))
        summary = verdict(result)
        console.print("\n".join(summary))
        path = save(f"minilm-{threads}-threads", result.to_json() | {"verdict": summary})
        plot_bench(result, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
