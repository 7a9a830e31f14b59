"""`headway inspect` and `headway verify`: what a model is made of, and whether a bundle still agrees with its source."""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..errors import UsageError
from ..manifest import MANIFEST, Manifest
from ..runners.open import graph_of
from ..runners.ort import OrtRunner
from .capture.capture import capture
from .graph.anatomy import describe, read_anatomy
from .graph.canonical import canonicalize
from .graph.decompose import decompose_attention
from .source.source import Source, open_source
from .targets.ort.target import MODEL_FILE, SLOW_FUSIONS, session_options, write

_RUNS = 10
_FUSED = {"disabled_optimizers": SLOW_FUSIONS}


def inspect_model(
    spec: str, *, task: str | None, length: int, time: bool, allow_pickle: bool = False
) -> dict[str, Any]:
    """The anatomy of any source or bundle as plain numbers; with `time`, the measured share of each operator kind."""
    path = Path(spec)
    if (path / MANIFEST).is_file():
        manifest = Manifest.read(path)
        if task not in (None, manifest.task):
            raise UsageError(f"{spec} is a bundle, made for {manifest.task}: leave --task out, or give its source")
        described = dict(manifest.anatomy)
        share = _bundle_share(path, manifest, length) if time else {}
        return {"model": spec, "task": manifest.task, "length": length, **described, "time_share": share}
    source, model = canonical_graph(spec, task, allow_pickle)
    anatomy = read_anatomy(model)
    found = {
        "model": spec,
        "task": source.task,
        "length": length,
        **describe(anatomy),
        "gflops_per_token": anatomy.flops_per_token(length) / 1e9,
    }
    found["time_share"] = {}
    if time:
        if length > source.positions:
            raise UsageError(f"--length {length} is longer than the {source.positions} tokens this model takes")
        with tempfile.TemporaryDirectory() as folder:
            # Attention is written out here, so that softmax and products are nodes of their own.
            decompose_attention(model)
            write(model, Path(folder))
            found["time_share"] = op_share(Path(folder) / MODEL_FILE, length)
    return found


def _bundle_share(path: Path, manifest: Manifest, length: int) -> dict[str, float]:
    """Of the graph that ONNX Runtime runs; a bundle for TensorRT has one beside its engine."""
    graph = graph_of(path / manifest.artifact)
    if not graph.is_file():
        raise UsageError(f"{path}: a bundle for {manifest.target}; --time measures what ONNX Runtime runs")
    if length > (longest := manifest.tokenizer.max_length):
        raise UsageError(f"--length {length} is longer than the {longest} tokens this model takes")
    return op_share(graph, length, manifest.session_options)


def canonical_graph(spec: str, task: str | None, allow_pickle: bool) -> tuple[Source, ir.Model]:
    captured = capture(open_source(spec, task=task, allow_pickle=allow_pickle))
    return captured.source, canonicalize(captured.model, longest=captured.source.positions).model


def op_share(model: Path, length: int, options: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Measured share of time by operator kind on one thread, largest first; the shares sum to 1.

    From ONNX Runtime's own profile of ten runs on `[1, length]` ids; a run before them is left out. `options` as a bundle's
    runner takes them.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = options or session_options(regroup=False)
        session = OrtRunner(model, settings, threads=1, profile=Path(folder) / "profile").session
        fill = {"attention_mask": 1, "token_type_ids": 0}
        feeds = {
            i.name: np.full((*[1] * (len(i.shape) - 1), length), fill.get(i.name, 5), np.int64)
            for i in session.get_inputs()
        }
        for _ in range(_RUNS + 1):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    per_run = len(kernels) // (_RUNS + 1)
    spent: Counter[str] = Counter()
    for event in kernels[per_run:]:
        spent[event["args"]["op_name"]] += event["dur"]
    total = sum(spent.values()) or 1
    return {name: micros / total for name, micros in spent.most_common()}
