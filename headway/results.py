"""What a bundle answers with. Each result is a plain value of Python or numpy that also says whether its text was cut.

`truncated` means: the text was longer than what is read, and only its beginning was.
"""

from typing import Any

import numpy as np


class Outputs(dict[str, np.ndarray]):
    """The model's outputs by name. `truncated` has a truth value for each text."""

    truncated: list[bool]

    def __init__(self, arrays: dict[str, np.ndarray], truncated: list[bool]):
        super().__init__(arrays)
        self.truncated = truncated

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what copies and pickles are made of."""
        return Outputs, (dict(self), self.truncated)


class Label(tuple[str, float]):
    """A label and its score, as a pair."""

    truncated: bool

    def __new__(cls, label: str, score: float, truncated: bool = False) -> "Label":
        """Return the pair."""
        pair = super().__new__(cls, (label, score))
        pair.truncated = truncated
        return pair

    def __getnewargs__(self) -> tuple[str, float, bool]:
        """Return what copies and pickles are made of."""
        return (*self, self.truncated)


class Labels(list[Label]):
    """The labels of one text that reach a threshold, the largest score first. It may be empty."""

    truncated: bool = False


class Scores(dict[str, float]):
    """The score of every label of one text, by name."""

    truncated: bool = False


class Entities(list[dict[str, Any]]):
    """The entities of one text."""

    truncated: bool = False


class Candidates(list[Any]):
    """The likeliest tokens at the mask of one text; for several masks such a list for each."""

    truncated: bool = False


class Choice(tuple[int, float]):
    """The index of the likeliest option and its probability, as a pair. `truncated`: an option was cut, or its question."""

    truncated: bool

    def __new__(cls, index: int, probability: float, truncated: bool = False) -> "Choice":
        """Return the pair."""
        pair = super().__new__(cls, (index, probability))
        pair.truncated = truncated
        return pair

    def __getnewargs__(self) -> tuple[int, float, bool]:
        """Return what copies and pickles are made of."""
        return (*self, self.truncated)
