"""Say of weights that they are those of recurrent layers, whose order no file of a checkpoint names."""

import re
from collections.abc import Iterable
from pathlib import Path

from ...errors import SourceError
from .checkpoints.state import State, read_state
from .weight_files import WEIGHTS

_INPUTS = re.compile(r"(.*?)\.?weight_ih_l(\d+)(_reverse)?")
_GATES = {4: "LSTM", 3: "GRU", 1: "RNN"}


def recurrent_layers(state: State) -> str | None:
    """Return what recurrent layers tensors are of, as `lstm: LSTM of 2 layers in both directions, 300 to 150`; None for others."""
    layers: dict[str, list[tuple[int, bool]]] = {}
    for name in state:
        match = _INPUTS.fullmatch(name)
        if match and len(state[name].shape) == 2:
            layers.setdefault(match[1], []).append((int(match[2]), match[3] is not None))
    said = []
    for path, places in sorted(layers.items()):
        start = f"{path}." if path else ""
        first = state.get(f"{start}weight_ih_l0")
        inner, outer = first.shape if first is not None and len(first.shape) == 2 else (0, 0)
        hidden = state.get(f"{start}weight_hh_l0")
        if hidden is None or len(hidden.shape) != 2 or not hidden.shape[1] or inner % hidden.shape[1]:
            continue
        kind = _GATES.get(inner // hidden.shape[1], "recurrent layer")
        both = " in both directions" if any(reverse for _, reverse in places) else ""
        count = len({layer for layer, _ in places})
        layer_word = "layer" if count == 1 else "layers"
        said.append(f"{path or 'weights'}: {kind} of {count} {layer_word}{both}, {outer} to {hidden.shape[1]} features")
    return "; ".join(said) or None


def check_not_recurrent(place: Path, files: Iterable[Path]) -> None:
    """Raise SourceError naming recurrent layers, and the way on, where weight files hold some and nothing says what runs them."""
    layers = recurrent_layers(read_state(tuple(path for path in files if path.suffix in WEIGHTS))[0])
    if layers is not None:
        raise SourceError(
            f"{place}: {layers}. No config says how embeddings, layers and head follow each other: give the torch module, and the "
            "directory of its tokenizer, as module:callable, or save it by sentence-transformers (WordEmbeddings, LSTM, Pooling)"
        )
