"""Errors have the exit codes that their documentation lists, and importing them needs nothing."""

import re

import pytest

from headway import errors

CODES = {"GateError": 1, "UsageError": 2, "SourceError": 3, "TargetError": 4, "Interrupted": 5}


@pytest.mark.parametrize("name", CODES)
def test_an_error_has_its_exit_code(name: str) -> None:
    error = getattr(errors, name)("what to do")
    assert (error.exit_code, str(error)) == (CODES[name], "what to do")
    assert isinstance(error, errors.HeadwayError)


def test_every_exit_code_is_documented() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d) \|", str(errors.__doc__), re.MULTILINE)}
    assert documented == {0, *CODES.values()}
    defined = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.HeadwayError)}
    assert {c.__name__ for c in defined} == {"HeadwayError", *CODES}
