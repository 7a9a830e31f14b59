"""Integers of a weight, and the floats that they stand for."""

import torch

from headway.exporter.source.checkpoints.integers import Integers, IntegerWeight

CODES = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]], dtype=torch.uint8)
SCALE = torch.tensor([[0.5, 2.0], [1.0, 0.25]])


def test_zero_points_and_scales_are_those_of_the_groups() -> None:
    zero = torch.tensor([[1, 0], [0, 2]])
    weight = IntegerWeight(CODES, SCALE, 2, zero)
    assert weight.float_weight().tolist() == [[-0.5, 0.0, 4.0, 6.0], [3.0, 2.0, -0.25, -0.5]]


def test_an_order_names_the_group_of_each_input() -> None:
    weight = IntegerWeight(CODES, SCALE, 2, None, torch.tensor([1, 0, 0, 1], dtype=torch.int32))
    assert weight.float_weight().tolist() == [[0.0, 0.5, 1.0, 6.0], [0.75, 2.0, 1.0, 0.0]]


def test_nothing_is_read_before_it_is_needed() -> None:
    reads: list[int] = []

    def read() -> IntegerWeight:
        reads.append(1)
        return IntegerWeight(CODES, SCALE, 2)

    tensor = Integers((2, 4), read).as_floats()
    assert not reads and tensor.shape == (2, 4) and tensor.floating
    assert tensor.read().shape == (2, 4) and len(reads) == 1
