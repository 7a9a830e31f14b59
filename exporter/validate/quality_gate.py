"""Judge a bundle's answers: by labels beside its source, and by parity."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...bundle import Bundle
from ...calibration.corpus import fingerprint
from ...errors import UsageError
from ...manifest import Manifest, logit_columns
from ...scratch import scratch
from ...tasks import Scoring
from ..source.source import Source, open_source
from .gate_rows import Row, parity_row, quality_row
from .labeled import Labeled, Model, read_gold
from .non_inferiority import drop_of

if TYPE_CHECKING:
    from .gate_bundle import Question


def gold_of(data: Path | None, column: str | None, manifest: Manifest, *, needed: bool) -> Labeled | None:
    """Return labeled texts where quality is gated. UsageError where there are none, or they belong to another task."""
    if not needed:
        return None
    if data is None:
        raise UsageError("max_quality_drop needs labeled text: give --data, a table with labels for the bundle's task")
    columns = logit_columns(manifest.outputs) or max(len(manifest.labels), 1)
    scoring = Scoring.of(manifest.scoring, columns) if manifest.task == "text-classification" else None
    gold = read_gold(data, manifest.task, labels_of(manifest), scoring, column)
    _check_unseen(data, gold, manifest)
    return gold


def _check_unseen(data: Path, gold: Labeled, manifest: Manifest) -> None:
    """Raise UsageError for the text that a bundle was compressed with: its passes learned from it and chose by it."""
    if manifest.compression is None:
        return
    if fingerprint([text for text in dict.fromkeys(gold.texts) if text]) == manifest.source.get("text_fingerprint"):
        raise UsageError(
            f"{data}: is the text that the bundle was compressed with, from which its passes learned: quality is judged on other text"
        )


def labels_of(manifest: Manifest) -> dict[str, str]:
    """Return the names of a bundle's labels by number, as its answers have them; none for models without labels."""
    if manifest.task not in ("text-classification", "token-classification"):
        return {}
    return manifest.labels or {str(i): f"LABEL_{i}" for i in range(logit_columns(manifest.outputs) or 1)}


def source_named(question: "Question") -> str:
    """Return the source, of the question or of the bundle's recipe. UsageError where it is not there."""
    from ..recipe.recipe import RECIPE_FILE, check_code, find_named, read_recipe

    if question.against is not None:
        return question.against
    file = question.bundle / RECIPE_FILE
    recipe = read_recipe(file)
    check_code(recipe.source, file)
    return find_named(recipe.source, file, "source", "--against")


def source_of(question: "Question", manifest: Manifest) -> Source:
    """Return the source with the adapters that were merged into it. UsageError where it is not the model of the bundle."""
    from ..recipe.recipe import RECIPE_FILE, find_adapters, read_recipe

    spec, file = source_named(question), question.bundle / RECIPE_FILE
    adapters = find_adapters(read_recipe(file), file) if file.is_file() else []
    source = open_source(spec, task=manifest.task, adapters=adapters)
    if source.fingerprint != manifest.source["fingerprint"] and source.kind != "factory":
        raise UsageError(
            f"{spec} is not the model that {question.bundle} was made from: give the right one with --against"
        )
    return source


def quality_gate(
    question: "Question", manifest: Manifest, source: Source, gold: Labeled, allowed: float
) -> tuple[Row, list[dict[str, Any]]]:
    """Return the row of the first metric, and all metrics as plain values; bundle and source answer the same texts."""
    from ..capture.capture import load_reference
    from ..source.tokenizer import source_encoder

    bundle = Bundle.open(question.bundle, threads=question.threads)
    reference, source = load_reference(source)
    with scratch() as folder:
        own = Model(bundle.runner.run, bundle.encoder, labels_of(manifest))
        first = Model(reference.run, source_encoder(source, Path(folder)), labels_of(manifest))
        metrics = gold.score(own, first)
    reference.close()
    drops = [drop_of(metric, allowed) for metric in metrics]
    return quality_row(drops[0]), [drop.to_json() for drop in drops]


def parity_gate(question: "Question") -> Row:
    """Return the row of the comparison with the source, as `headway verify` does it."""
    from ..verification import verify_bundle

    verdict = verify_bundle(question.bundle, source_named(question), None)
    return parity_row(verdict.ok, verdict.compared)
