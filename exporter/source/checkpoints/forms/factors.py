"""Low-rank factors: two with gates on the rank between, as FLOP saves them, or two linear layers in the place of one."""

import re
from dataclasses import dataclass
from typing import Any

from .....errors import SourceError
from ....graph.ranks import break_even
from ..checkpoint import Checkpoint
from ..roles import unlike
from ..scores import soft_gate, stretched_gate
from ..state import StoredTensor

ORDER = 20
NAME = "low-rank factors (FLOP, SVD)"
MARKS = (
    ".weight_proj",
    ".log_alpha",
    ".qz_loga",
    ".linear1.weight",
    ".linear2.weight",
    ".ALinear.weight",
    ".BLinear.weight",
    ".U.weight",
    ".V.weight",
)

_GATES = (".mask.log_alpha", ".log_alpha", ".qz_loga", ".mask")
_GATE = _GATES[0]
_PAIRS = (("0", "1"), ("linear1", "linear2"), ("BLinear", "ALinear"), ("V", "U"), ("v", "u"), ("v_proj", "u_proj"))
"""Names of two linear layers in the place of one, the first that runs first: a torch Sequential, FLOP, ASVD, and names of plain SVD."""
_FEED_FORWARD = ("linear1", "linear2")
_FIRST = re.compile(rf"(.+)\.({'|'.join(first for first, _ in _PAIRS)})\.weight")
_INSIDE = ("encoder.", "transformer.", "layers.", "layer.", "pooler.", "embeddings.")
_EMBEDDINGS = ("word_embeddings", "tok_embeddings", "embed_tokens")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Bring all factors into one form: gates are folded, ranks whose gate is 0 are cut, and a rank that does not pay is merged.

    Rank 0 leaves the bias. SourceError where factors do not fit each other, or lie beside a dense weight.
    """
    gated = [n.removesuffix(".weight_proj") for n in checkpoint.state if n.endswith(".weight_proj")]
    single = [
        n.removesuffix(_GATE) for n in checkpoint.state if n.endswith(_GATE) and n.removesuffix(_GATE) not in gated
    ]
    stacked = {
        m[1]: ends
        for n in checkpoint.state
        if (m := _FIRST.fullmatch(n)) and _is_stacked(checkpoint, m[1], ends := _pair(m[2]))
    }
    if not (gated or single or stacked):
        return None
    gone: set[str] = set()
    fresh: dict[str, StoredTensor] = {}
    ranks: list[int] = []
    resized: set[str] = set()
    for stem in single:
        _put_single(checkpoint, stem, fresh, gone)
    for stem in [*gated, *stacked]:
        factors = _gated(checkpoint, stem) if stem in gated else _layers(checkpoint, stem, stacked[stem])
        gone |= factors.names
        _put(stem, factors, fresh)
        ranks.append(factors.rank)
        if f"{stem}.0.weight" in fresh or factors.bias is None:
            resized.add(stem)
    others = checkpoint.without(gone)
    twice = sorted(fresh.keys() & others.keys() - {f"{stem}.weight" for stem in single})
    if twice:
        raise SourceError(
            f"{checkpoint.directory}: {twice[0].rpartition('.')[0]} is saved both as {twice[0]} and as factors: keep the one that the "
            "model runs"
        )
    lost = unlike(single, (n.removesuffix(".weight") for n in others if n.endswith(".weight")))
    if lost is not None:  # it would be taken for a weight that is not transposed
        raise SourceError(
            f"{checkpoint.directory}: {lost}.weight has no {lost}{_GATE} beside it, as the same layer of other blocks has: download it "
            "again"
        )
    state = others | fresh
    kept = sum(f"{stem}.0.weight" in fresh for stem in (*gated, *stacked))
    return checkpoint.changed(_sentence(ranks, kept, len(single)), state=state, resized=checkpoint.resized | resized)


@dataclass(frozen=True)
class _Factors:
    """Two factors `[rank, in]` and `[out, rank]`, the bias behind them, and the names of all their tensors.

    Of an embedding, the first is `[tokens, rank]`.
    """

    first: StoredTensor
    second: StoredTensor
    bias: StoredTensor | None
    names: set[str]
    lookup: bool = False

    @property
    def rank(self) -> int:
        return self.second.shape[1]


def _pair(first: str) -> tuple[str, str]:
    return next(pair for pair in _PAIRS if pair[0] == first)


def _sentence(ranks: list[int], kept: int, single: int) -> str:
    words = []
    if ranks:
        span = f"rank {ranks[0]}" if len(set(ranks)) == 1 else f"ranks {min(ranks)} to {max(ranks)}"
        merged = f", {len(ranks) - kept} merged where two factors do not pay" if kept < len(ranks) else ""
        words.append(f"{len(ranks)} weights factored, {span}{merged}")
    if single:
        words.append(f"gates on the inputs of {single} weights folded")
    return "; ".join(words)


def _is_stacked(checkpoint: Checkpoint, stem: str, ends: tuple[str, str]) -> bool:
    """Return whether two linear layers stand where the class has one, in a block, a pooler or the embeddings."""
    pair = [checkpoint.state.get(f"{stem}.{end}.weight") for end in ends]
    both = all(t is not None and len(t.shape) == 2 for t in pair)
    if ends == _FEED_FORWARD and f"{stem}.{ends[0]}.bias" in checkpoint.state:
        return False  # the names of torch's own feed-forward, which has an activation between
    return both and stem not in checkpoint.resized and any(part in stem for part in _INSIDE)


def _gated(checkpoint: Checkpoint, stem: str) -> _Factors:
    """Return the factors of FLOP's own layer, gates folded."""
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
    return _Factors(
        first.computed(lambda given: given[:, kept].t().contiguous(), shape=shapes[0]),
        second.computed(lambda given: (given * gates[:, None])[kept].t().contiguous(), shape=shapes[1]),
        state.get(f"{stem}.bias"),
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


def _layers(checkpoint: Checkpoint, stem: str, ends: tuple[str, str]) -> _Factors:
    """Return the factors of two linear layers. A bias of the first goes through the second: `B (A x + a) + b = B A x + (B a + b)`."""
    state = checkpoint.state
    first, second = (state[f"{stem}.{end}.weight"] for end in ends)
    if f"{stem}.weight" in state:
        raise SourceError(
            f"{checkpoint.directory}: {stem} is saved both as {stem}.weight and as two factors: keep the one that the model runs"
        )
    lookup = stem.endswith(_EMBEDDINGS)
    if first.shape[int(lookup)] != second.shape[1]:
        raise SourceError(
            f"{checkpoint.directory}: {stem}.{ends[0]}.weight is {list(first.shape)}, and {stem}.{ends[1]}.weight "
            f"{list(second.shape)}: their ranks differ; download it again"
        )
    inner, bias = state.get(f"{stem}.{ends[0]}.bias"), state.get(f"{stem}.{ends[1]}.bias", state.get(f"{stem}.bias"))
    for name, vector, size in ((ends[0], inner, second.shape[1]), (ends[1], bias, second.shape[0])):
        if vector is not None and vector.shape != (size,):
            raise SourceError(
                f"{checkpoint.directory}: the bias of {stem}.{name} is {list(vector.shape)}, and {size} numbers are expected; "
                "download it again"
            )
    if inner is not None:
        bias = _through(second, inner, bias)
    names = {f"{stem}.{end}.{kind}" for end in ends for kind in ("weight", "bias")} | {f"{stem}.bias"}
    return _Factors(first, second, bias, names & set(state), lookup)


def _through(second: StoredTensor, inner: StoredTensor, bias: StoredTensor | None) -> StoredTensor:
    """Return the bias behind both layers, where the first has one, too."""

    def moved(given: Any) -> Any:
        passed = given.double() @ inner.read().double()
        return (passed if bias is None else passed + bias.read().double()).float()

    return second.computed(moved, shape=second.shape[:1])


def _put(stem: str, factors: _Factors, fresh: dict[str, StoredTensor]) -> None:
    """Put the factors where they pay, their product elsewhere."""
    first, second, rank = factors.first, factors.second, factors.rank
    out, into = second.shape[0], first.shape[int(not factors.lookup)]
    if rank > break_even(out, into):
        merged = _looked_up if factors.lookup else _multiplied
        shape = (into, out) if factors.lookup else (out, into)
        bias = factors.bias
        if factors.lookup and bias is not None:  # an embedding has none: each row has it
            added = bias
            fresh[f"{stem}.weight"] = second.computed(
                lambda given: merged(first.read(), given) + added.read().float(), shape=shape
            )
            return
        fresh[f"{stem}.weight"] = second.computed(lambda given: merged(first.read(), given), shape=shape)
        if bias is not None:
            fresh[f"{stem}.bias"] = bias
        return
    if rank == 0:  # one rank of zeros, which no answer shows: layers of no size cannot be traced
        shape = (into, 1) if factors.lookup else (1, into)
        first = first.computed(lambda given: given.new_zeros(shape), shape=shape)
        second = second.computed(lambda given: given.new_zeros(out, 1), shape=(out, 1))
    fresh[f"{stem}.0.weight"], fresh[f"{stem}.1.weight"] = first, second
    if factors.bias is not None:
        fresh[f"{stem}.1.bias"] = factors.bias


def _multiplied(first: Any, second: Any) -> Any:
    return (second.double() @ first.double()).float()


def _looked_up(first: Any, second: Any) -> Any:
    return (first.double() @ second.double().t()).float()


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
