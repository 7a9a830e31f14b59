"""What merging an adapter costs: wall time and peak memory of an export of 3 GB of random weights, without an adapter and with one.

    python -m benchmarks.adapter_cost

It takes minutes, some 10 GB of memory and 10 GB of disk. The adapter has rank 16 on every linear layer of every block.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save_file

from headway.exporter.bench.measure import machine

from .export_cost import OUT, cost, ours
from .models import big_encoder
from .results import save

RANK = 16


def make_adapter(base: Path, directory: Path) -> Path:
    """Write a random LoRA adapter for every linear layer of the blocks of `base`."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 32, "bias": "none", "base_model_name_or_path": str(base)}
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    tensors = {}
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  no container
                shape = file.get_slice(name).get_shape()
                if ".layer." in name and len(shape) == 2:
                    stem = f"base_model.model.{name.removesuffix('.weight')}"
                    tensors[f"{stem}.lora_A.weight"] = torch.randn(RANK, shape[1]) * 0.01
                    tensors[f"{stem}.lora_B.weight"] = torch.randn(shape[0], RANK) * 0.01
    save_file(tensors, directory / "adapter_model.safetensors")
    return directory


def main() -> None:
    base = big_encoder()
    adapter = make_adapter(base, OUT / "adapter")
    plain = cost(ours(base))
    merged = cost([*ours(base), "--adapter", str(adapter)])
    shutil.rmtree(OUT / "ours", ignore_errors=True)
    figures = {"plain": asdict(plain), "merged": asdict(merged), "peak_ratio": merged.peak / plain.peak}
    Console().print(figures)
    save("adapter-cost", {"machine": machine(), **figures})


if __name__ == "__main__":
    main()
