"""Divide the text, once for all: what passes learn from, what they choose by, and what judges them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...calibration.batches import Batch, check_known
from ...calibration.corpus import TextFile
from ...errors import UsageError
from ...text import Text, TextEncoder
from ..recipe.recipe import Calibration

MOST_TOKENS = 32_768
"""Calibration data beyond this many tokens changes nothing and takes time."""

_HELD_OUT = 256
FEWEST_TEXTS = 10
"""Of fewer texts none could be held out, and nothing is judged on text that anything was learned from or chosen by."""

_UNEVEN = (
    "--data: a few queries have so many of the texts that none is left to learn from or to choose by: give more queries, or fewer texts of "
    "each"
)


@dataclass(frozen=True)
class Parts:
    """The texts of one file or several, divided. No text is in two parts, whatever files it stands in, and no first text of a pair.

    `learned_from` are the texts that calibration batches are made of, `labels` their labels. `texts` are all that are not held out.
    `choose` are the texts of each file by which passes decide that try and compare; none where no pass does. On `judge` the quality is
    measured, file by file.
    """

    learned_from: list[Text]
    labels: np.ndarray | None
    texts: list[Text]
    choose: list[TextFile]
    judge: list[TextFile]


def divide_files(files: Sequence[TextFile], settings: Calibration, *, choosing: bool = False) -> Parts:
    """Divide every file by itself: a fifth, at most 256 texts, judges. Another such part chooses where a pass is `choosing`.

    What is learned from comes from all files by turns. A text that stands in several files has in all of them the part that it got in
    the first. Raises UsageError for a file of fewer than 10 texts, or one of which no text is left to judge or choose by.
    """
    part_of: dict[str, str] = {}
    rests: list[list[int]] = []
    choose: list[TextFile] = []
    judge: list[TextFile] = []
    for file in files:
        wholes = [text if isinstance(text, str) else text[0] for text in file.texts]
        order, held = _order(wholes, settings, file.name if len(files) > 1 else "--data")
        rest = [int(i) for i in order]
        for part, wanted, parts in (("judge", held, judge), ("choose", held if choosing else 0, choose)):
            rest, drawn = _draw(wholes, rest, part_of, part, wanted)
            if wanted and not drawn:
                raise UsageError(
                    f"{file.name}: its texts stand in the files before it, and none is left to {part} by: give files with texts of "
                    "their own"
                    if len(files) > 1
                    else _UNEVEN
                )
            part_of |= {wholes[i]: part for i in drawn}
            parts += [_some(file, drawn)] if wanted else []
        part_of |= {wholes[i]: "learn" for i in rest}
        rests.append(rest)
    learn = _by_turns(files, rests)[: settings.samples]
    if not learn:
        raise UsageError(_UNEVEN)
    labels = [own[i] for f, i in learn if (own := files[f].labels) is not None]
    left = dict.fromkeys(file.texts[i] for file, rest in zip(files, rests, strict=True) for i in sorted(rest))
    return Parts([files[f].texts[i] for f, i in learn], np.stack(labels) if labels else None, list(left), choose, judge)


def _order(wholes: Sequence[str], settings: Calibration, what: str) -> tuple[np.ndarray, int]:
    """Return the numbers of the texts in the order in which they are drawn, and how many are held out to judge by.

    `wholes` are what texts are divided by: themselves, or the first text of each pair, which a query is.
    """
    numbers = {whole: number for number, whole in enumerate(dict.fromkeys(wholes))}
    count = len(numbers)
    if count < FEWEST_TEXTS:
        kind = "texts" if count == len(wholes) else "first texts of pairs"
        raise UsageError(
            f"{what} holds {count} {kind}; at least {FEWEST_TEXTS} are needed, since some are held out to judge by, and a few "
            "hundred are better"
        )
    places = np.argsort(np.random.default_rng(settings.seed).permutation(count))
    return np.argsort(places[[numbers[whole] for whole in wholes]], kind="stable"), min(_HELD_OUT, len(wholes) // 5)


def _draw(
    wholes: Sequence[str], rest: Sequence[int], part_of: Mapping[str, str], part: str, wanted: int
) -> tuple[list[int], list[int]]:
    """Return what is left of the texts in `rest`, and those drawn for a part: what has it in a file before, then what is new.

    What is begun is drawn whole.
    """
    drawn = [i for i in rest if part_of.get(wholes[i]) == part] if wanted else []
    new = [i for i in rest if wholes[i] not in part_of]
    begun = {wholes[i] for i in new[: max(0, wanted - len(drawn))]}
    drawn += [i for i in new if wholes[i] in begun]
    taken = set(drawn)
    return [i for i in rest if i not in taken], drawn


def _some(file: TextFile, numbers: Sequence[int]) -> TextFile:
    labels, queries = (None if x is None else x[list(numbers)] for x in (file.labels, file.queries))
    return TextFile(file.name, [file.texts[i] for i in numbers], labels, queries)


def _by_turns(files: Sequence[TextFile], rests: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Return file and number of each text of `rests` once, one of every file by turns, as long as each has some."""
    turns = sorted((turn, f, i) for f, rest in enumerate(rests) for turn, i in enumerate(rest))
    first = {files[f].texts[i]: (f, i) for _, f, i in reversed(turns)}
    return [(f, i) for _, f, i in turns if first[files[f].texts[i]] == (f, i)]


def check_text(encoder: TextEncoder, batches: Sequence[Batch]) -> None:
    """Raise UsageError where hardly anything of the text becomes a known token."""
    tokenizer = encoder.tokenizer
    special = [i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special]
    unknown = next((tokenizer.token_to_id(t) for t in ("[UNK]", "<unk>") if tokenizer.token_to_id(t) is not None), None)
    check_known(batches, special, unknown)
