"""Say where the time of a bundle goes: milliseconds by block, module and kind of operator, from ONNX Runtime's own profiler.

`headway bench A --diff B` compares two bundles so, and shows where the difference between them lies.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle import Bundle
from ...calibration.corpus import lines_or_builtin
from ...errors import TargetError
from ...manifest import Manifest, check_files
from ...runners.open import graph_of
from ...runners.ort import OrtRunner
from ...scratch import scratch
from .bench_bundle import check_agreement
from .measure import Case, Contestant, Feeds, feeds_for

_CASES = (Case(1, 32), Case(1, 128))
_RUNS = 15
_CONTROL_FLOW = ("If", "Loop", "Scan")
_KERNEL = "_kernel_time"
_PARAMETER = re.compile(r"\.(weight|bias)(_\w+)?$")
_BLOCK = re.compile(r"^(.*?\.\d+)(\.|$)")
ELSEWHERE = "elsewhere"
"""Where no module is known."""


@dataclass(frozen=True)
class Spent:
    """Milliseconds of an operator kind in a module: `module` by its Hugging Face name, `block` as `encoder.layer.0`."""

    block: str
    module: str
    kind: str
    ms: float


@dataclass(frozen=True)
class Difference:
    """What two bundles spend. `first` and `second` are their names; rows are for a text of 32 tokens and one of 128 together."""

    first: str
    second: str
    threads: int
    spent: tuple[tuple[Spent, ...], tuple[Spent, ...]]

    @property
    def totals(self) -> tuple[float, float]:
        """Milliseconds of both in all operators."""
        first, second = (sum(s.ms for s in spent) for spent in self.spent)
        return first, second

    def by(self, *keys: str) -> list[tuple[str, float, float]]:
        """Return rows (name, first ms, second ms) for `block`, `module` or `kind`; the largest difference first."""
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for index, spent in enumerate(self.spent):
            for one in spent:
                sums[" ".join(str(getattr(one, key)) for key in keys)][index] += one.ms
        rows = [(name, first, second) for name, (first, second) in sums.items()]
        return sorted(rows, key=lambda row: (-abs(row[2] - row[1]), row[0]))

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "first": self.first,
            "second": self.second,
            "threads": self.threads,
            "milliseconds": list(self.totals),
            "by_block": self.by("block"),
            "by_kind": self.by("kind"),
            "by_module": self.by("module", "kind"),
            "spent": [[asdict(one) for one in spent] for spent in self.spent],
        }


def difference_of(
    first: Path, second: Path, *, threads: int = 1, data: Path | None = None, column: str | None = None
) -> Difference:
    """Return where two bundles of one model spend their time. They run in turn, on the same texts.

    Raises SourceError where a file was changed or they are different models, and TargetError where one does not run in ONNX Runtime.
    """
    paths = (first, second)
    bundles = [Bundle.open(path, threads=threads) for path in paths]
    for path, bundle in zip(paths, bundles, strict=True):
        check_files(path, bundle.manifest)
        if not graph_of(path / bundle.manifest.artifact).is_file():
            raise TargetError(f"{path}: does not run in ONNX Runtime, whose profiler is read: give bundles that do")
    lines = lines_or_builtin(data, column)
    longest = min(bundle.manifest.tokenizer.max_length for bundle in bundles)
    cases = [case for case in _CASES if (case.length or 0) <= longest] or [Case(1, longest)]
    feeds = [feeds_for(case, bundles[0].encoder, lines, longest) for case in cases]
    contestants = [Contestant(str(p), b.runner.run) for p, b in zip(paths, bundles, strict=True)]
    check_agreement(contestants, feeds[0], least=0.5 if any(b.manifest.compression for b in bundles) else 0.9)
    spent = profiled([(p, b.manifest) for p, b in zip(paths, bundles, strict=True)], feeds, threads)
    names = [path.resolve().name for path in paths]
    return Difference(names[0], names[1] if names[1] != names[0] else str(second), threads, (spent[0], spent[1]))


def profiled(
    bundles: Sequence[tuple[Path, Manifest]], feeds: Sequence[Feeds], threads: int, runs: int = _RUNS
) -> list[tuple[Spent, ...]]:
    """Return what each bundle spends on a run of all `feeds`: the least of `runs` for each operator, all bundles run in turn.

    The least, since whatever else runs on the machine makes an operator slower and never faster.
    """
    with scratch() as folder:
        runners = []
        for number, (path, manifest) in enumerate(bundles):
            graph = graph_of(path / manifest.artifact)
            options = {**manifest.session_options, "regroup": False}
            optimized = Path(folder) / f"{number}.onnx" if graph.suffix == ".onnx" else None
            runner = OrtRunner(graph, options, threads, profile=Path(folder) / f"{number}-", optimized=optimized)
            runners.append((runner, optimized))
        for _ in range(runs + 1):
            for runner, _ in runners:
                for batch in feeds:
                    runner.run(batch)
        results = []
        for runner, optimized in runners:
            events = json.loads(Path(runner.session.end_profiling()).read_text(encoding="utf-8"))
            places = {} if optimized is None or not optimized.is_file() else places_of(optimized)
            results.append(tuple(_spent(events, places, runs)))
    return results


def _spent(events: Iterable[Mapping[str, Any]], places: Mapping[str, str], runs: int) -> Iterator[Spent]:
    """Yield what each operator took; the first of its runs is a warm-up."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            kind = event["args"]["op_name"]
            if kind not in _CONTROL_FLOW:  # what they run has events of its own
                times[event["name"].removesuffix(_KERNEL), kind].append(event["dur"] / 1e3)
    for (name, kind), took in times.items():
        each = len(took) // (runs + 1)
        # What ran in some runs alone has its mean.
        ms = float(_sums(took, runs, each).min()) if each else sum(took) / (runs + 1)
        module = places.get(name, ELSEWHERE)
        block = _BLOCK.match(module)
        yield Spent(block[1] if block else module.split(".")[0], module, kind, ms)


def _sums(took: Sequence[float], runs: int, each: int) -> np.ndarray:
    """Return what an operator took in each run but the first, of `each` events a run."""
    return np.array(took[each : each * (runs + 1)]).reshape(runs, each).sum(axis=1)


def places_of(model: Path) -> dict[str, str]:
    """Return the Hugging Face module of each node of an optimized graph, by the node's name.

    A node belongs to the module whose parameters it reads, or whose name its output has. Others belong to what the modules that their
    inputs come from have in common: attention to that of its query, key and value.
    """
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    return dict(_places(graph, {}, {initializer.name for initializer in graph.initializer}, ELSEWHERE))


def _common(modules: Sequence[str]) -> str:
    """Return the module that holds all of some: the last one where they have nothing in common, as at the first residual."""
    if not modules:
        return ""
    parts = [module.split(".") for module in modules]
    same = [names[0] for names in zip(*parts, strict=False) if len(set(names)) == 1]
    return ".".join(same) if any(part.isdigit() for part in same) else modules[0]


def _places(graph: Any, made: dict[str, str], weights: set[str], outer: str) -> Iterator[tuple[str, str]]:
    modules = {_PARAMETER.sub("", name) for name in weights if _PARAMETER.search(name)}
    for node in graph.node:
        read = [_PARAMETER.sub("", name) for name in node.input if name in weights and _PARAMETER.search(name)]
        named = [name for name in node.output if name in modules]
        before = [made[name] for name in node.input if name in made and made[name] != ELSEWHERE]
        place = (read or named or [_common(before)])[0] or outer
        for name in node.output:
            made[name] = place
        yield node.name, place
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inner = weights | {initializer.name for initializer in attribute.g.initializer}
                yield from _places(attribute.g, dict(made), inner, place)
