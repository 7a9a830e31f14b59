"""Integers of a few bits out of wider ones."""

import pytest
import torch

from headway.exporter.source.checkpoints.packing import from_stream, from_words


def test_integers_of_three_bits_lie_across_two_words() -> None:
    codes = torch.arange(32) % 8
    number = sum(int(c) << 3 * i for i, c in enumerate(codes))
    words = [(number >> 32 * i) & 0xFFFFFFFF for i in range(3)]
    packed = torch.tensor([[w - (1 << 32) if w >> 31 else w for w in words]], dtype=torch.int32)
    assert torch.equal(from_stream(packed, 3, 32)[0].long(), codes)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_where_words_end_between_integers_both_ways_agree(bits: int) -> None:
    words = torch.tensor([[-1, 0x12345678], [7, -(2**31)]], dtype=torch.int32)
    count = 64 // bits
    assert torch.equal(from_stream(words, bits, count), from_words(words, bits, count))


def test_words_that_do_not_fill_up_keep_their_last_bits_empty() -> None:
    word = sum((i % 8) << 3 * i for i in range(10))
    assert from_words(torch.tensor([[word]], dtype=torch.int32), 3, 10).tolist() == [[i % 8 for i in range(10)]]
