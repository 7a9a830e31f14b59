"""Make three bundles of a text classifier and compare them: float32, fast on a CPU, and as small as can be.

python examples/text_classifier/make_bundles.py build/tickets/model build/tickets build/tickets/bundles

Any Hugging Face directory of a text classifier will do, with `text` and `label` of its classes in train.jsonl and test.jsonl.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import headway
from headway.errors import HeadwayError

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class Row:
    """A bundle in the table. `speedup`: times as fast as the source's graph, measured while compressing."""

    name: str
    megabytes: float
    speedup: float | None
    accuracy: float


def accuracy(bundle: headway.Bundle, test: list[dict[str, str]]) -> float:
    """Return the share of test rows whose label is the likeliest, in percent."""
    answers = bundle.labels([row["text"] for row in test])
    right = sum(label == row["label"] for (label, _), row in zip(answers, test, strict=True))
    return 100 * right / len(test)


def make_bundles(model: Path, data: Path, out: Path) -> list[Row]:
    """Write the bundles below `out`. Everything is learned from train.jsonl; test.jsonl is only counted on."""
    lines = (data / "test.jsonl").read_text(encoding="utf-8").splitlines()
    test = [json.loads(line) for line in lines if line.strip()]
    rows = []
    for name in ("float32", "fast-cpu", "smallest"):
        recipe = None if name == "float32" else RECIPES / f"{name}.yaml"
        made = headway.export(model, out / name, recipe=recipe, data=data / "train.jsonl")
        compression = made.manifest.compression
        speedup = compression["speedup"] if compression else None
        bundle = headway.open(out / name)
        rows.append(Row(name, made.artifact_bytes / 1e6, speedup, accuracy(bundle, test)))
    return rows


def main() -> int:
    """Read the command line, make the bundles, and print the table."""
    parser = argparse.ArgumentParser(description="Make and compare bundles of a text classifier.")
    parser.add_argument("model", type=Path, help="Hugging Face directory of a text classifier")
    parser.add_argument("data", type=Path, help="directory of train.jsonl and test.jsonl, rows of text and label")
    parser.add_argument("out", type=Path, help="directory for the bundles")
    given = parser.parse_args()
    try:
        rows = make_bundles(given.model, given.data, given.out)
    except HeadwayError as error:
        print(f"no bundle: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{'bundle':10} {'MB':>7} {'times as fast':>14} {'accuracy, %':>12}")
    for row in rows:
        speedup = "" if row.speedup is None else f"{row.speedup:.2f}"
        print(f"{row.name:10} {row.megabytes:7.2f} {speedup:>14} {row.accuracy:12.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
