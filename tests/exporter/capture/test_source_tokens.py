"""A source's own tokenizer in front of its model."""

import json
from pathlib import Path

import numpy as np

from headway.exporter.capture.source_tokens import SourceTokens
from headway.exporter.source.source import open_source

from tests.support import models


def tokens(tmp_path: Path, task: str, **settings: object) -> SourceTokens:
    directory = models.make_model(tmp_path, "bert", task)
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return SourceTokens(open_source(str(directory)))


def run(feeds):
    return {"logits": np.repeat(feeds["input_ids"][..., None], 2, axis=-1).astype(np.float32)}


def test_rows_are_padded_on_the_right_whatever_the_tokenizer_says(tmp_path: Path) -> None:
    answer = tokens(tmp_path, "token-classification", padding_side="left").answer(
        ["rain", "the price of bread"], ["input_ids"], run
    )
    assert [len(ids) for ids in answer.ids] == [3, 6]
    assert answer.ids[0][0] == 1 and answer.ids[0][-1] == 2
    logits = answer.outputs["logits"]
    assert logits.shape == (2, 6, 2) and (logits[0, 3:] == 0).all() and (logits[0, :3, 0] == answer.ids[0]).all()


def test_texts_are_cut_at_the_limit_and_inputs_that_the_tokenizer_lacks_are_zero(tmp_path: Path) -> None:
    given = tokens(tmp_path, "token-classification", model_max_length=12)
    answer = given.answer(
        ["rain " * 40], ["input_ids", "token_type_ids"], lambda feeds: {"logits": feeds["token_type_ids"]}
    )
    assert len(answer.ids[0]) == 12 and (answer.outputs["logits"] == 0).all()


def test_pairs_and_choices(tmp_path: Path) -> None:
    given = tokens(tmp_path, "multiple-choice")
    shapes = []

    def choose(feeds):
        shapes.append(feeds["input_ids"].shape)
        return {"logits": np.zeros((2, 2), np.float32)}

    answer = given.answer([("rain", "a"), ("rain", "b"), ("bread", "a"), ("bread", "b")], ["input_ids"], choose)
    assert shapes[0][:2] == (2, 2) and len(answer.ids) == 4 and answer.outputs["logits"].shape == (2, 2)


def test_which_outputs_are_per_token_may_be_said(tmp_path: Path) -> None:
    """Names and task tell for Hugging Face's models alone."""
    given = tokens(tmp_path, "feature-extraction")

    def both(feeds):
        return {"461": np.ones((2, 5), np.float32), "422": run(feeds)["logits"]}

    answer = given.answer(["rain", "the price of bread"], ["input_ids"], both, ["422"])
    assert answer.outputs["461"].shape == (2, 5) and answer.outputs["422"].shape == (2, 6, 2)
    assert (answer.outputs["422"][0, 3:] == 0).all()
