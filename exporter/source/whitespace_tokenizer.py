"""Build a tokenizer of `tokenizers` that gives the ids of sentence-transformers' WhitespaceTokenizer.

That one splits at white space, and looks each word up as it is, then without punctuation around it, then in lower case. It leaves out
stop words and unknown words. A BPE without merges and without an unknown token leaves unknown words out, too. Before it, words that are in
the vocabulary as they are get a mark, which keeps them apart from those that only become equal in lower case.
"""

import re
import string
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ...errors import SourceError
from ...json_file import read_json

FILE = "whitespacetokenizer_config.json"
PADDING = 0
"""The id with which sentence-transformers' WordEmbeddings pads. It is that of a word, too."""

_SPACE = "".join(c for c in map(chr, range(0x3001)) if c.isspace())
"""What Python's `str.split` splits at."""

_FIRST_MARK, _LAST_MARK = 0xF0000, 0xFFFFD
"""Private characters that a text is freed of."""

_START, _END = "(?<![^ ])", "(?![^ ])"
"""Where a word of a text begins and ends."""

_MOST_MARKED = 20_000
"""Words with a regular expression of their own: each is compared with every word of a text that begins as it does."""


def read_whitespace_tokenizer(directory: Path, rows: int) -> Any:
    """Return the fast tokenizer of transformers that gives the same ids as the WhitespaceTokenizer saved in a directory.

    It has no special tokens: they would be looked for inside of words. `rows`: how many the embeddings have. SourceError where the
    file is damaged, or where no such tokenizer gives the same.
    """
    from sentence_transformers.sentence_transformer.modules.tokenizer.word import ENGLISH_STOP_WORDS
    from transformers import PreTrainedTokenizerFast

    path = directory / FILE
    if not path.is_file():
        raise SourceError(f"{path}: not there, and it holds the words of the tokenizer: copy it beside the embeddings")
    content = read_json(path)
    words, lower = content.get("vocab"), content.get("do_lower_case", False)
    stop = content.get("stop_words", list(ENGLISH_STOP_WORDS))
    for name, value in (("vocab", words), ("stop_words", stop)):
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise SourceError(f"{path}: {name}: a list of words is expected; download it again")
    assert isinstance(words, list)
    if len(words) > rows:
        raise SourceError(f"{path}: {len(words)} words, and the embeddings have {rows} rows: give files of one model")
    if not words or "" in words:
        what = "an empty word, which stands for punctuation there" if words else "no word"
        raise SourceError(f"{path}: the vocabulary has {what}: no tokenizer of a bundle gives the same")
    backend = whitespace_tokenizer(words, set(stop), lower=bool(lower), place=str(path))
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=names,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def whitespace_tokenizer(words: Sequence[str], stop: Collection[str], *, lower: bool, place: str) -> Any:
    """Return the `tokenizers.Tokenizer` for words by their ids.

    SourceError where more words need a mark than are practical.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    index = {word: number for number, word in enumerate(words)}
    # A word of a text has no space, and where texts are lowered no upper case.
    met = {word for word in {*index, *stop} if word.split() == [word] and (not lower or word == word.lower())}
    whole = sorted(w for w in met if w.strip(string.punctuation) != w)
    cased = sorted(w for w in met if w.strip(string.punctuation) == w != w.lower())
    if len(whole) + len(cased) > _MOST_MARKED:
        raise SourceError(
            f"{place}: {len(whole) + len(cased)} words have upper case or punctuation around them, and {_MOST_MARKED} are the most that a "
            "bundle's tokenizer tells apart from others: write the vocabulary in lower case"
        )
    marks = _Marks()
    early, later = marks.steps(whole), marks.steps(cased)
    punctuation = f"[{_escaped(string.punctuation)}]+"
    case = [(r"(?<=\p{L})Σ(?!\p{L})", "ς"), None]  # as Python lowers Greek
    order: list[tuple[str, str] | None] = [
        (f"[{chr(_FIRST_MARK)}-{chr(_LAST_MARK)}]", "\N{REPLACEMENT CHARACTER}"),
        (f"[{_escaped(_SPACE)}]+", " "),
        *(case if lower else []),
        *early,
        (f"{_START}{punctuation}", ""),
        (f"{punctuation}{_END}", ""),
        *later,
        *([] if lower else case),
    ]
    steps = [normalizers.Lowercase() if s is None else normalizers.Replace(Regex(s[0]), s[1]) for s in order]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={marks.key(w): i for w, i in index.items() if w in met and w not in stop},
            merges=[],
            ignore_merges=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Prepend(" ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(" [^ ]+"), "removed", invert=True)
    return tokenizer


def _escaped(text: str) -> str:
    """Return a pattern of a text, inside brackets and outside. `re.escape` puts signs that JavaScript refuses before more characters."""
    return re.sub(r"[][\\^$.*+?(){}|/]", r"\\\g<0>", text).replace("-", "\\x2d")


class _Marks:
    """Characters before words that are in the vocabulary as they are: another one for each of those that become equal later on."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self._used: Counter[str] = Counter()

    def steps(self, words: Sequence[str]) -> list[tuple[str, str]]:
        """Give marks to words; return patterns and replacements by which a text's words get them, one for each mark and initial."""
        rests: dict[tuple[str, str], list[str]] = {}
        for word in words:
            left = self._left(word)
            mark = self.of[word] = chr(_FIRST_MARK + self._used[left])
            self._used[left] += 1
            rests.setdefault((mark, word[0]), []).append(_escaped(word[1:]))
        return [
            (f"{_START}{_escaped(initial)}(?=(?:{'|'.join(ends)}){_END})", f"{mark}{initial}")
            for (mark, initial), ends in rests.items()
        ]

    def key(self, word: str) -> str:
        """Return what becomes of a word before it is looked up."""
        return f" {self.of.get(word, '')}{self._left(word)}"

    @staticmethod
    def _left(word: str) -> str:
        return word.rstrip(string.punctuation).lower()
