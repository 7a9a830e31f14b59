"""Trim the vocabulary of model and tokenizer to the tokens of most expected use, and say what that does to text held out."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...errors import UsageError
from ...scratch import scratch
from ...text import Text, TextEncoder
from ..passes.token_use import estimate, scripts_of
from ..passes.vocabulary import (
    COVERAGE,
    TrimVocabulary,
    check_scripts,
    choose_tokens,
    single_characters,
    trim_directory,
    vocabulary_of,
)
from ..recipe.pass_specs import PassBase, TrimVocabularySpec
from ..source.source import Source
from ..source.tokenizer import source_encoder
from .job import Changes, Job


@dataclass(frozen=True)
class Trimmed:
    """What a trimmed vocabulary covers. Shares are from 0 to 1.

    Measured on the text held out to judge by: `coverage`, the share of its tokens that are kept; `changed`, the share of texts that
    become other tokens; `growth`, how many more tokens they all become. Of `scripts_gone` only single characters are left.
    """

    before: int
    after: int
    coverage: float
    changed: float
    growth: float
    scripts_gone: list[str]


BY_TOKEN = ("sparse-embedding", "multi-vector")


def check_scripts_of(source: Source, specs: Sequence[PassBase]) -> None:
    """Raise UsageError where a pass keeps a script that the source's tokenizer has no token of, or ids of tokens mean more than rows.

    A factory's tokenizer is not known yet.
    """
    trimmed = [spec for spec in specs if isinstance(spec, TrimVocabularySpec)]
    if trimmed and source.task in BY_TOKEN:
        raise UsageError(
            f"{source.spec}: trim_vocabulary gives tokens other ids, by which {source.task} models name dimensions, and the tokens that "
            "count: leave it out"
        )
    names = [_lower(spec) for spec in specs if isinstance(spec, TrimVocabularySpec) and spec.keep_script]
    if not names or source.kind == "factory":
        return
    with scratch() as folder:
        info = source_encoder(source, Path(folder)).info
        content = json.loads((Path(folder) / info.file).read_text(encoding="utf-8"))
    scripts = scripts_of(content, vocabulary_of(content["model"]))
    for several in names:
        check_scripts(several, scripts)


def _lower(spec: TrimVocabularySpec) -> list[str]:
    return [name.lower() for name in spec.keep_script]


def trim_vocabulary(job: Job, spec: TrimVocabularySpec) -> Changes:
    """Cut the vocabulary of model and tokenizer to what text like the one to learn from is expected to use."""
    given = job.given
    info = job.encoder.info
    path = given.staging / info.file
    content = json.loads(path.read_text(encoding="utf-8"))
    special = {t["id"] for t in content.get("added_tokens", []) if t.get("special")}
    rows = [[i for i in e.ids if i not in special] for e in job.encoder.encode(given.texts)]
    always = single_characters(content)
    use = estimate(content, vocabulary_of(content["model"]), rows, always)
    coverage = COVERAGE if spec.coverage is None else spec.coverage
    kept_tokens = choose_tokens(content, use, tokens=spec.tokens, coverage=coverage, keep_scripts=_lower(spec))
    digest = hashlib.sha256(" ".join(map(str, kept_tokens)).encode()).hexdigest()
    if spec.digest not in (None, digest):
        raise UsageError(
            "trim_vocabulary: this text or tokenizer makes another choice of tokens than `digest` in the recipe names: give the "
            "text that the recipe was made with, or take `digest` out to choose anew"
        )
    job.outcome.decided["digest"] = digest
    whole = job.encoder
    before, after = TrimVocabulary(tuple(kept_tokens)).apply(job.outcome.model)
    TrimVocabulary(tuple(kept_tokens)).apply(job.source_model)
    trim_directory(given.staging, kept_tokens)
    info.pad_id = kept_tokens.index(info.pad_id)
    info.mask_id = kept_tokens.index(info.mask_id) if info.mask_id in kept_tokens else None
    info.scripts_gone = use.gone(kept_tokens, always)
    job.encoder = TextEncoder(path, info)
    job.batches = given.batches(job.encoder)
    job.outcome.kept_tokens = kept_tokens
    measured = _difference(whole, job.encoder, kept_tokens, given.quality.texts)
    trimmed = Trimmed(before, after, *measured, info.scripts_gone)
    job.outcome.vocabulary = asdict(trimmed)
    return _in_words(trimmed)


def _difference(
    whole: TextEncoder, trimmed: TextEncoder, kept_tokens: Sequence[int], texts: Sequence[Text]
) -> tuple[float, float, float]:
    """Return the share of tokens that are kept, of texts whose tokens are others, and how many more tokens there are."""
    old = [e.ids for e in whole.encode(texts)]
    new = [[kept_tokens[i] for i in e.ids] for e in trimmed.encode(texts)]
    there = set(kept_tokens)
    total = max(1, sum(map(len, old)))
    covered = sum(i in there for ids in old for i in ids) / total
    changed = sum(a != b for a, b in zip(old, new, strict=True)) / len(texts)
    return covered, changed, sum(map(len, new)) / total - 1


def _in_words(trimmed: Trimmed) -> Changes:
    changes = {
        "vocabulary": f"{trimmed.before} → {trimmed.after} tokens",
        "held-out texts": f"{100 * trimmed.coverage:.2f} % of tokens kept, {100 * trimmed.changed:.1f} % of texts change, "
        f"{100 * trimmed.growth:.1f} % more tokens",
    }
    if trimmed.scripts_gone:
        changes["scripts gone"] = ", ".join(trimmed.scripts_gone)
    return changes
