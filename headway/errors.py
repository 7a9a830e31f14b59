"""Define the errors that Headway raises, each with its exit code.

| code | meaning |
|---|---|
| 0 | done and within every gate |
| 1 | a gate or the parity check failed; nothing was written |
| 2 | usage or recipe error; a file that cannot be read or written; too little disk or memory |
| 3 | the source is unreadable or unsupported |
| 4 | the target is not available on this machine |
| 5 | interrupted; nothing half-written, run again |
"""


class HeadwayError(Exception):
    """Base of all errors a user can cause or meet; `str()` is one message that says what to do."""

    exit_code = 1


class GateError(HeadwayError):
    """The artifact was built, but disagrees with its source or misses a gate."""

    exit_code = 1


class UsageError(HeadwayError):
    """The command line or the recipe is wrong, or the output cannot be written."""

    exit_code = 2


class SourceError(HeadwayError):
    """The source model cannot be read, or holds something Headway does not support."""

    exit_code = 3


class TargetError(HeadwayError):
    """The target cannot be built or run on this machine."""

    exit_code = 4


class Interrupted(HeadwayError):
    """The user stopped the run."""

    exit_code = 5


class HeadwayWarning(UserWarning):
    """Something that works, but is probably not what the user wants."""
