"""What is traced of sentence-transformers' modules is what they compute themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headway.exporter.capture.traceable_modules import apply_module, strongest

from tests.support import retrieval_models

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_splade(pooling: Any, activation: Any) -> None:
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    module = SpladePooling(pooling, activation).eval()
    features = {"token_embeddings": torch.randn(2, 4, 9), "attention_mask": MASK}
    ours = apply_module(module, {**features}, None)["sentence_embedding"]
    theirs = module({**features, "token_embeddings": features["token_embeddings"].clone()})["sentence_embedding"]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("normalize", [False, True])
def test_sparse_codes(normalize: bool) -> None:
    from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

    module = SparseAutoEncoder(8, 16, k=3, normalize=normalize).eval()
    vectors = torch.randn(5, 8)
    with torch.inference_mode():
        theirs = module({"sentence_embedding": vectors})["sentence_embedding"]
        ours = apply_module(module, {"sentence_embedding": vectors}, None)["sentence_embedding"]
        fewer = apply_module(module, {"sentence_embedding": vectors}, 1)["sentence_embedding"]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert (fewer != 0).sum(dim=1).max() == 1


def test_looked_up_rows(tmp_path: Path) -> None:
    module = retrieval_models.lookup(tmp_path)
    features = {"input_ids": torch.tensor([[5, 6, 5, 7], [8, 5, 0, 0]]), "attention_mask": MASK}
    ours = apply_module(module, features, None)["sentence_embedding"]
    assert ours[1, 0] == 0 and ours[0].count_nonzero() == 3
    np.testing.assert_array_equal(ours.detach(), module({**features})["sentence_embedding"].detach())


def test_the_strongest_dimensions_keep_their_sign() -> None:
    from sentence_transformers.util.tensor import select_max_active_dims

    vectors = torch.randn(4, 9)
    np.testing.assert_array_equal(strongest(vectors, 3), select_max_active_dims(vectors, 3))
    np.testing.assert_array_equal(strongest(vectors, 30), vectors)
