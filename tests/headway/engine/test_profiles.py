"""Optimization profiles: their borders follow the text, and profiles that contradict themselves or miss a text are refused."""

import numpy as np
import pytest

from headway.engine.profiles import Profile, check_profiles, make_profiles
from headway.errors import UsageError


def test_borders_are_the_median_and_the_ninetieth_percentile_of_the_text() -> None:
    lengths = np.array([5] * 6 + [20] * 3 + [60])
    first, second, third = make_profiles(lengths, 128, batch=16)
    assert first == Profile((1, 1), (8, 8), (16, 8))
    assert second == Profile((1, 9), (8, 24), (16, 24))
    assert third == Profile((1, 25), (8, 64), (16, 128))  # optimized for the median of the lengths that are left


def test_equal_borders_are_one_profile_and_none_exceeds_the_model() -> None:
    assert make_profiles(np.full(9, 12), 16) == [Profile((1, 1), (8, 16), (32, 16))]
    (single,) = make_profiles(np.array([3]), 5, batch=2)
    assert single == Profile((1, 1), (2, 5), (2, 5))


def test_a_profile_takes_what_lies_between_its_ends() -> None:
    profile = Profile((2, 9), (4, 16), (8, 24))
    assert profile.takes(2, 9) and profile.takes(8, 24)
    assert not any(profile.takes(*shape) for shape in ((1, 9), (9, 9), (2, 8), (2, 25)))


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (Profile((1, 1), (0, 8), (8, 16)), "profile 1: min 1x1, opt 0x8, max 8x16 have to be in this order"),
        (Profile((1, 1), (8, 24), (8, 16)), "profile 1: .*opt 8x24.*in this order"),
        (Profile((1, 1), (8, 8), (8, 65)), "profile 1: max 8x65, and the model takes no more than 64 tokens"),
    ],
)
def test_a_profile_that_cannot_be_is_named(profile: Profile, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        check_profiles([Profile((1, 1), (8, 8), (8, 64)), profile], np.array([9]), 64)


def test_texts_that_fit_no_profile_are_counted() -> None:
    profiles = [Profile((1, 1), (8, 8), (8, 16)), Profile((1, 33), (8, 40), (8, 64))]
    check_profiles(profiles, np.array([0, 1, 16, 33, 64]), 64)
    with pytest.raises(UsageError, match="2 of 4 texts have 17 to 32 tokens, but the profiles take 1 to 16, 33 to 64"):
        check_profiles(profiles, np.array([16, 17, 32, 33]), 64)
