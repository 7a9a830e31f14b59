"""What a failure says of the models that were built on its way."""

from headway.exporter.compress.built import Point, curve_words


def test_the_fastest_that_passes_is_named() -> None:
    curve = [Point(1.2, 0.5), Point(1.5, 2.0), Point(1.6, 4.9), Point(2.0, 9.0)]
    words = curve_words(curve, 5.0)
    assert "1.20 times as fast loses 0.50, 1.50 times" in words and "a `speedup` (--speedup) of 1.59" in words
    assert "None of them would pass" in curve_words(curve, 0.1)
    assert curve_words([], 5.0) == ""
