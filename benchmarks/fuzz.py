"""A hundred thousand damaged and hostile inputs over all verbs: the long form of tests/end_to_end/test_fuzz.py.

    python -m benchmarks.fuzz [--count 100000] [--seed 1] [--folder DIR]

Writes small random models to a folder, damages one file for each run, and prints what ended in a traceback or left something
behind. Inputs that did are kept in the folder. Fails where there is any.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import onnx_ir as ir
from rich.console import Console

from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from tests.support import fuzz, fuzz_inputs, models
from tests.support.hand_made import decomposed

PART = 1000
"""Runs between two lines of progress."""


def make_inputs(folder: Path) -> list[fuzz.Input]:
    """Write the models, and return what is mutated."""
    models.make_model(folder / "bert", num_hidden_layers=2)
    models.make_sentence_model(folder / "sentence")
    (folder / "onnx").mkdir()
    ir.save(decomposed("mul", "add", 0), folder / "onnx" / "model.onnx")
    export(Recipe(source=str(folder / "bert")), folder / "bundle")
    bundle, source, sentence = folder / "bundle", folder / "bert", folder / "sentence"
    first = fuzz_inputs.inputs_of(bundle, source, sentence, folder / "onnx", folder / "text")
    return [*first, *fuzz_inputs.more_inputs(bundle, source, sentence, folder / "more")]


def main() -> int:
    """Run as many inputs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    console, wrong = Console(), 0
    inputs = make_inputs(folder)

    def tell(error: fuzz.Wrong) -> None:
        nonlocal wrong
        wrong += 1
        console.print(str(error)[:1000], markup=False, highlight=False)

    for part in range(-(-given.count // PART)):
        place, before = folder / f"part-{part}", wrong
        place.mkdir()
        tally = fuzz.fuzz(inputs, min(PART, given.count - part * PART), given.seed * 1_000_003 + part, place, tell)
        if wrong == before:
            shutil.rmtree(place)
        console.print(f"{(part + 1) * PART}: exit codes {dict(sorted(tally.codes.items()))}, wrong so far {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
