"""The use of tokens that is expected of text to come."""

import numpy as np
import pytest

from headway.errors import UsageError
from headway.exporter.passes.token_use import MOST_UNSEEN, estimate, scripts_of, unseen_share

WORDS = [f"word{i}" for i in range(400)]
CONTENT = {"model": {"type": "WordPiece", "vocab": {w: i for i, w in enumerate([*WORDS, "слово", "другое"])}}}
VOCABULARY: dict[str, int] = CONTENT["model"]["vocab"]  # type: ignore[assignment]


def zipf(texts: int, seed: int = 0, words: int = 400) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, words + 1)
    return [rng.choice(words, 25, p=shares / shares.sum()).tolist() for _ in range(texts)]


def test_the_unseen_share_is_that_of_tokens_in_one_text_alone() -> None:
    rows = [[1, 1, 2], [2, 3], [4, 2]]
    assert unseen_share(rows, ()) == pytest.approx(4 / 7)  # 1 twice, 3, 4
    assert unseen_share(rows, {1}) == pytest.approx(2 / 7)
    assert unseen_share([], ()) == 1.0


def test_the_estimate_foretells_what_further_text_lacks() -> None:
    learned, further = zipf(150), [i for row in zipf(2000, seed=1) for i in row]
    seen = {i for row in learned for i in row}
    missed = np.mean([i not in seen for i in further])
    assert unseen_share(learned, ()) == pytest.approx(missed, rel=0.3)
    use = estimate(CONTENT, VOCABULARY, learned, ())
    assert use.expected.sum() == pytest.approx(1)
    assert use.expected[sorted(seen)].sum() == pytest.approx(1 - unseen_share(learned, ()))
    for count in (50, 150, 300):
        kept = set(use.ranked[:count])
        assert use.coverage(count, ()) == pytest.approx(np.mean([i in kept for i in further]), abs=0.02)
    assert use.coverage(0, range(100)) == pytest.approx(np.mean([i < 100 for i in further]), abs=0.02)


def test_unseen_tokens_of_other_scripts_are_expected_nowhere() -> None:
    use = estimate(CONTENT, VOCABULARY, zipf(150), ())
    assert len(use.ranked) == 400
    never = set(range(402)) - {i for row in zipf(150) for i in row}
    assert use.expected[400] == use.expected[401] == 0
    assert all(use.expected[i] > 0 for i in never if i < 400)
    assert use.gone(range(400), ()) == ["cyrillic"] and use.gone(range(400), {400, 401}) == []


def test_a_small_text_is_refused_with_what_is_needed() -> None:
    rows = zipf(8)
    assert unseen_share(rows, ()) > MOST_UNSEEN
    with pytest.raises(UsageError, match=r"none of the other 7, .* give about [\d,]+ texts like these") as refused:
        estimate(CONTENT, VOCABULARY, rows, ())
    needed = int(str(refused.value).split("about ")[1].split(" ")[0].replace(",", ""))
    assert unseen_share(zipf(needed), ()) < 2 * MOST_UNSEEN


def test_probabilities_of_unigram_are_its_own() -> None:
    content = {"model": {"type": "Unigram", "vocab": [["a", -1.0], ["often", -2.0], ["rare", -9.0], ["some", -3.0]]}}
    vocabulary = {"a": 0, "often": 1, "rare": 2, "some": 3}
    use = estimate(content, vocabulary, [[0, 0, 0, 0] * 10, [0] * 40, [0, 3]], ())
    assert use.expected[1] > 100 * use.expected[2] > 0


def test_byte_level_tokens_are_read_as_text() -> None:
    alphabet = {"Ð´Ð°": 0, "ĠÐ´": 1, "Ġthe": 2, "Ð": 3}
    content = {
        "model": {"type": "BPE"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]},
    }
    assert scripts_of(content, alphabet) == ["cyrillic", "cyrillic", "latin", "common"]
    assert scripts_of({"model": {"type": "BPE"}}, alphabet)[0] == "latin"
