"""Removes heads with transformers' own `prune_heads` and saves the answers. Runs in the `optimum` environment (transformers 4).

python pruned.py MODEL HEADS.json FEEDS.npz OUT.npy      (HEADS: block → heads that go)
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel


def main():
    model_path, heads, feeds, out = sys.argv[1:5]
    model = AutoModel.from_pretrained(model_path, attn_implementation="eager").eval()
    model.prune_heads({int(b): gone for b, gone in json.loads(Path(heads).read_text()).items()})
    stored = np.load(feeds)
    with torch.inference_mode():
        answers = model(**{k: torch.from_numpy(stored[k]) for k in stored.files}).last_hidden_state
    np.save(out, answers.numpy())


if __name__ == "__main__":
    main()
