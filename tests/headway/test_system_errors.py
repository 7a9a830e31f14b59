"""The system's number of an error."""

import errno

from headway.system_errors import FULL, number_of


def test_the_number_is_the_error_s_own_or_stands_in_its_message() -> None:
    assert number_of(OSError(errno.EACCES, "no")) == errno.EACCES
    assert number_of(OSError("without a number")) == errno.EIO
    assert number_of(Exception("No space left on device (os error 28)")) == 28 == errno.ENOSPC
    assert number_of(Exception("os error 28")) is None and errno.ENOSPC in FULL
