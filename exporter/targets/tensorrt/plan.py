"""Write into a bundle what is needed to build its engine on another machine.

These are `plan.json`, a script with the few modules of Headway that it runs, and for TensorRT one `trtexec` command.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir

import headway

from .... import kernels as kernels_package
from ....engine.build import BuildSettings
from ....engine.profiles import Profile
from ....engine.record import ENGINE_FILE, PLAN_FILE
from ...graph.edit import sequence_axis

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
SCRIPT_FILE = "build_engine.py"
SHELL_FILE = "build.sh"
BUILDER = "builder"
_TEMPLATES = Path(__file__).parent / "templates"
_MODULES = (
    "checked",
    "errors",
    "inside",
    "json_file",
    "manifest",
    "manifest_parts",
    "processor",
    "engine/__init__",
    "engine/build",
    "engine/profiles",
    "engine/rebuild",
    "engine/record",
)
_KERNELS = ("tensorrt_plugin", *(f"triton/{name}" for name in ("__init__", "attention", "build", "configs", "softmax")))


def write_plan(
    model: ir.Model, directory: Path, library: str, settings: BuildSettings, profiles: Sequence[Profile]
) -> None:
    """Write how the engine is built from the graph beside it: `plan.json`, a script, and for TensorRT one `trtexec` command."""
    inputs = [str(v.name) for v in model.graph.inputs]
    plan = {
        "library": library,
        "inputs": inputs,
        "outputs": {str(v.name): sequence_axis(v) for v in model.graph.outputs},
        "profiles": [asdict(p) for p in profiles],
        "settings": {k: v for k, v in asdict(settings).items() if k != "cache"},
    }
    (directory / PLAN_FILE).write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
    _write(directory / SCRIPT_FILE, builder=BUILDER)
    carry_builder(directory / BUILDER, settings.kernels)
    if library == "tensorrt" and not settings.kernels:  # trtexec cannot load plugins written in Python
        command = shlex.join(trtexec(inputs, profiles, settings))
        _write(directory / SHELL_FILE, engine=ENGINE_FILE, command=command)


def trtexec(inputs: Sequence[str], profiles: Sequence[Profile], settings: BuildSettings) -> list[str]:
    """Return the command that builds the engine in the current directory. Source: `trtexec --help` of TensorRT 10 and 11."""
    command = [
        "trtexec",
        f"--onnx={MODEL_FILE}",
        f"--saveEngine={ENGINE_FILE}",
        "--stronglyTyped",
        "--noTF32",
        "--skipInference",
    ]
    for number, profile in enumerate(profiles):
        command.append(f"--profile={number}")
        for kind in ("min", "opt", "max"):
            shape = "x".join(map(str, getattr(profile, kind)))
            command.append(f"--{kind}Shapes=" + ",".join(f"{name}:{shape}" for name in inputs))
    levels = {"same": "sameComputeCapability", "ampere+": "ampere+"}
    command.append("--timingCacheFile=timing.cache")
    if settings.version_compatible:
        command.append("--versionCompatible")
    if settings.hardware != "none":
        command.append(f"--hardwareCompatibilityLevel={levels[settings.hardware]}")
    if settings.stripped:
        command.append("--stripWeights")
    if settings.sparse:
        command.append("--sparsity=enable")
    if settings.level is not None:
        command.append(f"--builderOptimizationLevel={settings.level}")
    return command


def carry_builder(directory: Path, kernels: bool) -> None:
    """Copy what the script runs, as the package `headway` below `directory`; with `kernels` also their sources, for Triton."""
    own, kernel_sources = Path(str(headway.__file__)).parent, Path(str(kernels_package.__file__)).parent
    files = {f"{name}.py": own / f"{name}.py" for name in _MODULES}
    files |= {
        f"kernels/{name}.py": kernel_sources / f"{name}.py"
        for name in ("__init__", "device", *(_KERNELS if kernels else ()))
    }
    if kernels:
        files["kernels/triton/configs.json"] = kernel_sources / "triton" / "configs.json"
    for name, source in files.items():
        target = directory / "headway" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    (directory / "headway" / "__init__.py").write_text(
        '"""The part of Headway that builds engines."""\n', encoding="utf-8"
    )


def _write(path: Path, **values: str) -> None:
    """Write a script from the template of its name. jinja2 is imported here, since plans alone need it."""
    import jinja2

    text = (_TEMPLATES / f"{path.name}.j2").read_text(encoding="utf-8")
    template = jinja2.Template(text, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    path.write_text(template.render(values), encoding="utf-8")
