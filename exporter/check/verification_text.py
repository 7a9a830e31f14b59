"""Make the texts on which an artifact is compared with its source's own library, from text to outputs.

The artifact gets its ids from the bundle's tokenizer files, the library from its own: so tokenizer, prompt and limits are judged, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...embeddings import side_prompt
from ...errors import GateError, SourceError
from ...json_file import read_json
from ...manifest import Side
from ...multi_vector import side_feeds
from ...text import Text, TextEncoder
from ..capture.base import NotRunError, Reference, RoundsMore, TwoSided
from ..source.source import Source
from .parity import Case, make_cases

ODD = (
    "a",
    "The Quick BROWN fox, in CAPITALS: ÄÖÜ ÉÈ ŞÇ İ",
    "Ünïcödé naïve café, Ångström, Zürich; e\u0301 and \u00e9",
    "two  spaces,\ta tab,\na new line\u00a0and \u200b nothing",
    " a space in front and behind ",
    "don't (stop): 3,400.5 % – “quotes” … @user #tag https://a.b/c?d=e_f",
    "ﬁne ＡＢＣ １２３ ½ Straße",
    "你好，世界 🙂👍🏽 Привет, мир שלום",
)
"""Short texts of the kinds that tokenizers treat differently."""

_AT_ONCE = 8

_PAIRED, _PAIRS_ALONE = ("text-classification",), ("question-answering", "multiple-choice")
"""Tasks whose texts may be pairs, and those whose texts always are."""


def verification_cases(encoder: TextEncoder, lines: Sequence[str], source: Source, directory: Path) -> list[Case]:
    """Return all batches to compare on. `directory` holds the tokenizer's files, which say on which side it pads."""
    info, task = encoder.info, source.task
    cases = make_cases(encoder, lines, info.max_length, info.pad_id, choices=2 if task == "multiple-choice" else 0)
    if pads_left(directory) and task != "multiple-choice":
        cases += [left_padded(case, info.pad_id) for case in cases if case.name.endswith("padded")]
    if source.sides:
        fronts = {name: side_prompt(source.prompts or {}, name) for name in source.sides}
        return [*cases, *(c for n, side in source.sides.items() for c in side_cases(encoder, n, side, fronts[n]))]
    return [*cases, *text_cases(encoder, task, pairs=source.judge_class == "CrossEncoder")]


def side_cases(encoder: TextEncoder, name: str, side: Side, front: str) -> list[Case]:
    """Return the cases that begin with queries, or with documents, of a multi-vector model; `front` is put before each."""
    cases = []
    for case in text_cases(encoder, "multi-vector"):
        batch = encoder.batch(encoder.encode([front + str(text) for text in case.texts], side.max_length))
        feeds, scored = side_feeds(batch, side)
        cases.append(Case(f"{case.name}, as {name}", feeds, case.texts, name, scored))
    return cases


def text_cases(encoder: TextEncoder, task: str, *, pairs: bool = False) -> list[Case]:
    """Return the cases that begin with text: an empty one, odd ones, every special and added token, the maximum and beyond, pairs.

    `pairs`: the source takes nothing but pairs.
    """
    longest = encoder.info.max_length
    beyond = " ".join(ODD[1:4] * (longest // 8 + 1))
    batches: list[tuple[str, Sequence[Text]]] = [
        ("an empty text", [""]),
        ("odd texts", ODD),
        ("special and added tokens", special_texts(encoder, longest)),
        ("a text of the maximum, one beyond it", [_full(encoder, longest), beyond]),
    ]
    if pairs or task in _PAIRS_ALONE:
        batches = [(name, [(ODD[1], t) for t in texts if isinstance(t, str)]) for name, texts in batches]
    if pairs or task in (*_PAIRED, *_PAIRS_ALONE):
        both = [(ODD[1], ODD[2]), (ODD[0], ""), (ODD[3], ODD[5]), (ODD[7], beyond), (beyond, ODD[7]), (beyond, beyond)]
        batches.append(("pairs, some beyond the maximum", both))
    cases = []
    for name, texts in batches:
        if task == "multiple-choice":  # two options to a question
            texts = [t for t in texts for _ in range(2)]
        feeds = encoder(texts)
        if not texts or feeds["attention_mask"].sum(axis=1).min() == 0:  # no token: a model has nothing to run on
            continue
        if task == "multiple-choice":
            feeds = {k: v.reshape(-1, 2, v.shape[-1]) for k, v in feeds.items()}
        cases.append(Case(f"from text: {name}", feeds, tuple(texts)))
    return cases


def special_texts(encoder: TextEncoder, longest: int) -> list[str]:
    """Return texts that name every special and added token, a few in each, none cut off."""
    tokens = [token.content for _, token in sorted(encoder.tokenizer.get_added_tokens_decoder().items())]
    size = max(1, min(_AT_ONCE, longest // 4))
    return [" a ".join(["", *tokens[i : i + size], ""]).strip() for i in range(0, len(tokens), size)]


def _full(encoder: TextEncoder, longest: int) -> str:
    """Return a text of as many tokens as the model takes, or nearly so."""
    added = encoder.tokenizer.num_special_tokens_to_add(is_pair=False)
    return " ".join(["a"] * (longest - added))


def left_padded(case: Case, pad_id: int) -> Case:
    """Return a case with each row's padding on the left, as the source's tokenizer writes it."""
    lengths = case.feeds["attention_mask"].sum(axis=1)
    width = case.feeds["attention_mask"].shape[1]
    feeds = {}
    for name, array in case.feeds.items():
        moved = np.full_like(array, pad_id if name == "input_ids" else 0)
        for row, length in enumerate(lengths):
            moved[row, width - length :] = array[row, :length]
        feeds[name] = moved
    return Case(f"{case.name}, on the left", feeds)


def pads_left(directory: Path) -> bool:
    """Return whether the tokenizer in a directory pads on the left."""
    path = directory / "tokenizer_config.json"
    return path.is_file() and read_json(path).get("padding_side") == "left"


@dataclass(frozen=True)
class Answered:
    """What a source answers: the cases that it has answers to, and those answers.

    `sentences` name each case that its own code refuses, and what it rounds and the artifact does not.
    """

    cases: list[Case]
    outputs: list[dict[str, np.ndarray]]
    sentences: tuple[str, ...] = ()


def answers(reference: Reference, cases: Sequence[Case]) -> Answered:
    """Return the source's own outputs for the cases that it runs on. GateError names a text to which the bundle's tokenizer gives
    other ids.

    Some classes refuse texts of a kind, as BART's classifier does those without an end. SourceError where more than half are refused.
    """
    taken, outputs, refused = [], [], []
    for case in cases:
        try:
            outputs.append(_from_text(reference, case) if case.texts else reference.run(case.feeds))
            taken.append(case)
        except SourceError as error:
            if case.empty_rows:
                continue
            if not isinstance(error, NotRunError):
                raise
            refused.append((case, error))
            if len(refused) * 2 > len(cases):
                raise refused[0][1] from error
    told = tuple(f"not compared on {case.name!r}, since {error}" for case, error in refused)
    if isinstance(reference, RoundsMore) and reference.distance is not None:
        told = (*told, reference.distance.sentence())
    return Answered(taken, outputs, told)


def _from_text(reference: Reference, case: Case) -> dict[str, np.ndarray]:
    if case.side is not None:
        assert isinstance(reference, TwoSided)
        answer = reference.from_side(case.texts, case.side)
    else:
        answer = reference.from_text(case.texts)
    ids, counted = (array.reshape(-1, array.shape[-1]) for array in (case.feeds["input_ids"], case.counted))
    rows = zip(ids, counted, strict=True)
    for text, ours, theirs in zip(case.texts, [ids[mask] for ids, mask in rows], answer.ids, strict=True):
        if not np.array_equal(ours, theirs):
            at = next(
                (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
            )
            raise GateError(
                f"the bundle's tokenizer does not give the ids of {reference.judge} for {_short(text)}: {len(ours)} tokens, not "
                f"{len(theirs)}, the first difference at token {at}. Nothing was written"
            )
    return answer.outputs


def _short(text: Text) -> str:
    return repr(text if len(str(text)) <= 60 else f"{str(text)[:57]}…")
