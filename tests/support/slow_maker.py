"""What makes trials in processes of a test's cluster: records that take a while, and processes that end."""

import os
import time
from typing import Any

from headway.exporter.search.trial_record import TrialRecord


class SlowMaker:
    """Come to a record after a moment; the trial 13 ends its process each time."""

    def __init__(self, plan: Any):
        self._plan = plan

    def versions(self) -> tuple[str, str]:
        return self._plan.work

    def facts(self) -> str:
        return "facts"

    def make(self, request: Any) -> TrialRecord:
        if request.number == 13:
            os._exit(1)
        time.sleep(0.5)
        return TrialRecord(request.number, request.settings.to_json(), "stopped", os.environ["RAY_NODE_ID"])


def node_of() -> str:
    """Return the node that this runs on."""
    return os.environ["RAY_NODE_ID"]
