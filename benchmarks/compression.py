"""Quality against measured speed-up, 1x to 4x: Headway's search with and without repair, and what else people do.

    python -m benchmarks.compression movies|news|sts|sts-mpnet|wnut17 [--speedups 1.5 2 3 4] [--recover 10]

Movies: accuracy of a fine-tuned MiniLM-L6 on 2,031 sentences. News: Pearson correlation (times 100) of MiniLM-L6's similarities with
people's, over 1,225 pairs of 50 documents. Sts and sts-mpnet: the same over 2,250 rated pairs of sentences, of MiniLM-L6 and
all-mpnet-base-v2. Wnut17: entity F1 of a fine-tuned MiniLM-L6 on 1,287 sentences. Beside it, on the same texts, the agreement with the
source: equal classes in percent, or the correlation of similarities with the source's own. Figures have 95 % intervals. Every model is
lowered and timed by ONNX Runtime beside the source in the same rounds. Prints a table; writes JSON and a plot.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from rich.console import Console
from rich.table import Table

from headway.calibration.batches import Batch, make_batches
from headway.calibration.removal import Removal
from headway.errors import GateError
from headway.exporter.bench.measure import machine
from headway.exporter.capture.capture import capture
from headway.exporter.compress.evidence import Evidence, collect, sites
from headway.exporter.compress.fit import Tools, fit, rounds_for
from headway.exporter.compress.latency import measure_table
from headway.exporter.compress.latency_table import LatencyTable
from headway.exporter.compress.recover import recover
from headway.exporter.compress.repair import repair
from headway.exporter.compress.samples import MOST_TOKENS
from headway.exporter.compress.search import Part, choose, find_parts
from headway.exporter.compress.stopwatch import Workload, open_model, time_beside
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.graph.edit import constant
from headway.exporter.graph.ranks import break_even
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.base import StructuralPass
from headway.exporter.passes.blocks import RemoveBlocks
from headway.exporter.passes.lowrank import SplitWeights
from headway.exporter.recipe.compression_passes import DEFAULT_EPOCHS, DEFAULT_MINUTES
from headway.exporter.source.source import open_source
from headway.exporter.source.tokenizer import source_encoder
from headway.exporter.targets.ort import target as ort
from headway.runners.base import Runner

from .compression_tasks import Figure, Task, task
from .results import kept, save

THREADS = 1


@dataclass
class Bench:
    """A source model, its text, and how it is judged."""

    name: str
    task: Task
    model: ir.Model
    batches: list[Batch]
    compared: list[Batch]
    recovery_batches: list[Batch]
    judged: list[Batch]
    answers: list[np.ndarray]
    figures: tuple[Figure, Figure]
    workload: Workload
    table: LatencyTable
    baseline: Runner
    parts: list[Part]
    learn: Callable[[ir.Model], Evidence]
    folder: Path
    seconds: dict[str, float]

    def measured(self, method: str, wanted: float | None, model: ir.Model, **more: object) -> dict[str, object]:
        """One point of a curve: measured speed-up and quality. Uses the model up."""
        anatomy = read_anatomy(model)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            runner = open_model(model, Path(folder), THREADS)
            timing = time_beside(self.baseline, runner, self.workload, rounds=20)
            size = sum(p.stat().st_size for p in ort.files(Path(folder)))
            quality, agreement = self.task.figures(self.task.answers(runner, self.judged), self.answers)
        row: dict[str, object] = {
            "method": method,
            "wanted": wanted,
            "speedup": 1 / timing.ratio,
            "speedup_interval": [1 / timing.high, 1 / timing.low],
            "quality": quality.points,
            "quality_interval": quality.interval,
            "lost_interval": quality.lost(self.figures[0]),
            "agreement": agreement.points,
            "agreement_interval": agreement.interval,
        }
        row |= {"mb": size / 1e6, **more}
        row["parameters"] = anatomy.parameters
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        return row


def prepare(name: str, folder: Path) -> Bench:
    """Everything that all methods share: graph, text, latency table, evidence, removal orders."""
    given = task(name)
    source = open_source(str(given.directory))
    began = time.perf_counter()
    captured = capture(source)
    model = canonicalize(captured.model, longest=captured.source.positions).model
    encoder = source_encoder(captured.source, folder)
    longest = encoder.info.max_length
    judged = make_batches(encoder, given.texts, longest=longest, tokens=2048)
    compared = make_batches(encoder, given.train[::5], longest=longest, samples=256, most_tokens=MOST_TOKENS)
    train = [text for i, text in enumerate(given.train) if i % 5]  # what models are compared on, none learns from
    batches = make_batches(encoder, train, longest=longest, samples=512, most_tokens=MOST_TOKENS)

    workload = Workload.of(np.concatenate([b.mask.sum(1) for b in batches]), threads=THREADS)
    baseline = open_model(model.clone(), folder / "baseline", THREADS)
    answers = given.answers(baseline, judged)
    captured_at = time.perf_counter()
    table = measure_table(model, workload, ort.SPEC)
    table_at = time.perf_counter()
    anatomy = read_anatomy(model)

    def learn(one: ir.Model) -> Evidence:
        return collect(TorchGraph(one), read_anatomy(one), batches, source="", text="")

    evidence = learn(model)
    evidence_at = time.perf_counter()
    parts = find_parts(model, anatomy, evidence, table, ort.SPEC)
    seconds = {
        "capture": captured_at - began,
        "latency table": table_at - captured_at,
        "evidence": evidence_at - table_at,
        "orders": time.perf_counter() - evidence_at,
    }
    return Bench(
        name,
        given,
        model,
        batches,
        compared,
        make_batches(encoder, train, longest=longest),
        judged,
        answers,
        given.figures(answers, answers),
        workload,
        table,
        baseline,
        parts,
        learn,
        folder,
        seconds,
    )


def ours(bench: Bench, speedup: float, *, repaired: bool, minutes: float = 0.0) -> list[dict[str, object]]:
    """Headway: rounds of removal and repair until the measured time meets the budget, then the default recovery, or one of `minutes`.

    Two rows, without that recovery and with it. Without repair there is a single round and a single row.
    """

    def time_of(model: ir.Model) -> float:
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            runner = open_model(model.clone(), Path(folder), THREADS)
            return time_beside(bench.baseline, runner, bench.workload).ratio * bench.table.full

    def applied(model: ir.Model, passes: Sequence[StructuralPass]) -> ir.Model:
        made = model.clone()
        for one in passes:
            one(made)
        return made

    began = time.perf_counter()
    source, length = TorchGraph(bench.model), int(np.mean([n for _, n in bench.workload.shapes]))
    model, plans = fit(
        bench.model,
        Tools(
            source,
            bench.compared,
            bench.table,
            length,
            bench.learn,
            applied,
            time_of,
            lambda made: repair(source, made, bench.batches),
            ort.SPEC,
        ),
        budget=bench.table.full / speedup,
        rounds=[1, rounds_for(1 / speedup)] if repaired else [1],
        drop=repaired,
    )
    kept = {
        "heads": [b.attention.heads if b.attention else 0 for b in read_anatomy(model).blocks],
        "widths": [f.width for b in read_anatomy(model).blocks for f in b.feed_forwards],
        "ranks": len(plans[-1].ranks),
        "rounds": len(plans),
        "dropped": [block for plan in plans for block in plan.blocks],
    }

    def row(name: str) -> dict[str, object]:
        return bench.measured(name, speedup, model.clone(), seconds=time.perf_counter() - began, kept=kept)

    if not repaired:
        return [row("Headway without repair")]
    repair(source, model, bench.batches)
    rows = [row("Headway without recovery")]
    untrained, before = model.clone(), agreement_on(bench, model)
    recover(
        source,
        read_anatomy(bench.model),
        model,
        bench.recovery_batches,
        minutes or DEFAULT_MINUTES,
        epochs=None if minutes else DEFAULT_EPOCHS,
    )
    if (
        agreement_on(bench, model) <= before
    ):  # as `compress` takes a recovery back that texts to choose by do not confirm
        model = untrained
    return [*rows, row(f"Headway, {minutes:g} minutes of recovery" if minutes else "Headway")]


def agreement_on(bench: Bench, model: ir.Model) -> float:
    """Return how far a model agrees with the source on the texts that models are compared on: equal classes, or similarities."""
    answers = []
    for one in (model, bench.model):
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            runner = open_model(one.clone(), Path(folder), THREADS)
            results = [(runner.run(b.feeds)[bench.task.output], b.mask) for b in bench.compared]
            answers.append(np.concatenate([r[m] if r.ndim == 3 else r for r, m in results]))
    if bench.task.output == "logits":
        return float(np.mean(answers[0].argmax(-1) == answers[1].argmax(-1)))
    pairs = np.triu_indices(len(answers[0]), 1)
    return float(np.corrcoef(*((a @ a.T)[pairs] for a in answers))[0, 1])


def by_score(bench: Bench, method: str, speedup: float) -> dict[str, object]:
    """Magnitude or random removal under the same table and budget, without repair, as published baselines do it."""
    anatomy = read_anatomy(bench.model)
    rng = np.random.default_rng(0)
    parts = []
    for part in bench.parts:
        site = part.sites[0]
        weight = constant(bench.model.graph.initializers[site.projection.weight])
        assert weight is not None
        norms = np.square(weight).sum(1).reshape(site.units, site.unit).sum(1)
        order = np.argsort(norms) if method == "magnitude" else rng.permutation(site.units)
        lost = norms if method == "magnitude" else np.full(site.units, 1.0 / site.units)
        removal = Removal(
            order, np.concatenate([[0.0], np.cumsum(np.square(lost[order]) if method == "random" else lost[order])])
        )
        options = [replace(o, loss=float(removal.loss[site.units - o.keep])) for o in part.options if o.rank is None]
        if method == "random":  # the same part of every site goes
            options = [replace(o, loss=(1 - o.keep / site.units) ** 2) for o in options]
        parts.append(Part(part.sites, removal, options))
    plan = choose(parts, anatomy, bench.table.full / speedup - bench.table.rest)
    model = bench.model.clone()
    for one in plan.passes(anatomy, None):
        one(model)
    return bench.measured(f"{method} removal", speedup, model)


def dropping(bench: Bench, count: int) -> dict[str, object]:
    """Uniform layer dropping: `count` blocks, evenly spread, the last one kept."""
    blocks = len(read_anatomy(bench.model).blocks)
    gone = np.unique(np.linspace(1, blocks - 1, count + 1).round().astype(int)[:-1] if count > 1 else [blocks // 2])
    model = bench.model.clone()
    RemoveBlocks([int(i) for i in gone])(model)
    return bench.measured("uniform layer dropping", None, model, dropped=[int(i) for i in gone])


def plain_svd(bench: Bench, share: float) -> dict[str, object]:
    """Every matrix of the blocks split by plain SVD at `share` of its break-even rank."""
    ranks = {}
    for block in read_anatomy(bench.model).blocks:
        for p in block.projections:
            ranks[p.weight] = max(8, int(share * break_even(p.in_features, p.out_features)) // 8 * 8)
    model = bench.model.clone()
    SplitWeights(ranks)(model)
    return bench.measured("plain SVD", None, model, share=share)


def jobs(bench: Bench, speedups: Sequence[float], minutes: float) -> dict[str, Callable[[], list[dict[str, object]]]]:
    """Return what makes rows, by the names of the rows."""
    made: dict[str, Callable[[], list[dict[str, object]]]] = {
        "source": lambda: [bench.measured("source", 1.0, bench.model.clone())]
    }
    for speedup in speedups:
        made |= {
            f"Headway, {speedup:g}": lambda s=speedup: ours(bench, s, repaired=True),
            f"Headway without repair, {speedup:g}": lambda s=speedup: ours(bench, s, repaired=False),
            f"magnitude removal, {speedup:g}": lambda s=speedup: [by_score(bench, "magnitude", s)],
            f"random removal, {speedup:g}": lambda s=speedup: [by_score(bench, "random", s)],
        }
    made |= {f"uniform layer dropping, {n}": lambda n=n: [dropping(bench, n)] for n in (1, 2, 3, 4)}
    made |= {f"plain SVD, {s:g}": lambda s=s: [plain_svd(bench, s)] for s in (0.9, 0.7, 0.5, 0.3)}
    if minutes:
        made[f"Headway, {minutes:g} minutes of recovery"] = lambda: ours(bench, 2.0, repaired=True, minutes=minutes)[1:]
    return made


def run(name: str, speedups: Sequence[float], minutes: float, *, again: bool = False) -> dict[str, object]:
    """All methods at all speed-ups. Each row is saved when it is made, and is not made again but Headway's with `again`."""
    before = kept(f"compression-{name}")
    if before and before["machine"]["cpu"] != machine()["cpu"]:
        raise SystemExit(
            f"the rows that are kept were measured on {before['machine']['cpu']}: move the file away to measure all here"
        )
    with tempfile.TemporaryDirectory() as scratch:
        bench = prepare(name, Path(scratch))
        print(bench.seconds, str(bench.workload), flush=True)
        result: dict[str, object] = before or {
            "task": name,
            "metric": bench.task.metric,
            "title": bench.task.title,
            "workload": str(bench.workload),
            "seconds": bench.seconds,
            "machine": machine(),
            "texts": {
                "learned from": sum(len(b.rows) for b in bench.batches),
                "sites": len(sites(read_anatomy(bench.model))),
            },
        }
        rows: list[dict[str, object]] = list(result.pop("rows", []))  # type: ignore[call-overload]
        for job, make in jobs(bench, speedups, minutes).items():
            if any(r["job"] == job for r in rows) and not (again and job.startswith("Headway")):
                continue
            try:
                made = [{"job": job, **row} for row in make()]
            except GateError as error:
                print(f"{job}: {error}", flush=True)
                continue
            rows = [r for r in rows if r["job"] != job] + made
            save(f"compression-{name}", result | {"rows": rows})
        return result | {"rows": rows}


def plot(result: dict, path: Path) -> None:
    """One line a method, over measured speed-up."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    colors = ("#1b6ca8", "#7fb2d6", "#e08e45", "#b5b5b5", "#6a994e", "#c1554e", "#10405f")
    methods = list(dict.fromkeys(r["method"] for r in result["rows"][1:]))
    for axes, key, label in zip(
        both, ("quality", "agreement"), (result["metric"], "agreement with the source"), strict=True
    ):
        source = result["rows"][0].get(key, 100.0)
        axes.axhspan(source - 1, source, color="#dddddd", label="within 1 point of the source")
        for method, color in zip(methods, colors, strict=False):
            found = (r for r in result["rows"] if r["method"] == method and key in r)
            rows = sorted(found, key=lambda r: r["speedup"])
            points = [r["speedup"] for r in rows], [r[key] for r in rows]
            spans = [r.get(f"{key}_interval", [r[key]] * 2) for r in rows]
            errors = np.abs(np.array(spans).T - points[1]) if rows else None
            axes.errorbar(*points, errors, fmt="o-", color=color, label=method, markersize=4, elinewidth=0.8)
        axes.set_xlabel(
            f"measured speed-up in ONNX Runtime ({result['workload'].replace(' thread(s)', ' thread')})", fontsize=8
        )
        axes.set_ylabel(label)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    both[0].set_title(result["title"], fontsize=10)
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["movies", "news", "sts", "sts-mpnet", "wnut17"])
    parser.add_argument("--speedups", type=float, nargs="*", default=[1.5, 2.0, 3.0, 4.0])
    parser.add_argument("--again", action="store_true", help="measure Headway anew, keep the other rows")
    parser.add_argument("--recover", type=float, default=0.0, help="minutes of recovery at 2x")
    given = parser.parse_args()
    result = run(given.task, given.speedups, given.recover, again=given.again)
    table = Table("method", "wanted", "speed-up", result["metric"], "agreement", "MB")  # type: ignore[arg-type]
    for row in result["rows"]:  # type: ignore[attr-defined]
        wanted = f"{row['wanted']:.2f}" if row["wanted"] else ""
        figures = (f"{row[k]:.2f}" if k in row else "" for k in ("speedup", "quality", "agreement"))
        table.add_row(row["method"], wanted, *figures, f"{row['mb']:.1f}")
    Console().print(table)
    plot(result, save(f"compression-{given.task}", result).with_suffix(".png"))


if __name__ == "__main__":
    main()
