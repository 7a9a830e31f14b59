"""Say what one trial does: its settings, and the recipe that they stand for."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..recipe.compression_passes import DEFAULT_EPOCHS
from ..recipe.search_space import SearchSpace

CUT_KINDS = ("heads", "neurons", "ranks", "blocks")

Pick = Callable[[str, Sequence[Any]], Any]
"""Returns one of the values of a choice, by the choice's name."""


@dataclass(frozen=True)
class TrialSettings:
    """What a trial does. What has no effect has its plain value, so that equal work has equal settings.

    `speedup`: the budget of the cut, 1 for none; `cut`: what may go; `rounds`: "one" or "several". `coverage`: of the vocabulary, 1 for
    all; `trim`: "before" or "after" the cut. `quantize`: how weights are stored; `activations` and `float_blocks` where they are
    integers. `recover_minutes`: behind a cut.
    """

    speedup: float = 1.0
    cut: tuple[str, ...] = ()
    rounds: str = "one"
    coverage: float = 1.0
    trim: str = "before"
    quantize: str = "none"
    activations: str = "auto"
    float_blocks: int = 0
    recover_minutes: float = 0.0

    @property
    def cuts(self) -> bool:
        """Whether something is removed from the blocks."""
        return self.speedup > 1

    @property
    def trims(self) -> bool:
        """Whether the vocabulary is trimmed."""
        return self.coverage < 1

    @property
    def changes(self) -> bool:
        """Whether the trial changes the source at all."""
        return self.cuts or self.trims or self.quantize != "none"

    @property
    def scheme(self) -> str:
        """How weights and activations are stored and computed, as one word."""
        return self.quantize if self.quantize != "int8" else f"int8 {self.activations}"

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self) | {"cut": list(self.cut)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "TrialSettings":
        """Return the settings that `to_json` gave."""
        return cls(**{**raw, "cut": tuple(raw["cut"])})

    def __str__(self) -> str:
        words = []
        if self.cuts:
            words.append(
                f"cut to {self.speedup:g} × ({', '.join(self.cut)}; {self.rounds} round{'s' * (self.rounds != 'one')})"
            )
        if self.trims:
            words.append(
                f"vocabulary of {100 * self.coverage:g} %" + (f", trimmed {self.trim} the cut" if self.cuts else "")
            )
        if self.recover_minutes:
            words.append(f"{self.recover_minutes:g} minutes of recovery")
        if self.quantize != "none":
            left = f", {self.float_blocks} block{'s' * (self.float_blocks > 1)} float" if self.float_blocks else ""
            words.append(f"{self.scheme.removesuffix(' auto')}{left}")
        return "; ".join(words) or "the source as it is"


def draw(space: SearchSpace, pick: Pick) -> TrialSettings:
    """Return the settings that `pick` takes from a space. What depends on another choice is asked for where it has an effect."""
    speedup = float(pick("speedup", sorted(space.speedups)))
    cut: tuple[str, ...] = ()
    rounds, minutes = "one", 0.0
    if speedup > 1:
        kinds = [kind for kind in CUT_KINDS if kind in space.cut]
        cut = tuple(kinds if len(kinds) == 1 else (kind for kind in kinds if pick(f"cut {kind}", [True, False])))
        rounds = pick("rounds", space.rounds)
        minutes = float(pick("recover_minutes", sorted(space.recover_minutes)))
    coverage = float(pick("vocabulary", sorted(space.vocabulary)))
    trim = pick("trim", space.trim) if coverage < 1 and speedup > 1 else "before"
    quantize = pick("quantize", space.quantize)
    integers = quantize in ("int8", "int4")
    activations = pick("activations", space.activations) if quantize == "int8" else "auto"
    float_blocks = int(pick("float_blocks", sorted(space.float_blocks))) if integers else 0
    return TrialSettings(speedup, cut, rounds, coverage, trim, quantize, activations, float_blocks, minutes)


def first_picks(space: SearchSpace) -> list[dict[str, Any]]:
    """Return values of choices by name that a search begins with: each way to store weights alone, then each budget with one of them.

    They are the curves that single methods have; what is tried next starts from there.
    """
    whole: dict[str, Any] = {f"cut {kind}": True for kind in CUT_KINDS}
    whole |= {
        "rounds": space.rounds[0],
        "recover_minutes": min(space.recover_minutes),
        "vocabulary": max(space.vocabulary),
    }
    whole |= {"trim": space.trim[0], "activations": space.activations[0], "float_blocks": min(space.float_blocks)}
    slow, *faster = sorted(space.speedups)
    stored = [scheme for scheme in space.quantize if scheme != "none"] if slow == 1 else []
    last = space.quantize[-1]
    picks = [whole | {"speedup": slow, "quantize": scheme} for scheme in stored]
    return picks + [whole | {"speedup": s, "quantize": last} for s in ([] if slow == 1 else [slow]) + faster]


def passes_of(settings: TrialSettings) -> list[dict[str, Any]]:
    """Return the passes of a recipe that the settings stand for, in their order; the budget of the cut is still open.

    Blocks that stay float are named by whoever knows them.
    """
    trim = [{"kind": "trim_vocabulary", "coverage": settings.coverage}] if settings.trims else []
    passes: list[dict[str, Any]] = trim if settings.trim == "before" or not settings.cuts else []
    if settings.cuts:
        passes = [*passes, {"kind": "fit", "speedup": settings.speedup}, *(trim if settings.trim == "after" else [])]
        passes.append({"kind": "repair"})
    if settings.recover_minutes:
        passes.append({"kind": "recover", "minutes": settings.recover_minutes, "epochs": DEFAULT_EPOCHS})
    if settings.quantize == "float16":
        passes.append({"kind": "float16"})
    elif settings.quantize == "int8":
        passes.append({"kind": "quantize", "weights": "int8", "activations": settings.activations})
    elif settings.quantize == "int4":
        passes.append({"kind": "quantize", "weights": "int4", "block": 32})
    return passes


def key_of_settings(settings: TrialSettings) -> str:
    """Return settings as one text, equal for equal settings."""
    return json.dumps(settings.to_json(), sort_keys=True)
