"""Define what those parts of a manifest hold that stay plain objects. Needs nothing but Python: a plan bundle carries this module.

Keys are those that some reader relies on. Others may stand beside them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from .checked import Between, Mismatch, shown
from .processor import X64_PRECISION

_Count = Annotated[int, Between(0, 1 << 53)]
_Width = Annotated[int, Between(0, 1 << 31)]
_Part = Annotated[float, Between(0, 1)]

SESSION_ENTRIES = frozenset({X64_PRECISION, "session.disable_quant_qdq", "session.enable_saved_runtime_optimizations"})
"""ONNX Runtime's session entries that a bundle may set. Others could name files and libraries."""

PROVIDER_OPTIONS: Mapping[str, frozenset[str]] = {
    "CPUExecutionProvider": frozenset(),
    "CUDAExecutionProvider": frozenset({"use_tf32"}),
    "TensorrtExecutionProvider": frozenset(
        {"trt_engine_cache_enable", "trt_timing_cache_enable", "trt_fp16_enable", "trt_bf16_enable"}
    ),
}
"""ONNX Runtime's providers that a bundle may ask for, and their options that it may set."""


class SourceRecord(TypedDict):
    """What a bundle was made from."""

    kind: str
    model_type: NotRequired[str | None]
    fingerprint: str
    bytes: _Count
    license: NotRequired[str | None]
    form: NotRequired[list[str]]


class Block(TypedDict):
    """One block of a model."""

    heads: _Width
    head_dim: _Width
    intermediate_size: list[_Width]
    activation: list[str]
    gated: bool
    merged_qkv: bool
    disentangled: bool
    not_read: NotRequired[list[str]]


class Anatomy(TypedDict):
    """What a model consists of."""

    parameters: _Count
    bytes: _Count
    embeddings: dict[str, list[_Width]]
    blocks: list[Block]
    vocabulary: NotRequired[_Width | None]
    gflops_per_token_at_128: NotRequired[float]


class OutputDistance(TypedDict):
    """How far one output is from the source's."""

    name: str
    max_abs: float
    max_rel: float
    cosine: float
    argmax_agreement: float
    worst_case: str
    source_rounding: NotRequired[float | None]


class Parity(TypedDict):
    """The comparison with the source."""

    ok: bool
    dtype: Literal["float32", "float16", "bfloat16", "bfloat16-weights", "int8"]
    reference: NotRequired[str | None]
    empty_rows: NotRequired[bool]
    outputs: list[OutputDistance]


class Workload(TypedDict):
    """The batches that latency was measured on."""

    shapes: list[list[_Width]]
    threads: _Count


class StageRecord(TypedDict):
    """The model after one pass."""

    name: str
    nbytes: _Count
    ms: float
    quality: float
    by_file: NotRequired[dict[str, float]]
    changes: dict[str, Any]
    paid: bool | None
    undone: bool


class CompanionRecord(TypedDict):
    """A figure beside the main one."""

    name: str
    """What is measured, in words."""

    value: float
    """The figure."""

    unit: Literal["%", ""]
    """`%`, or empty where the figure is on the scale of the model's own scores."""


class TextAgreement(TypedDict):
    """What the held-out texts of one file say about the model, in points from 0 to 100; intervals are of 95 %, over texts."""

    data: str
    """The name of the file."""

    texts: _Count
    """How many of its texts were held out."""

    measure: str
    """What the points are, as `correlation of similarities` or `accuracy`."""

    points: float
    """The points of the model."""

    low: float
    """The lower end of their interval."""

    high: float
    """The upper end."""

    source: float
    """The points of the source."""

    lost: float
    """How many points less the model has; `max_drop` limits them."""

    lost_low: float
    """The lower end of their interval: source and model are compared on the same texts."""

    lost_high: float
    """The upper end."""

    companions: list[CompanionRecord]
    """Figures beside the main one. For sentence embeddings they say what a search would find."""

    meaning: str
    """What the figures mean for whoever uses the model, in a sentence; empty where there is nothing to add."""


class AgreementRecord(TypedDict):
    """`compression.agreement`: how well the model does on held-out text, file by file."""

    worst: str
    """The name of the file where most is lost: the one that `max_drop` is compared with."""

    files: list[TextAgreement]
    """Every file of `data`."""


class TextCounts(TypedDict):
    """How many texts passes learned from, chose by, and were judged by."""

    learn: _Count
    choose: _Count
    judge: _Count


class Compression(TypedDict):
    """What passes changed and cost."""

    workload: Workload
    measured_in: NotRequired[str]
    metric: str
    held_out: _Count
    texts: NotRequired[TextCounts]
    source_quality: float
    agreement: NotRequired[AgreementRecord]
    stages: list[StageRecord]
    left_in_float: NotRequired[dict[str, str] | None]
    vocabulary: NotRequired[dict[str, Any] | None]
    latency_table: NotRequired[str | None]
    sensitivity_unit: NotRequired[str]
    sensitivity_noise_floor: NotRequired[float]


class Measured(TypedDict):
    """A measurement of latency, on this machine or on a device."""

    contestants: list[str]
    threads: _Count
    cases: list[dict[str, Any]]
    machine: dict[str, Any]


class SessionOptions(TypedDict, total=False):
    """What a runner sets when it opens the artifact."""

    graph_optimization_level: Literal["all", "none"]
    disabled_optimizers: list[str]
    regroup: bool
    cut_padding: bool
    kernels: bool
    config: dict[str, str]
    providers: list[Any]


def check_session_options(options: Mapping[str, Any]) -> None:
    """Raise Mismatch for an option, a session entry, a provider or a provider's option that is not on the lists."""
    _on_list("session_options", options, SessionOptions.__annotations__)
    _on_list("session_options.config", options.get("config", {}), SESSION_ENTRIES)
    for provider in options.get("providers", ()):
        name, own = (provider, {}) if isinstance(provider, str) else _pair(provider)
        _on_list("session_options.providers", (name,), PROVIDER_OPTIONS)
        _on_list(f"session_options.providers.{name}", own, PROVIDER_OPTIONS[name])
    if "providers" in options and not options["providers"]:
        raise Mismatch("session_options.providers: at least one is expected")


def _pair(provider: Any) -> tuple[str, Mapping[str, str]]:
    match provider:
        case [str(name), dict(own)] if all(isinstance(value, str) for value in own.values()):
            return name, own
    raise Mismatch("session_options.providers: names, or pairs of a name and its options, are expected")


def _on_list(place: str, names: Any, known: Any) -> None:
    for name in names:
        if name not in known:
            raise Mismatch(
                f"{place}: {shown(name)} is not on the list of what a bundle may ask for ({', '.join(sorted(known))})"
            )
