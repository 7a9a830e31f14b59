"""Averages of the weights over training (EMA), alone or beside the weights."""

from .....errors import SourceError
from ..checkpoint import Checkpoint
from ..state import listed

ORDER = 1
NAME = "averaged weights beside the weights"
MARKS: tuple[str, ...] = ("\0",)

_PREFIXES = ("ema_state_dict.", "state_dict_ema.", "ema_model.", "model_ema.", "ema.", "averaged_model.")
_COUNTERS = ("decay", "num_updates", "initted", "step", "n_averaged")
_SETTING = "use_ema"


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Take the averages where they are the only weights, or where config.json says `use_ema`. SourceError where both sets are there."""
    prefix = next((p for p in _PREFIXES if sum(n.startswith(p) for n in checkpoint.state) > len(_COUNTERS)), None)
    if prefix is None:
        return None
    averages = {n.removeprefix(prefix): t for n, t in checkpoint.state.items() if n.startswith(prefix)}
    others = checkpoint.without(f"{prefix}{name}" for name in averages)
    counters = [n for n in others if n in _COUNTERS]
    weights = {n: t for n, t in others.items() if n not in counters}
    averages = {n: t for n, t in averages.items() if n not in _COUNTERS}
    choice = checkpoint.config.get(_SETTING)
    if weights and not isinstance(choice, bool):
        first = next(iter(weights))
        raise SourceError(
            f"{checkpoint.directory}: two sets of weights, {prefix}* (averages, {len(averages)} tensors) and {first} … "
            f"({len(weights)} tensors): save the one you want alone, or say which in config.json: {_SETTING} true or false"
        )
    settings = {k: v for k, v in checkpoint.config.items() if k != _SETTING}
    taken = averages if choice or not weights else weights
    sentence = f"{'averages' if taken is averages else 'weights'} of {len(taken)} tensors"
    if weights:
        other = [n for n in checkpoint.state if n.startswith(prefix)] if taken is weights else list(weights)
        sentence += f"; the other set is left out: {listed(other, 3)}"
    return checkpoint.changed(sentence, state=taken, config=settings)
