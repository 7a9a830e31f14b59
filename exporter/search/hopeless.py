"""Say why a trial need not go on: it cannot reach the front, or makes a model that is there already."""

from collections.abc import Sequence

from .trial_record import TrialRecord, beats, decides, front_members

NEARER = 0.8
"""A cut has to be so much nearer to the source than another, before either is recovered, to count as better."""

TABLE_ERROR = 0.95
"""A latency predicted to be less than this part of another's counts as less: so far tables err."""


def after_cut(record: TrialRecord, known: Sequence[TrialRecord]) -> str | None:
    """Return why a cut model cannot reach the front; None where it may.

    Another one that is stored alike and trained as long is as fast and small, and clearly nearer to the source. One that was refused
    before its loss was known says nothing; one that was refused by the texts that judge counts, since those choose nothing.
    """
    own, expected = record.what, record.expected
    assert expected is not None
    for other in known:
        theirs, what = other.expected, other.what
        if theirs is None or (other.state == "refused" and theirs.lost is None):
            continue
        if not what.cuts or what.recover_minutes < own.recover_minutes:
            continue
        if (what.scheme, what.float_blocks, what.coverage) != (own.scheme, own.float_blocks, own.coverage):
            continue
        if theirs.ms <= expected.ms and other.plain_mb <= record.plain_mb and theirs.off < NEARER * expected.off:
            return (
                f"cut, it is no faster and no smaller than trial {other.number}, and its answers to a few texts are "
                f"{expected.off / max(theirs.off, 1e-12):.1f} times as far from the source's"
            )
    return None


def before_building(
    record: TrialRecord, known: Sequence[TrialRecord], most_lost: float, *, only_equal: bool = False
) -> str | None:
    """Return why a whole model is not built; None where it may reach the front.

    `only_equal`: figures that are not known yet decide too, so that no other is known to beat it.
    """
    expected = record.expected
    assert expected is not None and expected.lost is not None
    if expected.lost > most_lost:
        return f"it loses {expected.lost:.2f} points on the texts to choose by, and {most_lost:g} are allowed"
    for other in known:
        if other.model == record.model:
            return f"it is the model of trial {other.number}"
    for other in () if only_equal else front_members(known):
        theirs = other.expected
        assert theirs is not None and theirs.lost is not None
        if theirs.lost <= expected.lost and theirs.mb <= expected.mb and theirs.ms <= TABLE_ERROR * expected.ms:
            return (
                f"trial {other.number} loses no more, is no larger, and is faster by more than the latency table errs"
            )
    return None


def once_timed(lost: float, ms: float, mb: float, known: Sequence[TrialRecord]) -> str | None:
    """Return why a model that was built and timed is no bundle: one that is there beats it. None where none does."""
    for other in known:
        theirs = decides(other)
        if theirs is not None and (beats(theirs, (lost, ms, mb)) or theirs == (lost, ms, mb)):
            return f"measured, it is beaten by trial {other.number}"
    return None
