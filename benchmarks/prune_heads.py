"""Head removal against transformers 4's `prune_heads`: the same heads gone from MiniLM-L6, the same text.

    python -m benchmarks.prune_heads

Prints the largest difference of the token states and writes it to the results.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from headway.calibration.corpus import builtin_lines
from headway.exporter.capture.capture import capture
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.canonical import canonicalize
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.source.source import open_source
from headway.exporter.source.tokenizer import source_encoder

from .models import minilm
from .peers.environments import python_of
from .results import save


def main() -> None:
    path = minilm()
    source = open_source(str(path), task="feature-extraction")
    captured = capture(source)
    model = canonicalize(captured.model, longest=captured.source.positions).model
    rng = np.random.default_rng(0)
    gone = {
        b.index: sorted(rng.choice(12, size=int(rng.integers(1, 11)), replace=False).tolist())
        for b in read_anatomy(model).blocks
    }
    RemoveHeads({b: [h for h in range(12) if h not in heads] for b, heads in gone.items()})(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        feeds = source_encoder(captured.source, folder)(builtin_lines()[:32])
        (folder / "heads.json").write_text(json.dumps(gone), encoding="utf-8")
        np.savez(folder / "feeds.npz", **feeds)
        worker = Path(__file__).parent / "peers" / "pruned.py"
        files = [folder / f for f in ("heads.json", "feeds.npz", "answers.npy")]
        subprocess.run([python_of("optimum"), worker, path, *files], check=True, capture_output=True)
        theirs = np.load(folder / "answers.npy")
    with torch.no_grad():
        ours = TorchGraph(model)(feeds)["last_hidden_state"].numpy()
    mask = feeds["attention_mask"].astype(bool)
    off = float(np.abs(ours - theirs)[mask].max())
    print(f"largest difference {off:.2e} of states up to {np.abs(theirs[mask]).max():.2f}; heads gone {gone}")
    save("prune-heads", {"largest_difference": off, "largest_state": float(np.abs(theirs[mask]).max()), "gone": gone})


if __name__ == "__main__":
    main()
