"""The GPU of this machine, where there is none."""

import pytest

from headway.kernels import device


def test_without_a_driver_the_architecture_is_not_guessed() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises((OSError, RuntimeError)):
        device.architecture()
