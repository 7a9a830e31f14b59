"""Stored figures for reports: manifests with a compression and a bench, and verdicts, without anything being measured."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headway.exporter.bench.measure import BenchResult, CaseResult
from headway.exporter.validate.lock import identity_of
from headway.exporter.validate.report.report_inputs import ReportBundle, read_bundles
from headway.manifest import MANIFEST, Manifest

MACHINE = {
    "cpu": "A processor",
    "features": ["avx2"],
    "cores": 2,
    "threads": 1,
    "system": "Linux",
    "versions": {"numpy": "2.0"},
}


def stage(name: str, mb: float, ms: float, quality: float, ratio: tuple[float, float]) -> dict[str, Any]:
    return {
        "name": name,
        "nbytes": int(mb * 1e6),
        "ms": ms,
        "quality": quality,
        "changes": {"heads": "12 → 6"},
        "paid": True,
        "undone": False,
        "latency_ratio": list(ratio),
    }


def compression(ms: float = 2.0, lost: float = 1.5, metric: str = "accuracy", mb: float = 20.0) -> dict[str, Any]:
    agreement = {
        "data": "held.jsonl",
        "texts": 500,
        "measure": metric,
        "points": 90.0 - lost,
        "low": 85.0,
        "high": 93.0,
        "source": 90.0,
        "lost": lost,
        "lost_low": lost - 1.0,
        "lost_high": lost + 1.0,
        "companions": [],
        "meaning": "",
    }
    return {
        "workload": {"shapes": [[1, 16], [1, 64]], "threads": 1},
        "metric": metric,
        "held_out": 500,
        "source_quality": 90.0,
        "agreement": {"worst": "held.jsonl", "files": [agreement]},
        "stages": [
            stage("source", 80.0, 8.0, 90.0, (1.0, 1.0)),
            stage("remove", mb, ms, 90.0 - lost, (ms / 8 * 0.95, ms / 8 * 1.05)),
        ],
        "sensitivity": {"block 0 query": 2e-3, "block 1 query": 4e-5},
        "sensitivity_unit": "squared distance",
        "sensitivity_noise_floor": 1e-4,
        "machine": MACHINE,
    }


def bench(name: str = "bundle", other: str = "PyTorch") -> dict[str, Any]:
    def case(batch: int, length: int) -> CaseResult:
        times = [batch * length * 0.05 * (1 + i / 100) for i in range(15)]
        return CaseResult(
            f"{batch}x{length}", batch, batch * length, 0.0, {name: times, other: [2 * ms for ms in times]}
        )

    return BenchResult([name, other], 1, [case(1, 32), case(1, 128), case(8, 128)], MACHINE).to_json()


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": 0.9 * value, "high": 1.1 * value, "count": 20}


def gate(bundle: str, artifact: str = "", **figures: Any) -> dict[str, Any]:
    row = {
        "gate": "p99_ms",
        "limit": 20.0,
        "unit": "ms",
        "at_least": False,
        "figure": estimate(30.0),
        "verdict": "fail",
        "note": "slow",
    }
    parity = {
        "gate": "parity",
        "limit": 1.0,
        "unit": "",
        "at_least": False,
        "figure": estimate(1.0),
        "verdict": "pass",
        "note": "",
    }
    cold = {"start_ms": 20.0, "import_ms": 30.0, "load_ms": 40.0, "first_run_ms": 10.0, "total_ms": 100.0}
    cell = {"samples": 600, "p50_ms": estimate(9.0), "p90_ms": estimate(10.0)}
    everything: dict[str, Any] = {
        "single-stream": {
            "percentiles": {"p50_ms": estimate(10.0), "p90_ms": estimate(14.0), "p99_ms": None},
            "latencies_ms": [10 + (i % 50) / 10 for i in range(400)],
        },
        "server": {
            "capacity": {"rate": 70.0, "too_much": 72.0, "trials": [[50.0, 0, 500], [90.0, 300, 500], [71.0, 4, 500]]},
            "bound_ms": 40.0,
            "p99_ms": [estimate(20.0), None, estimate(39.0)],
        },
        "cold_starts": [cold, cold, cold],
        "peak_rss_mb": estimate(110.0),
        "warm_up_ms": [[20.0, 11.0, *([10.0] * 48)]] * 3,
        "sweep": [
            cell
            | {"threads": t, "batch": b, "p99_ms": estimate(5.0 * b), "texts_per_second": estimate(100.0 * t * b**0.5)}
            for t in (1, 2)
            for b in (1, 8, 32)
        ],
        "mb": 20.0,
    }
    return {
        "schema": 1,
        "verdict": "fail",
        "line": f"FAIL: {bundle}: p99_ms 30 (≤ 20 ms) (1 judged in 30 s)",
        "bundle": bundle,
        "artifact": artifact,
        "mode": "quick",
        "gates": [row, parity],
        "remarks": ["the machine took 7 % of the time away"],
        "figures": everything | figures,
        "machine": MACHINE,
        "seconds": 30.0,
        "crash": None,
    }


def copied(bundle: Path, place: Path, **parts: Any) -> Path:
    """Return a copy of a bundle whose manifest has other parts; its files and their checksums stay."""
    shutil.copytree(bundle, place)
    content = json.loads((place / MANIFEST).read_text(encoding="utf-8")) | parts
    (place / MANIFEST).write_text(json.dumps(content), encoding="utf-8")
    return place


def judged(bundle: Path, place: Path, **figures: Any) -> Path:
    """Write a verdict on the very bytes of a bundle to a folder, and return it."""
    content = gate(bundle.resolve().name, identity_of(bundle, Manifest.read(bundle))["artifact"], **figures)
    return stored(content, place)


def stored(content: Mapping[str, Any], place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / "gate.json").write_text(json.dumps(content), encoding="utf-8")
    return place


def three(bundle: Path, folder: Path) -> list[ReportBundle]:
    """Return a plain bundle, a compressed one with bench and verdict, and one that is faster and worse."""
    first = copied(bundle, folder / "plain")
    second = copied(bundle, folder / "half", compression=compression(), bench=bench())
    third = copied(bundle, folder / "quarter", compression=compression(1.0, 12.0, mb=10.0))
    verdict = judged(second, folder / "verdict")
    return read_bundles([first, second, third], [verdict])
