"""What a compression costs: whole-process wall time and peak memory, importances and latency table included.

    python -m benchmarks.compression_cost [--bert-base]

MiniLM-L6 fine-tuned on movie sentences, and BERT-base's shape with random weights (time and memory only), each to twice the
speed with 512 texts, from an empty cache. Prints a table, writes JSON.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from headway.exporter.bench.measure import machine

from .data import movies
from .export_cost import cost, weight_bytes
from .finetune import movie_classifier
from .models import bert_base
from .results import kept, save

TEXTS = 640
"""A fifth is held out, which leaves 512 to learn from."""


def command(model: Path, text: Path, out: Path) -> list[str]:
    """One compression to twice the speed; the drop is not judged, since random weights have nothing to lose."""
    own = [sys.executable, "-m", "headway.exporter.cli", "compress", str(model), "--data", str(text), "--out", str(out)]
    return [*own, "--speedup", "2", "--max-drop", "100", "--force", "--quiet"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bert-base", action="store_true", help="only BERT-base's shape, added to what is there")
    models = {"BERT-base, random": bert_base()} if parser.parse_args().bert_base else {"MiniLM-L6": movie_classifier()}
    results = kept("compression-cost")
    results["machine"] = machine()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text("\n".join(movies()["train"].texts[:TEXTS]), encoding="utf-8")
        environment = os.environ | {"XDG_CACHE_HOME": folder}
        imports = [
            sys.executable,
            "-c",
            "import headway.exporter.export, optimum.exporters.tasks, transformers.modeling_utils",
        ]
        bare = cost(imports, environment)
        for name, model in models.items():
            found = cost(command(model, text, Path(folder) / "bundle"), environment)
            weights = weight_bytes(model)
            results[name] = asdict(found) | {
                "weights": weights,
                "imports_peak": bare.peak,
                "peak_above_imports_to_weights": (found.peak - bare.peak) / weights,
            }
    table = Table("model", "minutes", "peak, MB", "imports alone, MB", "above imports, x weights")
    for name, row in results.items():
        if name != "machine":
            above = f"{row['peak_above_imports_to_weights']:.2f}"
            table.add_row(
                name,
                f"{row['seconds'] / 60:.1f}",
                f"{row['peak'] / 1e6:.0f}",
                f"{row['imports_peak'] / 1e6:.0f}",
                above,
            )
    Console().print(table)
    save("compression-cost", results)


if __name__ == "__main__":
    main()
