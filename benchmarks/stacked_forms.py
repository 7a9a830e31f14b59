"""What another tool compressed, taken further: int8, a cut to 1.5 times the speed, a low-rank split, and each kind of target.

    python -m benchmarks.stacked_forms [--only TEXT]

Checkpoints are those of `benchmarks.checkpoint_forms` in kind and size. Recorded are the bytes of a bundle that answered as its source
does, or as the compressed graph, and else the sentence of the refusal. Weights are random, so that no quality is judged. The speed-up is
measured by the compression itself. It takes minutes.
"""

import argparse
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from headway.exporter.bench.measure import machine

from .results import kept, save
from .wide_checkpoints import wide
from tests.checkpoints.gated_factors import make_gated
from tests.support.stacks import CUT, FOLLOWS, ROWS, SPLIT, followed, write_text

SPEEDUP = 1.5
MAKERS = ROWS | {"6. FLOP": lambda folder: make_gated(folder, [48, 32, 40], rank=64)}
"""The makers of the tests; ranks are those of a wider model."""


def cell(source: Path, follows: str, text: Path, out: Path) -> dict[str, Any]:
    """Return what became of a checkpoint, or why nothing did."""
    made = followed(source, follows, text, out, speedup=SPEEDUP)
    if isinstance(made, str):
        return {"refused": made.replace(str(source), "the checkpoint")}
    figures: dict[str, Any] = {"bytes": made.artifact_bytes, "dtype": made.parity.dtype}
    if follows in (CUT, SPLIT) and made.manifest.compression is not None:
        figures["speedup"] = made.manifest.compression["speedup"]
    return figures


def main() -> None:
    """Try the cells asked for, and keep the results; other cells keep theirs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name has this text, as '6. FLOP: int8'")
    arguments = parser.parse_args()
    for name in ROWS:
        asked = [follows for follows in FOLLOWS if arguments.only in f"{name}: {follows}"]
        if not asked:
            continue
        with TemporaryDirectory() as folder:
            with wide(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                MAKERS[name](Path(folder) / "model")
            text = write_text(Path(folder) / "text.txt", 400)
            for number, follows in enumerate(asked):
                made = cell(Path(folder) / "model", follows, text, Path(folder) / f"out{number}" / "bundle")
                Console(width=160).print(name, follows, made)
                rows = kept("stacked-forms").get("rows", {})
                before = rows.get(name, {}).get("cells", {}) | {follows: made}
                rows[name] = {"machine": machine(), "cells": {f: before[f] for f in FOLLOWS if f in before}}
                save("stacked-forms", {"rows": {n: rows[n] for n in ROWS if n in rows}})


if __name__ == "__main__":
    main()
