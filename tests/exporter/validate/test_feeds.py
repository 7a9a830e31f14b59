"""Batches of texts for a bundle, whatever its task."""

from types import SimpleNamespace

import numpy as np

from headway.exporter.validate.feeds import feeds_of


def test_a_model_with_choices_gets_a_question_with_options() -> None:
    def encoder(texts: list[str]) -> dict[str, np.ndarray]:
        return {"input_ids": np.ones((len(texts), 3), np.int64)}

    for task, shape in (("fill-mask", (1, 3)), ("multiple-choice", (1, 2, 3))):
        bundle = SimpleNamespace(encoder=encoder, manifest=SimpleNamespace(task=task))
        assert feeds_of(bundle, ["a text"])["input_ids"].shape == shape
