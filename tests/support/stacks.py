"""What another tool compressed, and what may follow: int8, a further cut, and export to each kind of target."""

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headway.errors import HeadwayError
from headway.exporter.api import compression_recipe
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe, make_recipe

from tests.checkpoints.gated_factors import make_gated
from tests.checkpoints.gated_heads import make_gates
from tests.checkpoints.pruned_heads import make_pruned
from tests.checkpoints.q8bert import make_q8bert
from tests.checkpoints.tiny_bert import make_tiny_bert
from tests.support import models

ROWS: dict[str, Callable[[Path], Any]] = {
    "2. heads": lambda folder: make_pruned(folder, {0: [1], 1: [0, 2]}, {0: range(20)}, task="text-classification"),
    "3. gates, question answering": make_gates,
    "6. FLOP": lambda folder: make_gated(folder, [9, 18, 7]),
    "9. DistilBERT": lambda folder: models.make_model(folder, "distilbert", "text-classification"),
    "14. TinyBERT": make_tiny_bert,
    "16. Q8BERT": lambda folder: make_q8bert(folder, in_8bit=True, num_hidden_layers=2),
}
"""Forms that are taken further, each made in small by its own mechanism. Numbers are those of the systems in the documentation."""

SHAPE = (8, 48)
"""Texts and tokens that a cut is measured on: on a few tokens, what it costs to call operators would hide it."""

TARGETS = ("ort", "ort-mobile", "web", "executorch", "tensorrt")
CUT = "a further cut"
SPLIT = "a low-rank split"
FOLLOWS = ("int8", CUT, SPLIT, *TARGETS)

REFUSED = {
    ("16. Q8BERT", "executorch"): "target executorch has no arithmetic for activations that a checkpoint rounds",
}
"""Pairs that are refused, with the reason that is given."""


def write_text(path: Path, count: int = 120) -> Path:
    """Write different lines of random words."""
    rng = random.Random(0)
    lines = dict.fromkeys(" ".join(rng.choices(models.WORDS, k=rng.randint(3, 20))) for _ in range(count))
    path.write_text("\n".join(lines))
    return path


def recipe_of(source: Path, follows: str, text: Path, **budget: float) -> Recipe:
    """Return the recipe that the command line makes of it. `budget`: what a further cut is asked for."""
    if follows in TARGETS:
        engine = {"plan": True} if follows == "tensorrt" else {}
        return make_recipe("test", source=str(source), target=follows, engine=engine)
    if follows == SPLIT:
        passes = [{"kind": "split", "keep": 0.4}]
        return make_recipe(
            "test",
            source=str(source),
            data=str(text),
            max_drop=100,
            calibration={"samples": 64},
            work={"shapes": [SHAPE]},
            passes=passes,
        )
    work = {"shapes": [SHAPE]} if follows == CUT else {}
    limits = {"speedup": None, "latency_ms": None, "flops": None} | (budget if follows != "int8" else {})
    return compression_recipe(
        source,
        budget=limits,
        quantize="int8" if follows == "int8" else None,
        recover_minutes=0,
        trim_vocabulary=False,
        search=False,
        repair=True,
        data=str(text),
        max_drop=100,
        calibration={"samples": 64},
        work=work,
    )


def followed(source: Path, follows: str, text: Path, out: Path, **budget: float) -> Exported | str:
    """Return what is made, or the sentence by which it is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return export(recipe_of(source, follows, text, **budget), out, work=out.parent / "work")
        except HeadwayError as error:
            return f"{type(error).__name__}: {error}"
