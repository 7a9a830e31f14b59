"""Write what a server does as one JSON object on each line. No text of a request is ever among it."""

import json
import os
import sys
from datetime import UTC, datetime
from typing import TextIO


class EventLog:
    """Lines with `time`, `event`, `process` and what belongs to the event."""

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream

    def say(self, event: str, **fields: object) -> None:
        """Write one event. A log that cannot be written to does not stop the server."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps(
            {"time": now, "event": event, "process": os.getpid(), **fields}, ensure_ascii=True, default=str
        )
        try:
            stream = self._stream or sys.stderr
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            pass
