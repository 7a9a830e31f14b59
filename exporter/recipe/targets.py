"""The targets: one row each says what a target runs on, where its code is, and which options it takes.

A target is one folder below `targets/` and one row here. The recipe checks its options by the row, `targets.registry` imports the
factory, packages and snippets read `platforms` and `runner`, lint reads `graph`.
"""

from dataclasses import dataclass
from typing import Literal

Platform = Literal["android", "ios", "web"]


@dataclass(frozen=True)
class GraphRules:
    """What the target's own runtime takes in an ONNX graph; `headway lint` judges by it.

    `signed`: quantized activations have to be int8 with zero point 0. `contrib`, `own`: whether it has the operators of
    com.microsoft, and can load Headway's.
    """

    signed: bool = False
    contrib: bool = True
    own: bool = False


@dataclass(frozen=True)
class TargetEntry:
    """One target.

    `factory`: "module:function", imported when the target is asked for; the function takes the recipe and returns a `Target`.
    `runner`: what opens the artifact, see `headway.runners.open`. `platforms`: what apps a bundle can be packaged for.
    `dtypes` and `kernels`: the values of these options that the target takes, `dtype_hint` and `kernels_hint` what the error says
    of others. `own_dtypes`: those of `dtypes` that Headway's own operators alone compute. `options`: parts of the recipe that other
    targets do not have. `convert_only`: why the artifact cannot be run here, so that the user has to ask for `verify: module`.
    `card`: "module:function" that returns the target's own lines of the bundle's card from a manifest. `graph`: where lint knows the
    target by name.
    """

    device: Literal["cpu", "gpu", "phone", "browser"]
    factory: str
    runner: str = "onnxruntime"
    platforms: tuple[Platform, ...] = ()
    dtypes: tuple[str, ...] = ("fp32",)
    own_dtypes: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ("stock",)
    dtype_hint: str = "{dtype} is for GPUs; leave dtype out, or choose another target"
    kernels_hint: str = "its graph has plain operators alone so far; leave `kernels` (--kernels) out"
    options: tuple[Literal["engine", "graph_optimization"], ...] = ()
    convert_only: str = ""
    card: str = ""
    graph: GraphRules | None = None


_TARGETS = "headway.exporter.targets"
_TYPED = ("fp32", "fp16", "bf16")
_INTEGERS_INSTEAD = "{dtype} is for GPUs; leave dtype out, or quantize to int8"

TARGETS: dict[str, TargetEntry] = {
    "ort": TargetEntry(
        device="cpu",
        factory=f"{_TARGETS}.ort.target:ort_target",
        dtypes=("fp32", "bf16"),
        own_dtypes=("bf16",),
        kernels=("stock", "custom"),
        dtype_hint="{dtype} is for GPUs; choose bf16 (with --kernels custom), or leave dtype out",
        card=f"{_TARGETS}.ort.target:card_lines",
    ),
    "ort-mobile": TargetEntry(
        device="phone",
        factory=f"{_TARGETS}.phones.ort_mobile:ort_mobile_target",
        platforms=("android", "ios", "web"),
        dtypes=("fp32", "fp16"),
        dtype_hint="{dtype} has no kernels there; choose fp32 or fp16",
        options=("graph_optimization",),
        graph=GraphRules(),
    ),
    "web": TargetEntry(
        device="browser",
        factory=f"{_TARGETS}.web.target:web_target",
        platforms=("web",),
        dtype_hint="{dtype} is for GPUs; a recipe's pass float16 stores the weights in half the bytes",
        card=f"{_TARGETS}.web.target:card_lines",
    ),
    "executorch": TargetEntry(
        device="phone",
        factory=f"{_TARGETS}.phones.executorch:executorch_target",
        runner="executorch",
        platforms=("android", "ios"),
        dtype_hint=_INTEGERS_INSTEAD,
    ),
    "litert": TargetEntry(
        device="phone",
        factory=f"{_TARGETS}.phones.litert:litert_target",
        runner="litert",
        platforms=("android",),
        dtype_hint=_INTEGERS_INSTEAD,
    ),
    "coreml": TargetEntry(
        device="phone",
        factory=f"{_TARGETS}.phones.coreml:coreml_target",
        runner="coreml",
        platforms=("ios",),
        dtypes=("fp32", "fp16"),
        dtype_hint="{dtype} has no place there; choose fp32 or fp16",
        convert_only="its package runs on Apple's systems alone",
    ),
    "ort-cuda": TargetEntry(device="gpu", factory=f"{_TARGETS}.tensorrt.ort_gpu:ort_gpu_target", dtypes=_TYPED),
    "ort-tensorrt": TargetEntry(device="gpu", factory=f"{_TARGETS}.tensorrt.ort_gpu:ort_gpu_target", dtypes=_TYPED),
    "tensorrt": TargetEntry(
        device="gpu",
        factory=f"{_TARGETS}.tensorrt.target:engine_target",
        runner="tensorrt",
        dtypes=_TYPED,
        kernels=("stock", "custom"),
        options=("engine",),
        graph=GraphRules(signed=True, contrib=False),
    ),
    "tensorrt-rtx": TargetEntry(
        device="gpu",
        factory=f"{_TARGETS}.tensorrt.target:engine_target",
        runner="tensorrt",
        dtypes=_TYPED,
        kernels_hint="TensorRT-RTX has no plugins; leave `kernels` (--kernels) out, or use the target tensorrt",
        options=("engine",),
    ),
}
"""All targets by name, in the order in which messages list them."""


def targets_for(platform: str) -> list[str]:
    """Return the names of the targets whose bundles can be packaged for a platform."""
    return [name for name, entry in TARGETS.items() if platform in entry.platforms]


def targets_with(option: str) -> str:
    """Return the names of the targets that have a part of the recipe of their own, for a message: "a and b"."""
    return " and ".join(name for name, entry in TARGETS.items() if option in entry.options)
