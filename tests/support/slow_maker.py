"""What makes trials in processes of a test's cluster: records that take a while, and processes that end."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from headway.exporter.search.trial_record import TrialRecord
from headway.exporter.search.trial_settings import TrialSettings

LAST = 13
"""The number of a trial that ends its process each time."""


@dataclass(frozen=True)
class SlowPlan:
    """What a maker is told: the versions that it says it has."""

    versions: tuple[str, str]


@dataclass(frozen=True)
class SlowRequest:
    """A trial that is asked for."""

    number: int
    settings: TrialSettings = field(default_factory=TrialSettings)
    out: Path = Path("nowhere")


class SlowMaker:
    """Come to a record after a moment; `why` names the node."""

    def __init__(self, plan: SlowPlan):
        self._plan = plan

    def versions(self) -> tuple[str, str]:
        return self._plan.versions

    def facts(self, known: object) -> object:
        return known or "facts"

    def make(self, request: SlowRequest) -> TrialRecord:
        if request.number == LAST:
            os._exit(1)
        time.sleep(0.3)
        return TrialRecord(request.number, request.settings.to_json(), "stopped", node_of())


def node_of() -> str:
    """Return the node that this runs on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())
