"""Engines of all-MiniLM-L6-v2 by TensorRT-RTX, without a GPU: parity of each typed graph, build time, size.

    python -m benchmarks.engines [--gpu sm_86,sm_89,sm_120] [--rounds 2]

Parity is the typed graph's, computed in torch with every result rounded to its dtype. Nothing is executed on a GPU, and
nothing here says how fast an engine is. "Own graph" is the float32 graph of the same variant, "source" the unchanged model.
"int8" is what a recipe's pass `quantize` makes, calibrated on other lines than those compared. "crude int8" is one step a tensor
from the largest value seen, attention and probabilities included: a test of the builder. Weights of the low-rank and uneven
variants are not repaired.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
from rich.console import Console
from rich.table import Table

from headway.calibration.batches import make_batches
from headway.calibration.corpus import builtin_lines
from headway.engine.build import BuildSettings, build_engine
from headway.engine.profiles import make_profiles
from headway.exporter.bench.measure import machine
from headway.exporter.capture.capture import capture
from headway.exporter.compress.rounding_plan import look, plan, quantized
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.graph.typed_graph import TypedGraph
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.lowrank import SplitWeights
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.recipe.pass_specs import QuantizeSpec
from headway.exporter.source.source import open_source
from headway.exporter.source.tokenizer import load_tokenizer, save_tokenizer
from headway.exporter.targets.base import Text
from headway.exporter.targets.tensorrt import lower as tensorrt
from headway.exporter.targets.tensorrt.int8_check import problems_of
from headway.text import TextEncoder

from .data import sentences
from .models import minilm
from .results import save
from tests.support.quantized import quantize

VARIANTS = ("fp32", "fp16", "bf16", "int8+fp16", "crude int8+fp16", "uneven+fp16", "low-rank+fp16")
COMPARED = 16
CALIBRATION = 448


def calibrated(model: ir.Model, text: Text) -> ir.Model:
    """Return the model in static int8, from English sentences and the lines that are not compared."""
    lines = [*text.lines[COMPARED:], *sentences()[:CALIBRATION]]
    batches = make_batches(text.encoder, lines, longest=256)
    asked = QuantizeSpec()
    chosen = plan(model, read_anatomy(model), asked, int8_tables=tensorrt.SPEC.int8_embeddings)
    seen = look(model, chosen.groups, batches, source="", text="", seed=0, histograms=False)
    return quantized(model, chosen, seen, asked, activations="static", signed=tensorrt.SPEC.signed_activations)[0]


def change(model: ir.Model, variant: str, feeds: dict[str, np.ndarray], text: Text) -> tuple[ir.Model, str]:
    """Return a canonical model as the variant, and the dtype it is lowered to."""
    kind, _, dtype = variant.rpartition("+")
    if kind == "int8":
        model = calibrated(model, text)
    elif kind == "crude int8":
        quantize(model, feeds)
    elif kind == "uneven":
        blocks = read_anatomy(model).blocks
        RemoveHeads({b.index: range(12 - 2 * (b.index % 3)) for b in blocks})(model)
        RemoveNeurons({(b.index, 0): range(1536 - 64 * b.index) for b in blocks})(model)
    elif kind == "low-rank":
        SplitWeights({f.up.weight: 128 for b in read_anatomy(model).blocks for f in b.feed_forwards})(model)
    return model, dtype


def answers(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return TypedGraph(model)(feeds)["sentence_embedding"].detach().numpy()


def least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", default="sm_86,sm_89,sm_120")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    settings = BuildSettings(tuple(arguments.gpu.split(",")))
    source = open_source(str(minilm()))
    captured = capture(source)
    canonical = canonicalize(captured.model, longest=source.positions).model
    table = Table(
        "variant",
        "max abs to own graph",
        "least cosine",
        "to source",
        "float32 nodes",
        "ONNX, MB",
        "engine, MB",
        "build, s",
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        info = save_tokenizer(load_tokenizer(captured.source.directory), captured.source.longest, directory)
        text = Text(TextEncoder(directory / info.file, info), builtin_lines(), most_tokens=1024)
        profiles = make_profiles(text.lengths, text.longest)
        feeds = text.encoder(text.lines[:COMPARED], 48)
        original = answers(canonical.clone(), feeds)
        for variant in VARIANTS:
            model, dtype = change(canonical.clone(), variant, feeds, text)
            wanted = answers(model, feeds)
            found = tensorrt.lower(model, read_anatomy(model), dtype, [b.feeds for b in text.batches])
            got = answers(model, feeds)
            problems = problems_of(model.graph)
            ir.save(model, directory / "model.onnx", external_data="model.onnx.data")
            onnx_bytes = sum(p.stat().st_size for p in directory.glob("model.onnx*"))
            seconds = [
                build_engine("tensorrt_rtx", directory / "model.onnx", profiles, settings, directory / "model.engine")[
                    "seconds"
                ]
                for _ in range(arguments.rounds)
            ]
            row = {
                "variant": variant,
                "max_abs": float(np.abs(got - wanted).max()),
                "cosine": least_cosine(got, wanted),
                "cosine_to_source": least_cosine(got, original),
                "float32_nodes": len(found.precision.in_float32) if found.precision is not None else None,
                "lint": problems,
                "onnx_bytes": onnx_bytes,
                "engine_bytes": (directory / "model.engine").stat().st_size,
                "seconds": seconds,
            }
            rows.append(row)
            cosines = (f"{row['cosine']:.6f}", f"{row['cosine_to_source']:.4f}")
            table.add_row(
                variant, f"{row['max_abs']:.1e}", *cosines, str(row["float32_nodes"]), f"{onnx_bytes / 1e6:.1f}",
                f"{row['engine_bytes'] / 1e6:.1f}", ", ".join(f"{s:.1f}" for s in seconds),
            )  # fmt: skip
            save("engines", {"machine": machine(), "gpus": settings.gpus, "rows": rows})
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
