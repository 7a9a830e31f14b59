"""Opens one of our bundles with Optimum and with sentence-transformers, and compares. Runs in the `optimum` environment.

.cache/peers/optimum/bin/python benchmarks/peers/opens.py BUNDLE SOURCE
"""

import sys

import numpy as np
import torch
from optimum.onnxruntime import ORTModelForFeatureExtraction
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

TEXTS = ["The parcel came on Tuesday.", "Where is it?", "A quiet novel about three sisters who inherit a boatyard."]


def main():
    bundle, source = sys.argv[1:3]
    tokens = AutoTokenizer.from_pretrained(bundle)(TEXTS, padding=True, return_tensors="pt")
    ours = ORTModelForFeatureExtraction.from_pretrained(bundle)(**tokens).last_hidden_state
    with torch.inference_mode():
        theirs = AutoModel.from_pretrained(source)(**tokens).last_hidden_state
    mask = tokens["attention_mask"].bool()
    print("optimum, largest difference", float((ours - theirs)[mask].abs().max()))
    a = SentenceTransformer(bundle, backend="onnx", device="cpu").encode(TEXTS)
    b = SentenceTransformer(source, device="cpu").encode(TEXTS)
    print("sentence-transformers, largest difference", float(np.abs(a - b).max()))


if __name__ == "__main__":
    main()
