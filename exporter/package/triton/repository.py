"""Write the model repository: the models, their configurations, a client and what a person has to know.

models/NAME             ensemble: texts to outputs, by the two or three models below it
models/NAME_tokenizer   Python backend: texts to token ids
models/NAME_encoder     ONNX Runtime or TensorRT backend: token ids to outputs
models/NAME_head        Python backend, for text classification: logits to scores
models/NAME_bls         Python backend: texts to outputs, calling the encoder
models-python/NAME      Python backend alone, with onnxruntime inside: for servers without the ONNX Runtime backend
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....bundle import Bundle
from ....errors import UsageError
from ....kernels.cpu import MISSING, library_path
from ....manifest import Manifest, TensorInfo, logit_columns
from ....processor import X64_PRECISION, adds_bytes_exactly
from ....serving.served_bundle import mixes_lengths
from ....serving.server_settings import available_processors
from ....serving.speed_table import TEXT_TOKENS, SpeedTable, measure_bundle
from ....tasks import Scoring
from ...check.lint import lint
from .model_config import TEXT, ModelConfig, Tensor, render
from .ragged import ENDS, make_ragged

P99 = 0.1
"""Seconds within which batches are to be answered; batches and waits follow from it and from what was measured."""

MOUNTED = "/models"
"""Where the server sees the folder `models`: the path of the operator library in a configuration has to be whole."""

_TARGETS = ("ort", "ort-cuda", "tensorrt")

_FEWEST = 8
"""Texts of a batch that are always allowed: it is also what one request may hold."""

_STEP = 16
"""Tokens to a multiple of which texts are padded for the ensemble, where padding changes nothing."""

_WARM = 16


@dataclass(frozen=True)
class TritonPlan:
    """What the configurations are made of: the bundle, what was measured, and how the encoder takes its texts."""

    name: str
    bundle: Bundle
    table: SpeedTable
    ragged: bool
    outputs: Sequence[TensorInfo]

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    @property
    def inputs(self) -> list[str]:
        """Names of what the encoder takes of each text; without padding there is no mask."""
        return [i.name for i in self.manifest.inputs if not (self.ragged and i.name == "attention_mask")]

    @property
    def budget(self) -> int:
        return self.table.budget(P99)

    @property
    def most_texts(self) -> int:
        return max(_FEWEST, self.budget // TEXT_TOKENS)

    @property
    def delay(self) -> int:
        """Microseconds that a batch may wait."""
        return round(1e6 * self.table.wait(P99))

    @property
    def mixes(self) -> bool:
        return mixes_lengths(self.manifest)

    @property
    def saturates(self) -> bool:
        """Return whether int8 sums may saturate on x86 without VNNI, where no session entry asks for wider ones."""
        if self.manifest.target != "ort":
            return False
        return any(f.severity == "error" for f in lint(self.bundle.path / self.manifest.artifact, "x86-avx2"))

    @property
    def config(self) -> dict[str, str]:
        """Return what a session of the Python model asks for on this machine."""
        config = self.manifest.session_options.get("config", {})
        return {k: v for k, v in config.items() if k != X64_PRECISION or not adds_bytes_exactly()}

    @property
    def custom(self) -> bool:
        return bool(self.manifest.session_options.get("kernels"))


def plan_of(name: str, directory: Path) -> TritonPlan:
    """Open a bundle, measure it, and return the plan. UsageError for targets and tasks that Triton's backends do not run."""
    bundle = Bundle.open(directory, threads=1)
    bundle.check_files()
    manifest = bundle.manifest
    if manifest.target not in _TARGETS:
        raise UsageError(
            f"{directory}: these packages are not for target {manifest.target}; export with --target {', '.join(_TARGETS)}"
        )
    if manifest.task == "multiple-choice":
        raise UsageError(
            f"{directory}: multiple-choice reads several texts as one row, which these packages do not have"
        )
    if manifest.task == "multi-vector":
        raise UsageError(f"{directory}: reads queries and documents in two ways, which these packages do not have")
    table = measure_bundle(bundle, P99)
    whole = [o for o in manifest.outputs if "sequence" not in o.shape]
    ragged = bool(manifest.target == "ort" and manifest.session_options.get("kernels") and whole)
    return TritonPlan(name, bundle, table, ragged, whole if ragged else manifest.outputs)


def write_repository(plan: TritonPlan, license: str, out: Path) -> None:
    """Write `models`, `models-python`, `client.py` and `README.md` into a directory that is there.

    `license` is the sentence about the model's license.
    """
    models = out / "models"
    _write_encoder(plan, models / f"{plan.name}_encoder")
    _write_tokenizer(plan, models / f"{plan.name}_tokenizer")
    _write_bls(plan, models / f"{plan.name}_bls")
    scoring = _scoring(plan)
    if scoring is not None:
        _write_head(plan, models / f"{plan.name}_head", scoring)
    _write_ensemble(plan, models / plan.name, scoring is not None)
    if plan.manifest.runner == "onnxruntime":
        _write_whole(plan, out / "models-python" / plan.name)
    names = ["scores"] if scoring is not None else [o.name for o in plan.outputs]
    (out / "client.py").write_text(render("client.py.j2", name=plan.name, outputs=names), encoding="utf-8")
    (out / "README.md").write_text(_readme(plan, license), encoding="utf-8")


def _batched(plan: TritonPlan) -> dict[str, Any]:
    """Return the values of a model that Triton batches."""
    return {"batching": True, "delay": plan.delay, "queue": 16 * plan.most_texts, "max_batch_size": plan.most_texts}


def _write_encoder(plan: TritonPlan, folder: Path) -> None:
    manifest = plan.manifest
    tensors = [Tensor.of(i) for i in manifest.inputs]
    gpu = manifest.target != "ort"
    config = ModelConfig(
        folder.name,
        "Token ids to the model's outputs.",
        tensors,
        [Tensor.of(o) for o in plan.outputs],
        backend="" if manifest.runner == "tensorrt" else "onnxruntime",
        platform="tensorrt_plan",
        instances=1 if gpu else available_processors(),
        kind="KIND_GPU" if gpu else "KIND_CPU",
        cache=not plan.ragged,
        parameters={} if gpu else {"intra_op_thread_count": 1, "inter_op_thread_count": 1},
        **_batched(plan),
    )
    if plan.ragged:
        config.inputs = [Tensor(t.name, t.type, t.dims, ragged=True) for t in tensors if t.name != "attention_mask"]
        config.ends = ENDS
    if plan.custom:
        config.library = f"{MOUNTED}/{folder.name}/operators/{_copy_library(folder / 'operators')}"
    config.warmup = _WARM
    config.write(folder, plan.name)
    _write_warmup(folder / "warmup", config.inputs)
    _copy_artifact(plan, folder / "1")


def _write_warmup(folder: Path, tensors: Sequence[Tensor]) -> None:
    """Write the ids of a text of padding, and a mask of ones, as raw bytes."""
    folder.mkdir(parents=True)
    for tensor in tensors:
        dtype = np.int32 if tensor.type == "TYPE_INT32" else np.int64
        value = 1 if tensor.name == "attention_mask" else 0
        (folder / tensor.name).write_bytes(np.full(_WARM, value, dtype).tobytes())


def _copy_library(folder: Path) -> str:
    library = library_path()
    if library is None:
        raise UsageError(MISSING)
    folder.mkdir(parents=True)
    shutil.copyfile(library, folder / library.name)
    return library.name


def _copy_artifact(plan: TritonPlan, version: Path) -> None:
    """Copy the model with its weights, under the names that Triton expects; without padding, the graph with other inputs."""
    bundle, manifest = plan.bundle.path, plan.manifest
    if manifest.runner == "tensorrt":
        engine = bundle / manifest.artifact
        if not engine.is_file():
            raise UsageError(
                f"{bundle}: its engine was not built yet: run build_engine.py there, on the GPU machine, first"
            )
        shutil.copyfile(engine, version / "model.plan")
        return
    if plan.ragged:
        import onnx_ir as ir

        model = ir.load(bundle / manifest.artifact)
        make_ragged(model, manifest.tokenizer.pad_id, manifest.tokenizer.pad_type_id)
        ir.save(model, version / "model.onnx", external_data="model.onnx.data")
        return
    for name in _files_of(manifest):
        shutil.copyfile(bundle / name, version / Path(name).name)


def _files_of(manifest: Manifest) -> list[str]:
    return [n for n in manifest.files if n == manifest.artifact or n.startswith(f"{manifest.artifact}.")]


def _python_model(folder: Path, template: str) -> None:
    """Write the code of a Python model, with what such models have in common."""
    (folder / "1" / "model.py").write_text(render(template), encoding="utf-8")
    (folder / "1" / "common.py").write_text(render("common.py.j2"), encoding="utf-8")


def _text_parameters(plan: TritonPlan, inputs: Sequence[str]) -> dict[str, object]:
    info = plan.manifest.tokenizer
    return {
        "tokenizer": Path(info.file).name,
        "max_length": info.max_length,
        "pad_id": info.pad_id,
        "pad_type_id": info.pad_type_id,
        "inputs": " ".join(inputs),
    }


def _copy_tokenizer(plan: TritonPlan, folder: Path) -> None:
    name = plan.manifest.tokenizer.file
    shutil.copyfile(plan.bundle.path / name, folder / "1" / Path(name).name)


def _write_tokenizer(plan: TritonPlan, folder: Path) -> None:
    step = _STEP if plan.mixes and not plan.ragged else 1
    config = ModelConfig(
        folder.name,
        "Texts to token ids.",
        [TEXT],
        [Tensor.of(i) for i in plan.manifest.inputs if i.name in plan.inputs],
        instances=2,
        parameters={**_text_parameters(plan, plan.inputs), "pad_to_multiple_of": step},
        **_batched(plan),
    )
    config.write(folder, plan.name)
    _python_model(folder, "tokenizer.py.j2")
    _copy_tokenizer(plan, folder)


def _per_token(outputs: Sequence[TensorInfo]) -> str:
    return " ".join(o.name for o in outputs if "sequence" in o.shape)


def _write_bls(plan: TritonPlan, folder: Path) -> None:
    config = ModelConfig(
        folder.name,
        "Texts to the model's outputs, calling the encoder.",
        [TEXT],
        [Tensor.of(o) for o in plan.outputs],
        instances=2,
        cache=True,
        parameters={
            **_text_parameters(plan, plan.inputs),
            "per_token": _per_token(plan.outputs),
            "encoder": f"{plan.name}_encoder",
            "ragged": "yes" if plan.ragged else "no",
        },
        **_batched(plan),
    )
    config.write(folder, plan.name)
    _python_model(folder, "bls.py.j2")
    _copy_tokenizer(plan, folder)


def _write_whole(plan: TritonPlan, folder: Path) -> None:
    options = plan.manifest.session_options
    library = _copy_library(folder / "1") if plan.custom else ""
    config = ModelConfig(
        folder.name,
        "Texts to the model's outputs, in Python alone.",
        [TEXT],
        [Tensor.of(o) for o in plan.manifest.outputs],
        instances=available_processors(),
        cache=True,
        parameters={
            **_text_parameters(plan, [i.name for i in plan.manifest.inputs]),
            "per_token": _per_token(plan.manifest.outputs),
            "mixes": "yes" if plan.mixes else "no",
            "artifact": Path(plan.manifest.artifact).name,
            "library": library,
            "batch_tokens": plan.budget,
            "config": " ".join(f"{k}={v}" for k, v in plan.config.items()),
            "disabled_optimizers": " ".join(options.get("disabled_optimizers", [])),
        },
        **_batched(plan),
    )
    config.write(folder, plan.name)
    _python_model(folder, "whole.py.j2")
    _copy_tokenizer(plan, folder)
    for name in _files_of(plan.manifest):
        shutil.copyfile(plan.bundle.path / name, folder / "1" / Path(name).name)


def _scoring(plan: TritonPlan) -> Scoring | None:
    columns = logit_columns(plan.outputs)
    if plan.manifest.task != "text-classification" or columns is None:
        return None
    return Scoring.of(plan.manifest.scoring, columns)


def _scores(plan: TritonPlan) -> Tensor:
    return Tensor("scores", "TYPE_FP32", f"[ {logit_columns(plan.outputs)} ]", labels=True)


def _write_labels(plan: TritonPlan, folder: Path) -> None:
    """Write the names of classes, one on each line: clients that ask for classes get them."""
    columns = logit_columns(plan.outputs) or 0
    labels = [plan.manifest.labels.get(str(i), f"LABEL_{i}") for i in range(columns)]
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")


def _write_head(plan: TritonPlan, folder: Path, scoring: Scoring) -> None:
    (logits,) = [Tensor.of(o) for o in plan.outputs if o.name == "logits"]
    config = ModelConfig(
        folder.name, f"Logits to {scoring.meaning()}.", [logits], [_scores(plan)], plan.most_texts,
        instances=1, parameters={"activation": scoring.activation},
    )  # fmt: skip
    config.write(folder, plan.name)
    _write_labels(plan, folder)
    (folder / "1" / "model.py").write_text(render("head.py.j2"), encoding="utf-8")


def _write_ensemble(plan: TritonPlan, folder: Path, has_head: bool) -> None:
    outputs = [o.name for o in plan.outputs]
    same = {name: name for name in plan.inputs}
    steps = [
        {"model": f"{plan.name}_tokenizer", "takes": {"text": "text"}, "gives": same},
        {"model": f"{plan.name}_encoder", "takes": same, "gives": {name: name for name in outputs}},
    ]
    tensors = [Tensor.of(o) for o in plan.outputs]
    if has_head:
        steps.append({"model": f"{plan.name}_head", "takes": {"logits": "logits"}, "gives": {"scores": "scores"}})
        tensors = [_scores(plan)]
    config = ModelConfig(
        folder.name, "Texts to outputs.", [TEXT], tensors, 1 if plan.ragged else plan.most_texts,
        backend="", platform="ensemble", steps=steps,
    )  # fmt: skip
    config.write(folder, plan.name)
    if has_head:
        _write_labels(plan, folder)
    (folder / "1" / "README").write_text(
        "An ensemble has no files; Triton wants the folder of its version.\n", encoding="utf-8"
    )


def _readme(plan: TritonPlan, license: str) -> str:
    import onnxruntime

    rows = "\n".join(f"| {n} | {1e3 * s:.2f} |" for n, s in zip(plan.table.sizes, plan.table.seconds, strict=True))
    return render(
        "README.md.j2",
        plan=plan,
        license=license,
        rows=rows,
        p99=round(1e3 * P99),
        onnxruntime=onnxruntime.__version__,
        library=f"{MOUNTED}/{plan.name}_encoder/operators",
        whole=plan.manifest.runner == "onnxruntime",
        head=_scoring(plan) is not None,
    )
