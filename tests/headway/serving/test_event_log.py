"""The log: one JSON object on each line, whatever is in it."""

import io
import json

from headway.serving.event_log import EventLog


def test_each_event_is_one_line() -> None:
    stream = io.StringIO()
    log = EventLog(stream)
    log.say("error", error="two\nlines, 漢字 \ud800", where=object)
    log.say("ready", workers=2)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first["event"] == "error" and first["error"].startswith("two\nlines")
    assert second["workers"] == 2 and second["process"] > 0 and second["time"].endswith("+00:00")


def test_a_log_that_is_closed_stops_nothing() -> None:
    stream = io.StringIO()
    stream.close()
    EventLog(stream).say("ready")
