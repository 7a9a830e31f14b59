"""Low-rank factors as FLOP saves them: two factors with gates on the rank between, or two linear layers after the gates were cut."""

import re
from typing import Any

from .....errors import SourceError
from ....graph.ranks import break_even
from ..checkpoint import Checkpoint
from ..scores import soft_gate, stretched_gate
from ..state import StoredTensor

ORDER = 20
NAME = "low-rank factors with gates (FLOP)"
MARKS = (".weight_proj", ".log_alpha", ".qz_loga", ".linear1.weight", ".linear2.weight")

_GATES = (".mask.log_alpha", ".log_alpha", ".qz_loga", ".mask")
_GATE = _GATES[0]
_STACKED = re.compile(r"(.+)\.(?:0|linear1)\.weight")
_INSIDE = ("encoder.", "transformer.", "layers.")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Bring all factors into one form: gates are folded, ranks whose gate is 0 are cut, and a rank that does not pay is merged.

    Rank 0 leaves the bias. SourceError where factors do not fit each other, or lie beside a dense weight.
    """
    gated = [n.removesuffix(".weight_proj") for n in checkpoint.state if n.endswith(".weight_proj")]
    single = [
        n.removesuffix(_GATE) for n in checkpoint.state if n.endswith(_GATE) and n.removesuffix(_GATE) not in gated
    ]
    stacked = [m[1] for n in checkpoint.state if (m := _STACKED.fullmatch(n)) and _is_stacked(checkpoint, m[1])]
    if not (gated or single or stacked):
        return None
    gone: set[str] = set()
    fresh: dict[str, StoredTensor] = {}
    ranks: list[int] = []
    resized: set[str] = set()
    for stem in single:
        _put_single(checkpoint, stem, fresh, gone)
    for stem in [*gated, *stacked]:
        first, second, old = _gated(checkpoint, stem) if stem in gated else _layers(checkpoint, stem)
        gone |= old
        rank = _put(checkpoint, stem, first, second, fresh)
        ranks.append(rank)
        if f"{stem}.0.weight" in fresh:
            resized.add(stem)
    state = checkpoint.without(gone) | fresh
    return checkpoint.changed(
        _sentence(ranks, len(resized), len(single)), state=state, resized=checkpoint.resized | resized
    )


def _sentence(ranks: list[int], kept: int, single: int) -> str:
    words = []
    if ranks:
        span = f"rank {ranks[0]}" if len(set(ranks)) == 1 else f"ranks {min(ranks)} to {max(ranks)}"
        merged = f", {len(ranks) - kept} merged where two factors do not pay" if kept < len(ranks) else ""
        words.append(f"{len(ranks)} weights factored, {span}{merged}")
    if single:
        words.append(f"gates on the inputs of {single} weights folded")
    return "; ".join(words)


def _is_stacked(checkpoint: Checkpoint, stem: str) -> bool:
    """Return whether two linear layers stand where the class has one: below an encoder, without bias in the first."""
    for first, second in (("0", "1"), ("linear1", "linear2")):
        pair = [checkpoint.state.get(f"{stem}.{end}.weight") for end in (first, second)]
        if all(t is not None and len(t.shape) == 2 for t in pair) and f"{stem}.{first}.bias" not in checkpoint.state:
            return stem not in checkpoint.resized and any(part in stem for part in _INSIDE)
    return False


def _gated(checkpoint: Checkpoint, stem: str) -> tuple[StoredTensor, StoredTensor, set[str]]:
    """Return the factors of FLOP's own layer as `[rank, in]` and `[out, rank]`, gates folded, and the names of its tensors."""
    state = checkpoint.state
    names = {f"{stem}.weight", f"{stem}.weight_proj", f"{stem}.bias"}
    first, second = state.get(f"{stem}.weight"), state[f"{stem}.weight_proj"]
    gate = next((f"{stem}{end}" for end in _GATES if f"{stem}{end}" in state), None)
    if first is None or gate is None:
        missing = f"{stem}.weight" if first is None else f"gates ({stem}.mask.log_alpha)"
        raise SourceError(
            f"{checkpoint.directory}: {stem}.weight_proj has no {missing} beside it: save the whole state dict"
        )
    rank = state[gate].shape
    if len(first.shape) != 2 or len(second.shape) != 2 or rank != (first.shape[1],) or rank != (second.shape[0],):
        raise SourceError(
            f"{checkpoint.directory}: {stem}.weight is {list(first.shape)}, weight_proj {list(second.shape)} and {gate} "
            f"{list(rank)}: their ranks differ; download it again"
        )
    gates = _gates(gate, state[gate])
    kept = gates.nonzero().flatten()
    shapes = (len(kept), first.shape[0]), (second.shape[1], len(kept))
    return (
        first.computed(lambda given: given[:, kept].t().contiguous(), shape=shapes[0]),
        second.computed(lambda given: (given * gates[:, None])[kept].t().contiguous(), shape=shapes[1]),
        names | {gate},
    )


def _gates(name: str, tensor: StoredTensor) -> Any:
    """Return the gates at evaluation, float32 `[rank]`. A plain mask counts where it is above 1e-6, as its own layer has it."""
    given = tensor.read().float()
    if name.endswith(".qz_loga"):
        return stretched_gate(given)
    if name.endswith(".log_alpha"):
        return soft_gate(given)
    return given * (given.abs() > 1e-6)


def _layers(checkpoint: Checkpoint, stem: str) -> tuple[StoredTensor, StoredTensor, set[str]]:
    """Return the factors of two linear layers, and the names of their tensors."""
    state = checkpoint.state
    ends = ("0", "1") if f"{stem}.0.weight" in state else ("linear1", "linear2")
    first, second = (state[f"{stem}.{end}.weight"] for end in ends)
    if f"{stem}.weight" in state:
        raise SourceError(
            f"{checkpoint.directory}: {stem} is saved both as {stem}.weight and as two factors: keep the one that the model runs"
        )
    if first.shape[0] != second.shape[1]:
        raise SourceError(
            f"{checkpoint.directory}: {stem}.{ends[0]}.weight is {list(first.shape)}, and {stem}.{ends[1]}.weight "
            f"{list(second.shape)}: their ranks differ; download it again"
        )
    return first, second, {f"{stem}.{end}.{kind}" for end in ends for kind in ("weight", "bias")} & set(state)


def _put(
    checkpoint: Checkpoint, stem: str, first: StoredTensor, second: StoredTensor, fresh: dict[str, StoredTensor]
) -> int:
    """Put the factors where they pay, their product elsewhere; return the rank."""
    rank, out, into = first.shape[0], second.shape[0], first.shape[1]
    bias = next(
        (t for n in (".bias", ".1.bias", ".linear2.bias") if (t := checkpoint.state.get(f"{stem}{n}")) is not None),
        None,
    )
    if rank > break_even(out, into):
        fresh[f"{stem}.weight"] = second.computed(
            lambda given: (given.double() @ first.read().double()).float(), shape=(out, into)
        )
        if bias is not None:
            fresh[f"{stem}.bias"] = bias
        return rank
    if rank == 0:  # one rank of zeros, which no answer shows: layers of no size cannot be traced
        first = first.computed(lambda given: given.new_zeros(1, into), shape=(1, into))
        second = second.computed(lambda given: given.new_zeros(out, 1), shape=(out, 1))
    fresh[f"{stem}.0.weight"], fresh[f"{stem}.1.weight"] = first, second
    if bias is not None:
        fresh[f"{stem}.1.bias"] = bias
    return rank


def _put_single(checkpoint: Checkpoint, stem: str, fresh: dict[str, StoredTensor], gone: set[str]) -> None:
    """Fold the gates on the inputs of a weight `[in, out]`, which FLOP saves transposed."""
    weight, gate = checkpoint.state.get(f"{stem}.weight"), checkpoint.state[f"{stem}{_GATE}"]
    if weight is None or len(weight.shape) != 2 or gate.shape != weight.shape[:1]:
        shown = list(weight.shape) if weight is not None else "missing"
        raise SourceError(
            f"{checkpoint.directory}: {stem}{_GATE} is {list(gate.shape)}, and {stem}.weight {shown}: download it again"
        )
    gone.add(f"{stem}{_GATE}")
    fresh[f"{stem}.weight"] = weight.computed(
        lambda given: (given * soft_gate(gate.read())[:, None]).t().contiguous(), shape=weight.shape[::-1]
    )
