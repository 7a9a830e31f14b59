"""What readers of quantized checkpoints share: settings that are used or refused by name, and tensors that have to fit each other."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ....errors import SourceError
from ..config_keys import asks
from .checkpoint import Checkpoint
from .integers import Integers, IntegerWeight
from .state import StoredTensor

SETTINGS = "quantization_config"
METHOD = "quant_method"

MAKING = frozenset(
    [
        METHOD,
        "_load_in_4bit",
        "_load_in_8bit",
        "backend",
        "batch_size",
        "block_name_to_quantize",
        "cache_block_outputs",
        "damp_auto_increment",
        "damp_percent",
        "dataset",
        "device_map",
        "disable_exllama",
        "do_fuse",
        "exllama_config",
        "fuse_max_seq_len",
        "global_compression_ratio",
        "is_marlin_format",
        "load_in_4bit",
        "load_in_8bit",
        "lm_head",
        "max_input_length",
        "meta",
        "model_file_base_name",
        "model_name_or_path",
        "model_seqlen",
        "module_name_preceding_first_block",
        "modules_in_block_to_quantize",
        "modules_to_not_convert",
        "pad_token_id",
        "quantization_status",
        "quantizer",
        "run_compressed",
        "skip_modules",
        "static_groups",
        "tokenizer",
        "true_sequential",
        "use_cuda_fp16",
        "use_exllama",
        "version",
    ]
)
"""Settings of how a checkpoint was quantized, or of the kernels that its own tool runs: its tensors do not depend on them."""


def method_of(checkpoint: Checkpoint) -> str | None:
    """Return what `quant_method` of the config says, in lowercase."""
    settings = checkpoint.config.get(SETTINGS)
    method = settings.get(METHOD) if isinstance(settings, Mapping) else None
    return str(method).lower() if method else None


def settings_of(checkpoint: Checkpoint, method: str, used: Collection[str]) -> Mapping[str, Any]:
    """Return `quantization_config` of the config, {} where it has none.

    SourceError where it is of another method, or has a setting that is not in `used` nor about the making.
    """
    settings = checkpoint.config.get(SETTINGS)
    if not settings:
        return {}
    if not isinstance(settings, Mapping):
        raise SourceError(
            f"{checkpoint.directory}: {SETTINGS} of config.json is not a JSON object: download config.json again"
        )
    other = str(settings.get(METHOD) or method)
    if other.lower() not in (method, method.replace("-", "_")):
        raise SourceError(
            f"{checkpoint.directory}: {SETTINGS} of config.json says {other}, and the tensors are as {method} saves them: give weights "
            "and config.json of one model"
        )
    left = sorted(k for k, v in settings.items() if k not in {*used, *MAKING} and asks(v))
    if left:
        raise SourceError(
            f"{checkpoint.directory}: {SETTINGS} of config.json has {left[0]} = {settings[left[0]]!r}, which nothing here follows: save "
            "the dequantized model, or give it as module:callable"
        )
    return settings


def without_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the config without `quantization_config`, which was used: no quantizer of a library is to read it."""
    return {name: value for name, value in checkpoint.config.items() if name != SETTINGS}


def check_followed(checkpoint: Checkpoint) -> None:
    """Raise SourceError where `quantization_config` is left after all forms: no tensor is saved as it says."""
    settings = checkpoint.config.get(SETTINGS)
    if settings:
        method = settings.get(METHOD) if isinstance(settings, Mapping) else settings
        names = ", ".join(f"{n} {t.dtype}{list(t.shape)}" for n, t in list(checkpoint.state.items())[:3])
        raise SourceError(
            f"{checkpoint.directory}: {SETTINGS} of config.json says {method}, and no tensor is as that method saves them (the first are "
            f"{names}): delete the setting if the weights are floats, or save the dequantized model"
        )


def beside(
    checkpoint: Checkpoint, weight: str, name: str, shape: tuple[int, ...] | None = None, *, integer: bool | None = None
) -> StoredTensor:
    """Return the tensor `name` that belongs to `weight`. SourceError where it is missing, of another shape or kind."""
    tensor = checkpoint.state.get(name)
    if tensor is None:
        raise SourceError(f"{checkpoint.directory}: {weight} has no {name} beside it: download the checkpoint again")
    if shape is not None and tensor.shape != shape:
        raise SourceError(
            f"{checkpoint.directory}: {name} is {list(tensor.shape)}, and by {weight} {list(shape)} is expected: download the "
            "checkpoint again"
        )
    if integer is not None and integer == tensor.floating:
        raise SourceError(
            f"{checkpoint.directory}: {name} is {tensor.dtype}, {'integers' if integer else 'floats'} are expected beside {weight}"
        )
    return tensor


def check_grid(checkpoint: Checkpoint, weight: str, size: int, parts: int, what: str = "inputs") -> None:
    """Raise SourceError where groups do not divide the inputs (or outputs) of a weight."""
    if parts < 1 or size < 1 or size % parts:
        raise SourceError(
            f"{checkpoint.directory}: {weight} has {size} {what}, which {parts} groups do not divide: give scales and weights of one model"
        )


def per_group(
    checkpoint: Checkpoint, weight: str, name: str, shape: tuple[int, int], *, integer: bool | None = False
) -> Callable[[], Any]:
    """Return a function that reads the scales (or zero points) `name` of a weight `[out, in]`, as `[out, groups of inputs]`.

    Stored may be one number, one for each output or for each of some equal groups of outputs, `[groups of outputs, groups of inputs]`.
    """
    stored = beside(checkpoint, weight, name, integer=integer)
    out, inputs = shape
    one = all(size == 1 for size in stored.shape)
    if not one and len(stored.shape) not in (1, 2):
        raise SourceError(
            f"{checkpoint.directory}: {name} is {list(stored.shape)}, and {weight} {list(shape)}: give scales and weights of one model"
        )
    rows, columns = (1, 1) if one else (*stored.shape, 1)[:2]
    check_grid(checkpoint, weight, out, rows, "outputs")
    check_grid(checkpoint, weight, inputs, columns)
    return lambda: stored.read().reshape(rows, columns).repeat_interleave(out // rows, dim=0)


def checked(checkpoint: Checkpoint, weight: str, read: Callable[[], IntegerWeight]) -> Callable[[], IntegerWeight]:
    """Return a function that reads a weight, and refuses scales that are no numbers, and inputs of groups that there are not."""

    def read_checked() -> IntegerWeight:
        found = read()
        if not bool(found.scale.isfinite().all()):
            raise SourceError(
                f"{checkpoint.directory}: scales of {weight} are not finite: download the checkpoint again"
            )
        groups = found.scale.shape[1]
        if found.order is not None and not 0 <= int(found.order.min()) <= int(found.order.max()) < groups:
            raise SourceError(
                f"{checkpoint.directory}: {weight} has inputs of group {int(found.order.max())}, and {groups} groups: download the "
                "checkpoint again"
            )
        return found

    return read_checked


def quantized(
    checkpoint: Checkpoint,
    integers: Mapping[str, Integers],
    used: Iterable[str],
    sentence: str,
    *,
    floats: Mapping[str, StoredTensor] | None = None,
    marks: tuple[str, ...] = (),
) -> Checkpoint:
    """Return the checkpoint with weights in the place of the tensors `used`; `floats` are weights that are no integers.

    SourceError where a weight is there twice, or where tensors that end in `marks` belong to none.
    """
    others = checkpoint.without(used)
    weights = {name: found.as_floats() for name, found in integers.items()} | dict(floats or {})
    twice = sorted(weights.keys() & others.keys())
    if twice:
        raise SourceError(
            f"{checkpoint.directory}: {twice[0]} is saved both quantized and as floats: keep one of the two"
        )
    left = next((name for name in others if marks and name.endswith(marks)), None)
    if left is not None:
        raise SourceError(
            f"{checkpoint.directory}: {left} belongs to no quantized weight: download the checkpoint again"
        )
    return checkpoint.changed(
        sentence,
        state=others | weights,
        integers={**checkpoint.integers, **integers},
        config=without_settings(checkpoint),
    )


def counted(count: int, what: str) -> str:
    """Return "1 weight …" or "n weights …"."""
    return f"{count} weight{'' if count == 1 else 's'} {what}"
