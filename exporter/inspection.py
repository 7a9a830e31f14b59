"""What a model is made of, and where its time goes: `headway inspect`."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from ..errors import UsageError
from ..manifest import MANIFEST, Manifest, check_whole
from ..opening import Checksums
from ..runners.open import graph_of, opened_files
from ..runners.ort import OrtRunner
from ..scratch import scratch
from .capture.capture import capture_canonical
from .graph.anatomy import describe, read_anatomy
from .graph.decompose import decompose_attention
from .targets.ort.target import MODEL_FILE, session_options, write

_RUNS = 10

_NO_HEADS = "no attention by a softmax over tokens: heads are not read, and passes cut the feed-forward layers alone, listed as one block"


class Inspection(TypedDict):
    """The anatomy of a model as plain numbers. `form` has a sentence for each compressed form of its checkpoint.

    `bytes` are those of its weights, `vocabulary` the rows of the embedding that ids are looked up in.
    Each of `blocks` has its `heads`, `head_dim`, `kv_heads`, `intermediate_size` and `activation`
    of each feed-forward, and its form (`gated`, `merged_qkv`, `disentangled`, `ranks`); `not_read` says what of it stays in the
    source's own operators, and why: heads are 0 where that is the attention. `gflops_per_token` is at `length` tokens;
    a bundle has only the figure at 128. `time_share` sums to 1, and is empty where no time was measured.
    """

    model: str
    form: list[str]
    task: str
    length: int
    parameters: int
    bytes: int
    embeddings: dict[str, list[int]]
    vocabulary: NotRequired[int | None]
    blocks: list[dict[str, Any]]
    gflops_per_token_at_128: NotRequired[float]
    gflops_per_token: NotRequired[float]
    time_share: dict[str, float]


def inspect_model(
    spec: str,
    *,
    task: str | None,
    length: int,
    time: bool,
    allow_pickle: bool = False,
    adapters: Sequence[str] = (),
) -> Inspection:
    """Return the anatomy of any source or bundle; with `time`, the measured share of each kind of operator.

    `adapters` are directories of adapters that are merged into a source first.
    """
    path = Path(spec)
    if (path / MANIFEST).is_file():
        if adapters:
            raise UsageError(f"{path} is a bundle: adapters are merged into a model before it is exported")
        return _inspect_bundle(path, task, length, time)
    source, model = capture_canonical(spec, task=task, allow_pickle=allow_pickle, adapters=adapters)
    anatomy = read_anatomy(model)
    described = describe(anatomy)
    share: dict[str, float] = {}
    if time:
        _check_length(length, source.positions)
        with scratch() as folder:
            # Attention is decomposed here, so that softmax and matmuls are nodes of their own.
            decompose_attention(model)
            write(model, Path(folder))
            share = op_share(Path(folder) / MODEL_FILE, length)
    form = list(source.sentences)
    if anatomy.blocks and all(block.attention is None for block in anatomy.blocks):
        form.append(_NO_HEADS)
    return Inspection(
        model=spec,
        form=form,
        task=source.task,
        length=length,
        **described,  # type: ignore[typeddict-item]
        gflops_per_token=anatomy.flops_per_token(length) / 1e9,
        time_share=share,
    )


def _inspect_bundle(path: Path, task: str | None, length: int, time: bool) -> Inspection:
    manifest = Manifest.read(path)
    if task not in (None, manifest.task):
        raise UsageError(f"{path} is a bundle, made for {manifest.task}: leave `task` (--task) out, or give its source")
    check_whole(path, manifest)
    share = _bundle_share(path, manifest, length) if time else {}
    known = {name: value for name, value in manifest.anatomy.items() if name in Inspection.__annotations__}
    known |= {"model": str(path), "form": manifest.source.get("form", []), "task": manifest.task}
    return Inspection(**known, length=length, time_share=share)  # type: ignore[typeddict-item]


def _bundle_share(path: Path, manifest: Manifest, length: int) -> dict[str, float]:
    """Return the share of each operator in the graph that ONNX Runtime runs; a bundle for TensorRT has one beside its engine."""
    graph = graph_of(path / manifest.artifact)
    if not graph.is_file():
        raise UsageError(
            f"{path}: a bundle for {manifest.target}, and `time` (--time) measures what ONNX Runtime runs: leave it out, or give its "
            "source"
        )
    _check_length(length, manifest.tokenizer.max_length)
    names = opened_files(manifest.runner, path, manifest.artifact, providers=True)
    with Checksums(path, manifest, names, check=True):
        return op_share(graph, length, manifest.session_options)


def _check_length(length: int, longest: int) -> None:
    if length > longest:
        raise UsageError(
            f"length {length} is longer than the {longest} tokens this model takes: give at most {longest}"
        )


def op_share(model: Path, length: int, options: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Return the measured share of time of each kind of operator, largest first; the shares sum to 1.

    They come from ONNX Runtime's profile of ten runs on ids `[1, length]`, on one thread; a warm-up run is left out. `options`
    are those of a bundle's runner.
    """
    with scratch() as folder:
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
