"""Judge a bundle's answers: by labels beside its source, and by parity."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...bundle import Bundle
from ...errors import UsageError
from ...manifest import Manifest, logit_columns
from ...scratch import scratch
from ...tasks import Scoring
from .gates import Row, parity_row, quality_row
from .labeled import Labeled, Model, read_gold
from .non_inferiority import drop_of

if TYPE_CHECKING:
    from .gate_bundle import Question


def gold_of(data: Path | None, column: str | None, manifest: Manifest, *, needed: bool) -> Labeled | None:
    """Return labelled texts where quality is gated. UsageError where there are none, or they belong to another task."""
    if not needed:
        return None
    if data is None:
        raise UsageError("max_quality_drop needs labelled text: give --data, a table with labels for the bundle's task")
    scoring = None
    if manifest.task == "text-classification":
        scoring = Scoring.of(manifest.scoring, logit_columns(manifest.outputs) or max(len(manifest.labels), 1))
    return read_gold(data, manifest.task, manifest.labels, scoring, column)


def quality_gate(
    question: "Question", manifest: Manifest, gold: Labeled, allowed: float
) -> tuple[Row, list[dict[str, Any]]]:
    """Return the row of the first metric, and all metrics as plain values; bundle and source answer the same texts."""
    from ..capture.capture import load_reference
    from ..recipe.recipe import RECIPE_FILE, check_code, find_named, read_recipe
    from ..source.source import open_source
    from ..source.tokenizer import source_encoder

    bundle = Bundle.open(question.bundle, threads=question.threads)
    spec, file = question.against, question.bundle / RECIPE_FILE
    if spec is None:
        recipe = read_recipe(file)
        check_code(recipe.source, file)
        spec = find_named(recipe.source, file, "source", "--against")
    source = open_source(spec, task=manifest.task)
    if source.fingerprint != manifest.source["fingerprint"] and source.kind != "factory":
        raise UsageError(
            f"{spec} is not the model that {question.bundle} was made from: give the right one with --against"
        )
    reference, source = load_reference(source)
    with scratch() as folder:
        own = Model(bundle.runner.run, bundle.encoder, manifest.labels)
        first = Model(reference.run, source_encoder(source, Path(folder)), manifest.labels)
        metrics = gold.score(own, first)
    reference.close()
    drops = [drop_of(metric, allowed) for metric in metrics]
    return quality_row(drops[0]), [drop.to_json() for drop in drops]


def parity_gate(question: "Question") -> Row:
    """Return the row of the comparison with the source, as `headway verify` does it."""
    from ..verification import verify_bundle

    verdict = verify_bundle(question.bundle, question.against, None)
    return parity_row(verdict.ok, verdict.compared)
