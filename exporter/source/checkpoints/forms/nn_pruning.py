"""Block and structured pruning as nn_pruning saves it in training: score modules beside each weight, settings in sparse_args.json."""

from collections.abc import Mapping
from typing import Any

from .....errors import SourceError
from .....json_file import read_json
from ..checkpoint import Checkpoint
from ..roles import unlike
from ..scores import METHODS, mask_of, one_of_patterns, two_of_four
from ..state import StoredTensor

ORDER = 42
NAME = "nn_pruning's score modules"
MARKS = (".mask_scores", ".ampere_pattern", ".accumulator")

_MASKS = ".mask_module.context_modules."
_AMPERE = ".ampere_module."
_SCORES = ".mask_scores"
_FILE = "sparse_args.json"
_ATTENTION = (".query", ".key", ".value")


def read(checkpoint: Checkpoint) -> Checkpoint | None:
    """Multiply each weight by the mask that its scores give, as the tool compiles it, and bring norms into their final form.

    SourceError where the settings that say how scores are read are not beside the weights, or scores do not fit a weight.
    """
    stems = {n.split(part)[0] for n in checkpoint.state for part in (_MASKS, _AMPERE) if part in n}
    norms = {n.removesuffix(".accumulator") for n in checkpoint.state if n.endswith(".accumulator")}
    compiled = checkpoint.config.get("layer_norm_type") == "no_norm"
    if not stems:
        _check_magnitude(checkpoint)
    if not (stems or norms or compiled):
        return None
    _check_whole(checkpoint, stems, f"scores (as {_MASKS.strip('.')}.0{_SCORES})")
    _check_whole(checkpoint, norms, "accumulator")
    state = dict(checkpoint.state)
    sentences = []
    config = {name: value for name, value in checkpoint.config.items() if name != "layer_norm_type"}
    if stems:
        settings = _settings(checkpoint)
        for stem in sorted(stems):
            state |= _folded(checkpoint, stem, settings)
        sentences.append(f"nn_pruning's masks folded into {len(stems)} weights")
        if settings.get("gelu_patch"):
            config["hidden_act"] = "relu"
    state = {n: t for n, t in state.items() if _MASKS not in n and _AMPERE not in n and not n.endswith(".accumulator")}
    for norm in sorted(norms):
        state |= _without_norm(checkpoint, norm)
    if compiled:
        norms = {n.removesuffix(".weight") for n in state if n.endswith("LayerNorm.weight")}
    if norms:
        sentences.append(f"{len(norms)} norms are a scale and a shift alone")
    replaced = {**checkpoint.replaced, **dict.fromkeys(norms, "no_norm")}
    return checkpoint.changed("; ".join(sentences), state=state, config=config, replaced=replaced)


def _check_whole(checkpoint: Checkpoint, marked: set[str], part: str) -> None:
    """Refuse modules that lack what the same module of other blocks has: they would be taken for ordinary ones."""
    lost = unlike(marked, (n.removesuffix(".weight") for n in checkpoint.state if n.endswith(".weight")))
    if lost is not None:
        raise SourceError(
            f"{checkpoint.directory}: {lost} has no {part}, and the same module of other blocks has one: download it again"
        )


def _check_magnitude(checkpoint: Checkpoint) -> None:
    """Refuse weights that are pruned by their own magnitude whenever the model runs: no tensor but the weights shows it."""
    path = checkpoint.directory / _FILE
    if not path.is_file():
        return
    settings = read_json(path)
    for kind, ending in (("attention", ".query.weight"), ("dense", ".intermediate.dense.weight")):
        if str(settings.get(f"{kind}_pruning_method", "")).partition(":")[0] != "magnitude":
            continue
        weight = next((tensor for name, tensor in checkpoint.state.items() if name.endswith(ending)), None)
        if weight is not None and bool((weight.read() != 0).all()):
            raise SourceError(
                f"{path}: {kind}_pruning_method = 'magnitude' prunes weights whenever the model runs, and these are not pruned yet: let "
                "nn_pruning compile the model, and give that directory"
            )


def _settings(checkpoint: Checkpoint) -> Mapping[str, Any]:
    path = checkpoint.directory / _FILE
    if not path.is_file():
        raise SourceError(
            f"{checkpoint.directory}: weights have scores beside them, and which are kept is in {_FILE}, which is not here: copy it from "
            "the directory of the training, or let nn_pruning compile the model"
        )
    settings = read_json(path)
    threshold = settings.get("final_threshold")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise SourceError(f"{path}: final_threshold = {threshold!r}: a number is expected; copy the file again")
    return settings


def _folded(checkpoint: Checkpoint, stem: str, settings: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """Return weight and bias of a layer with its masks folded."""
    weight, bias = checkpoint.state.get(f"{stem}.weight"), checkpoint.state.get(f"{stem}.bias")
    if weight is None or len(weight.shape) != 2:
        raise SourceError(
            f"{checkpoint.directory}: {stem} has scores and no weight beside them: save the whole state dict"
        )
    scores = {n: t for n, t in checkpoint.state.items() if n.startswith((f"{stem}{_MASKS}", f"{stem}{_AMPERE}"))}
    way = _Way(checkpoint, stem, weight.shape, settings, scores)
    way.check()

    def masked(given: Any) -> Any:
        return given * way.mask()

    tensors = {f"{stem}.weight": weight.computed(masked)}
    if bias is not None and settings.get("bias_mask"):
        tensors[f"{stem}.bias"] = bias.computed(lambda given: given * (way.mask() != 0).any(1))
    return tensors


class _Way:
    """How the scores of one layer become its mask."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        stem: str,
        shape: tuple[int, ...],
        settings: Mapping[str, Any],
        scores: Mapping[str, StoredTensor],
    ):
        """Read what the settings say of this layer."""
        inner = stem.endswith(_ATTENTION)
        across = stem.endswith("attention.output.dense") and not settings.get("attention_output_with_dense", True)
        kind = "attention" if inner or across else "dense"
        method, _, self.form = str(settings.get(f"{kind}_pruning_method", "topK")).partition(":")
        self.method = method
        rows, columns = (settings.get(f"{kind}_block_{side}", 1) for side in ("rows", "cols"))
        self.block = (columns, rows) if across else (rows, columns)
        self.threshold = float(settings["final_threshold"])
        self.least = float(settings.get("linear_min_parameters", 0.005))
        self.ampere = str(settings.get("ampere_pruning_method", "disabled"))
        self.rewound = settings.get("rewind_model_name_or_path") if kind == "attention" else None
        self.place, self.stem, self.shape, self.scores = checkpoint.directory, stem, shape, scores

    def check(self) -> None:
        """Raise SourceError where the method is unknown, or the scores' shapes are not those of the weight's blocks."""
        if (
            self.method not in METHODS
            or self.method == "magnitude"
            or self.form not in ("", "default", "joint", "1d", "1d_alt")
        ):
            raise SourceError(
                f"{self.place / _FILE}: the method {self.method}{':' if self.form else ''}{self.form} for {self.stem} is not read: let "
                "nn_pruning compile the model"
            )
        if self.rewound and self.form != "joint":
            raise SourceError(
                f"{self.place / _FILE}: rewind_model_name_or_path = {self.rewound!r} keeps the heads of that model in {self.stem}, "
                "whatever the scores say: let nn_pruning compile the model"
            )
        blocks = [
            n // b if isinstance(b, int) and b > 0 and n % b == 0 else None
            for n, b in zip(self.shape, self.block, strict=True)
        ]
        wanted = {f"{self.stem}{_MASKS}0{_SCORES}": tuple(blocks)}
        if self.form.startswith("1d"):
            wanted = {f"{self.stem}{_MASKS}{i}{_SCORES}": (blocks[i],) for i in range(2)}
            if self.form == "1d_alt":
                wanted = {name: shape for name, shape in wanted.items() if name in self.scores}
        name = f"{self.stem}{_AMPERE}context_module{_SCORES}"
        if self.ampere == "annealing":
            wanted[name] = (self.shape[1], self.shape[0] // 4, 6)
            wanted[f"{self.stem}{_AMPERE}ampere_pattern"] = (6, 4)
        elif self.ampere != "disabled":
            wanted[name] = self.shape
        seen = {name: tensor.shape for name, tensor in self.scores.items()}
        wrong = next((n for n in wanted if seen.get(n) != wanted[n]), None)
        if wrong is not None or not wanted:
            shown = list(seen[wrong]) if wrong in seen else "missing"
            raise SourceError(
                f"{self.place}: {wrong or self.stem + _SCORES} is {shown}, and {self.stem}.weight {list(self.shape)} in blocks of "
                f"{self.block[0]} × {self.block[1]}: give the {_FILE} that belongs to the weights"
            )

    def mask(self) -> Any:
        """Return the mask, float `[out, in]`."""
        import torch

        parts = [self.scores.get(f"{self.stem}{_MASKS}{i}{_SCORES}") for i in range(2)]
        given = [part.read().float() if part is not None else None for part in parts]
        if self.form.startswith("1d"):
            sides = [
                s if s is not None else torch.ones(n // b)
                for s, n, b in zip(given, self.shape, self.block, strict=True)
            ]
            scores = sides[0][:, None] @ sides[1][None]
        else:
            scores = given[0]
        mask = mask_of(self.method, scores, self.threshold, self.least)
        mask = mask.repeat_interleave(self.block[0], 0).repeat_interleave(self.block[1], 1)
        fine = self.scores.get(f"{self.stem}{_AMPERE}context_module{_SCORES}")
        if self.ampere == "annealing" and fine is not None:
            patterns = self.scores[f"{self.stem}{_AMPERE}ampere_pattern"].read()
            return mask * one_of_patterns(fine.read(), patterns)
        return mask * two_of_four(fine.read()) if self.ampere != "disabled" and fine is not None else mask


def _without_norm(checkpoint: Checkpoint, norm: str) -> dict[str, StoredTensor]:
    """Return scale and shift of a norm whose mean and variance are those that training has accumulated."""
    weight, bias = (checkpoint.state.get(f"{norm}.{end}") for end in ("weight", "bias"))
    sums = checkpoint.state[f"{norm}.accumulator"]
    if weight is None or bias is None or sums.shape != (3,):
        raise SourceError(
            f"{checkpoint.directory}: {norm}.accumulator is {list(sums.shape)} or lies alone: download it again"
        )
    epsilon = float(checkpoint.config.get("layer_norm_eps", 1e-12))
    mean, variance = (float(sums.read()[i] / sums.read()[2]) for i in range(2))
    scale = (variance + epsilon) ** -0.5
    return {
        f"{norm}.weight": weight.computed(lambda given: given * scale),
        f"{norm}.bias": bias.computed(lambda given: given - mean * scale * weight.read()),
    }
