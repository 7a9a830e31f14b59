"""Our int8 against every peer's: answers beside float32's, time, bytes, and what tasks lose.

    python -m benchmarks.int8 [--threads 1 2] [--rounds 15]

all-MiniLM-L6-v2, calibrated on movie sentences. Fidelity: cosine of the mean of the tokens' states to float32's, over the
built-in lines (two dozen languages, a word to a page), over English sentences that no calibration saw, and over a paragraph of the
declaration of human rights in each of 200 languages (every second one; the method was chosen on some of the others), each text
alone.
Speed: all contestants in their own processes, paired. Tasks: accuracy of the movie classifier, correlation with people's
similarities of news. Prints tables, writes JSON and a plot.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from headway import Bundle
from headway.calibration.corpus import builtin_lines
from headway.exporter.bench.plot import plot_bench
from headway.exporter.cli.tables import bench_table
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe, make_recipe

from .compare import Worker, run
from .data import declarations, movies, news
from .finetune import movie_classifier
from .models import minilm
from .peers.artifacts import Peer, int8_peers
from .results import save

CALIBRATION, ENGLISH, UNKNOWN = 512, 200, 0.05
OUT = Path("build/int8")


def bundles(model: Path, texts: list[str], name: str) -> dict[str, Path]:
    """Float32, and int8 by token and by ranges, of one model."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "text.txt"
        data.write_text("\n".join(texts), encoding="utf-8")
        made = {"float32": export(Recipe(source=str(model)), OUT / f"{name}-float32", force=True).path}
        for kind, kernels in (("int8", "custom"), ("int8 stock", "stock")):
            recipe = make_recipe(
                "benchmark", source=str(model), data=data, passes=[{"kind": "quantize"}], kernels=kernels, max_drop=100
            )
            made[kind] = export(recipe, OUT / f"{name}-{kernels}", force=True).path
    return made


def fidelity(base: Path, peers: list[Peer], texts: dict[str, list[str]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and least cosine to float32 by contestant and set of texts; each text is a batch of its own."""
    opened = Bundle.open(base, threads=1)
    found: dict[str, dict[str, tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in texts.items():
            feeds = [opened.encoder([line], 256) for line in lines]
            stored = Path(folder) / "feeds.npz"
            np.savez(stored, **{f"{i}/{k}": v for i, batch in enumerate(feeds) for k, v in batch.items()})
            wanted = []
            for batch in feeds:
                mask = batch["attention_mask"][:, :, None]
                wanted.append((opened.runner.run(batch)["last_hidden_state"] * mask).sum(1) / mask.sum(1))
            for peer in peers:
                worker = Worker(peer, 1, stored)
                cosines = []
                for i, a in enumerate(wanted):
                    worker.ask(f"check\t{i}\t{folder}/answer.npy")
                    b = np.load(f"{folder}/answer.npy")
                    cosines.append(float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)))
                worker.process.kill()
                found.setdefault(peer.name, {})[name] = (float(np.mean(cosines)), float(np.min(cosines)))
    return found


def spoken(base: Path) -> list[str]:
    """Paragraphs in every second language, those left out of which more than a twentieth of the tokens are unknown."""
    encoder = Bundle.open(base).encoder
    unknown = encoder.tokenizer.token_to_id("[UNK]")
    ids = {text: encoder([text], 256)["input_ids"][0] for text in declarations().values()}
    return [text for text, i in ids.items() if np.mean(i == unknown) <= UNKNOWN][1::2]


def accuracy(bundle: Path) -> float:
    """Percent of the movie sentences of dev and test."""
    data = movies()
    texts, labels = data["dev"].texts + data["test"].texts, np.concatenate([data["dev"].labels, data["test"].labels])
    return 100 * float(np.mean(Bundle.open(bundle)(texts)["logits"].argmax(-1) == labels))


def correlation(bundle: Path) -> float:
    """Pearson correlation, times 100, of similarities of news with people's."""
    rated = news()
    vectors = Bundle.open(bundle)(rated.texts, batch_size=1)["sentence_embedding"]
    upper = np.triu_indices(len(vectors), 1)
    return 100 * float(np.corrcoef((vectors @ vectors.T)[upper], rated.similarity[upper])[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    console = Console(width=220)
    data = movies()
    texts = data["train"].texts[:CALIBRATION]
    made = bundles(minilm(), texts, "minilm")
    peers = int8_peers(minilm(), texts)
    own = [Peer(f"Headway {k}", "headway", Path(sys.executable), path) for k, path in made.items()]
    sets = {
        "lines in 24 languages": builtin_lines(),
        "English sentences": data["test"].texts[:ENGLISH],
        "paragraphs in 200 languages": spoken(made["float32"]),
    }
    cosines = fidelity(made["float32"], own[1:] + peers, sets)
    size = {p.name: sum(f.stat().st_size for f in _files(p.artifact)) / 1e6 for p in own + peers}
    table = Table("int8", "MB", *(f"cosine, {name}: mean / least" for name in sets))
    for name, row in cosines.items():
        table.add_row(name, f"{size[name]:.1f}", *(f"{mean:.5f} / {least:.5f}" for mean, least in row.values()))
    console.print(table)
    classifier = bundles(movie_classifier(), texts, "movies")
    tasks = {
        kind: {"accuracy": accuracy(classifier[kind]), "correlation": correlation(made[kind])} for kind in classifier
    }
    console.print(tasks)
    result = {"cosine": cosines, "mb": size, "tasks": tasks, "speed": {}}
    for threads in arguments.threads:
        timed = run(made["int8"], [own[0], own[2], *peers], threads, arguments.rounds, least_cosine=0.5)
        console.print(bench_table(timed))
        result["speed"][f"{threads} threads"] = timed.to_json()  # type: ignore[index]
        path = save("int8", result)
        plot_bench(timed, path.with_name(f"int8-{threads}-threads.png"))


def _files(artifact: Path) -> list[Path]:
    """Return what a contestant loads: a bundle's graph and weights, an ONNX file, a converted directory's weights."""
    if artifact.is_file():
        return [artifact]
    return [*artifact.glob("model.onnx*"), *artifact.glob("model.bin")]


if __name__ == "__main__":
    main()
