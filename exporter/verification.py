"""Compare a bundle with its source again: `headway verify`."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import Bundle
from ..calibration.corpus import builtin_lines, check_column, texts_of
from ..errors import HeadwayWarning, SourceError
from ..manifest import Manifest, check_files
from ..opening import Checksums, check_padding, check_tensors, open_one
from ..runners.open import opened_files
from ..scratch import scratch
from .capture.base import Reference
from .capture.capture import canonical_of, capture, load_reference
from .check.float64_judge import settled
from .check.parity import Parity, compare
from .check.verification_text import answers, verification_cases
from .compress.job import as_function
from .compress.quality import Judge
from .compress.samples import divide_files
from .compress.source_integers import kind_of_answers
from .compress.source_texts import read_source_texts
from .recipe.recipe import RECIPE_FILE, Recipe, check_code, find_adapters, find_data, find_named, read_recipe
from .source.scoring import scoring_of
from .source.source import Source, open_source
from .source.tokenizer import source_encoder
from .targets.registry import target_of


@dataclass(frozen=True)
class Verdict:
    """The answer to whether a bundle still agrees with its source.

    `parity` has the distance of each output. For a compressed bundle it is None, and the points of `metric` count: `quality` now,
    the source's `source_quality`, and `recorded` when the bundle was made. `agreement` has every file of text; where there are
    several, the points are those of the one that lost most. `files` were compared with their checksums; `reference` is the library that
    answered for the source.
    """

    ok: bool
    parity: Parity | None
    metric: str | None = None
    quality: float | None = None
    source_quality: float | None = None
    recorded: float | None = None
    agreement: dict[str, Any] | None = None
    files: int = 0
    reference: str | None = None

    @property
    def compared(self) -> str:
        """What was compared, in words."""
        if self.parity is not None:
            what = _count(len(self.parity.cases), "batch", "batches")
        else:
            what = _count(sum(file["texts"] for file in (self.agreement or {}).get("files", ())), "text")
        by = f" with {self.reference}" if self.reference else ""
        return f"compared {what}{by}, and {_count(self.files, 'file')} with their checksums"

    def to_json(self) -> dict[str, object]:
        """Return the answer as plain values."""
        if self.parity is not None:
            return self.parity.to_json()
        names = ("ok", "metric", "quality", "source_quality", "recorded", "agreement")
        return {n: getattr(self, n) for n in names}


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def verify_bundle(
    path: Path,
    against: str | None,
    data: Sequence[Path] | None,
    *,
    column: str | None = None,
    adapters: Sequence[str] = (),
    allow_pickle: bool = False,
    allow_code: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Compare a bundle with its source again. Raises SourceError where a file was changed or the source is another model.

    UsageError where the bundle's recipe names a factory, unless `allow_code`: a bundle runs no code.
    """
    data = data or ()
    check_column(column, data)
    on_step("read the bundle")
    bundle, recipe = open_one(path, lambda: _opened(path))
    encoder = bundle.encoder
    if against is None and not allow_code:
        check_code(recipe.source, path / RECIPE_FILE)
    recipe = _placed(recipe, path, against, data, adapters)
    spec = recipe.source
    on_step("load the source")
    source = open_source(spec, task=bundle.manifest.task, allow_pickle=allow_pickle, adapters=recipe.adapters)
    if source.fingerprint != bundle.manifest.source["fingerprint"] and source.kind != "factory":
        raise SourceError(
            f"{spec} is not the model that {path} was made from: its fingerprint differs; give the right one as `against` (--against)"
        )
    reference, source = load_reference(source)
    on_step("run the source on text")
    if bundle.manifest.compression is not None:
        return _verify_compressed(bundle, source, reference, recipe, data, column)
    files = read_source_texts(source, data or recipe.files, column if data else recipe.column, labels=False)
    lines = texts_of(files) if files else builtin_lines()
    cases = verification_cases(encoder, lines, source, path)
    answered = answers(reference, cases)
    for sentence in answered.sentences:
        warnings.warn(f"{spec}: {sentence}", HeadwayWarning, stacklevel=2)
    on_step("compare")
    per_token = [o.name for o in bundle.manifest.outputs if "sequence" in o.shape]
    dtype = bundle.manifest.parity["dtype"]
    parity = compare(
        answered.cases,
        answered.outputs,
        bundle.runner.run,
        per_token=per_token,
        dtype=dtype,
        tolerance=recipe.tolerance,
        judge=reference.judge,
    )
    run, cases = bundle.runner.run, answered.cases
    parity = settled(parity, cases, answered.outputs, run, per_token=per_token, open_reference=lambda: reference)
    return Verdict(
        parity.ok and _keeps_empty_rows(bundle, parity),
        parity,
        files=len(bundle.manifest.files),
        reference=reference.judge,
    )


def _keeps_empty_rows(bundle: Bundle, parity: Parity) -> bool:
    """Return whether rows without a token get the source's answer here, too, where the manifest says that they do; warn otherwise."""
    kept = parity.empty_rows or not bundle.manifest.parity.get("empty_rows", False)
    if not kept:
        said = f"{bundle.path}: rows without a token get another answer here than its source's"
        warnings.warn(said, HeadwayWarning, stacklevel=3)
    return kept


def _placed(recipe: Recipe, bundle: Path, against: str | None, data: Sequence[Path], adapters: Sequence[str]) -> Recipe:
    """Return the bundle's recipe with source, adapters and data where they lie, which `against`, `adapters` and `data` may say."""
    file = bundle / RECIPE_FILE
    changes: dict[str, object] = {"source": against or find_named(recipe.source, file, "source", "--against")}
    if adapters or recipe.adapters:
        changes["adapters"] = list(adapters) or find_adapters(recipe, file)
    if not data and recipe.data is not None:
        changes["data"] = find_data(recipe, file)
    return recipe.model_copy(update=changes)


def _opened(path: Path) -> tuple[Bundle, Recipe]:
    """Open the bundle, its files compared with their checksums, and read the recipe that made it.

    One for a GPU that this machine lacks is opened with its typed graph in place of the engine.
    """
    manifest = Manifest.read(path)
    check_files(path, manifest)
    names = opened_files(manifest.runner, path, manifest.artifact, providers=False)
    if manifest.runner == "tensorrt":
        names += opened_files(manifest.runner, path, manifest.artifact, providers=True)
    with Checksums(path, manifest, [*names, manifest.tokenizer.file, RECIPE_FILE], check=False):
        recipe = read_recipe(path / RECIPE_FILE)
    if recipe.target != manifest.target:
        raise SourceError(
            f"{path}: made for {manifest.target}, and its {RECIPE_FILE} says {recipe.target}: copy it again"
        )
    if manifest.compression is not None and recipe.data is None:
        raise SourceError(
            f"{path / RECIPE_FILE}: names no data, and the bundle was compressed with some: copy it again"
        )
    runner = target_of(recipe).open(path, manifest.session_options)
    check_tensors(path, manifest, runner.input_names, runner.output_names)
    bundle = Bundle(path, manifest, runner)
    check_padding(path, manifest, bundle.encoder.tokenizer)
    return bundle, recipe


def _verify_compressed(
    bundle: Bundle, source: Source, reference: Reference, recipe: Recipe, data: Sequence[Path], column: str | None
) -> Verdict:
    """Measure the quality that a compressed bundle keeps on held-out text: it is another model than its source on purpose."""
    assert bundle.manifest.compression is not None
    scoring = scoring_of(source)
    column = column if data else recipe.column
    files = read_source_texts(source, data or recipe.files, column)
    held_out = files if data else divide_files(files, recipe.calibration).judge
    with scratch() as folder:
        encoder = source_encoder(source, Path(folder))
    run: Callable[..., Any] = reference.run
    judged_by = reference.judge
    if kind_of_answers(source) != "float32":  # compression begins at float activations, and is judged by those
        run = as_function(canonical_of(capture(source)).model)
        judged_by += ", with float activations"
    judge = Judge.of(held_out, bundle.encoder.info.max_length, scoring, source.task, run, encoder)
    tokens = sorted(bundle.encoder.tokenizer.get_vocab().items(), key=lambda item: item[1])
    source_ids = [i for token, _ in tokens if (i := encoder.tokenizer.token_to_id(token)) is not None]
    judged = judge.judge(bundle.runner.run, bundle.encoder, source_ids)
    return Verdict(
        judged.lost <= recipe.max_drop,
        None,
        judge.metric,
        judged.points,
        judged.worst.source,
        bundle.manifest.compression["stages"][-1]["quality"],
        judged.record(),
        files=len(bundle.manifest.files),
        reference=judged_by,
    )
