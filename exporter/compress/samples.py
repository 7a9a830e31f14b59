"""Divide the text, once for all: what passes learn from, what they choose by, and what judges them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...calibration.batches import Batch, check_known
from ...calibration.corpus import TextFile
from ...errors import UsageError
from ...text import TextEncoder
from ..recipe.recipe import Calibration
from ..source.scoring import label_names
from ..source.source import architectures

MOST_TOKENS = 32_768
"""Calibration data beyond this many tokens changes nothing and takes time."""

_HELD_OUT = 256
FEWEST_TEXTS = 10
"""Of fewer texts none could be held out, and nothing is judged on text that anything was learned from or chosen by."""


@dataclass(frozen=True)
class Parts:
    """The texts of one file or several, divided. No text is in two parts, whatever files it stands in.

    `learned_from` are the texts that calibration batches are made of, `labels` their labels. `texts` are all that are not held out.
    `choose` are the texts of each file by which passes decide that try and compare; none where no pass does. On `judge` the quality is
    measured, file by file.
    """

    learned_from: list[str]
    labels: np.ndarray | None
    texts: list[str]
    choose: list[TextFile]
    judge: list[TextFile]


def class_names(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the classes of a text classifier by name. A config that names none has as many as it says, or two."""
    if not any(name.endswith("ForSequenceClassification") for name in architectures(config)):
        return {}
    named = config.get("id2label") or dict(enumerate(label_names(config)))
    return {str(name): int(number) for number, name in named.items()}


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
        several = len(files) > 1
        order, held = _order(len(file.texts), settings, file.name if several else "--data")
        rest = [int(i) for i in order]
        for part, wanted, parts in (("judge", held, judge), ("choose", held if choosing else 0, choose)):
            rest, drawn = _draw(file, rest, part_of, part, wanted)
            if wanted and not drawn:
                raise UsageError(
                    f"{file.name}: its texts stand in the files before it, and none is left to {part} by: give files with texts of "
                    "their own"
                )
            part_of |= {file.texts[i]: part for i in drawn}
            parts += [_some(file, drawn)] if wanted else []
        part_of |= {file.texts[i]: "learn" for i in rest}
        rests.append(rest)
    learn = _by_turns(files, rests)[: settings.samples]
    labels = [own[i] for f, i in learn if (own := files[f].labels) is not None]
    left = dict.fromkeys(file.texts[i] for file, rest in zip(files, rests, strict=True) for i in sorted(rest))
    return Parts([files[f].texts[i] for f, i in learn], np.stack(labels) if labels else None, list(left), choose, judge)


def _order(count: int, settings: Calibration, what: str) -> tuple[np.ndarray, int]:
    """Return the numbers of the texts in the order in which they are drawn, and how many are held out to judge by."""
    if count < FEWEST_TEXTS:
        raise UsageError(
            f"{what} holds {count} texts; at least {FEWEST_TEXTS} are needed, since some are held out to judge by, and a few "
            "hundred are better"
        )
    return np.random.default_rng(settings.seed).permutation(count), min(_HELD_OUT, count // 5)


def _draw(
    file: TextFile, rest: Sequence[int], part_of: Mapping[str, str], part: str, wanted: int
) -> tuple[list[int], list[int]]:
    """Return what is left of the texts in `rest`, and those drawn for a part: texts that have it in a file before, then new ones."""
    drawn = [i for i in rest if part_of.get(file.texts[i]) == part] if wanted else []
    new = [i for i in rest if file.texts[i] not in part_of]
    drawn += new[: max(0, wanted - len(drawn))]
    taken = set(drawn)
    return [i for i in rest if i not in taken], drawn


def _some(file: TextFile, numbers: Sequence[int]) -> TextFile:
    labels = None if file.labels is None else file.labels[list(numbers)]
    return TextFile(file.name, [file.texts[i] for i in numbers], labels)


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
