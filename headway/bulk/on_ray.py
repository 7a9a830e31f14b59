"""Answer shards on a Ray cluster: each shard is a task, which runs again elsewhere where its node is lost."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import HeadwayError, TargetError
from .shard_run import Plan, answer_shard, opened

_AHEAD = 2
"""Tasks that wait for each processor of the cluster: results and lost tasks cost the driver little."""

RETRIES = 20
"""How often a shard is begun anew where its process or node is lost."""


def compute_on(address: str) -> Callable[[Plan, Sequence[int], Callable[..., None]], None]:
    """Return what computes shards on the cluster at `address`; `local` starts one on this machine.

    The bundle, the data and the output have to lie where every node finds them by the same path. TargetError where no cluster answers,
    or its versions of Python or Ray are others.
    """

    def compute(plan: Plan, missing: Sequence[int], step: Callable[..., None]) -> None:
        import ray

        connect(address)
        answer = ray.remote(num_cpus=1, max_retries=RETRIES)(_answer)
        shared = ray.put(plan)
        most = max(2, _AHEAD * int(ray.cluster_resources().get("CPU", 1)))
        left, done = list(missing), len(plan.shards) - len(missing)
        running: dict[Any, int] = {}
        try:
            while left or running:
                while left and len(running) < most:
                    number = left.pop(0)
                    running[answer.remote(shared, number)] = number
                ready, _ = ray.wait(list(running), timeout=5.0)
                for task in ready:
                    result_of(task)
                    del running[task]
                    done += 1
                    step("shards", of=len(plan.shards), at=done)
        except BaseException:
            for task in running:  # a later run may use the folder
                ray.cancel(task, force=True)
            raise

    return compute


def connect(address: str, *, processors: int | None = None, resources: Mapping[str, float] | None = None) -> None:
    """Connect to a cluster, or start one on this machine for `local`. TargetError where none answers.

    `processors` and `resources` are those of one that is started.
    """
    import ray

    if ray.is_initialized():
        return
    started: dict[str, Any] = {"num_cpus": processors, "resources": dict(resources or {})} if address == "local" else {}
    try:
        ray.init(
            address=address,
            **started,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address == "local" else None,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TargetError(
            f"{address}: no Ray cluster that this machine can use ({reason[:300]}): start one, or give `local`"
        ) from error


def _answer(plan: Plan, number: int) -> None:
    """Answer a shard in a process of the cluster, unless a lost node had finished it."""
    if not plan.part(number).is_file():
        answer_shard(plan, number, opened(plan))


def result_of(task: Any, *, raises_lost: bool = False) -> Any:
    """Return the result of a task. Errors of Headway and of the system are raised as themselves, others as TargetError.

    `raises_lost`: where the process or node of the task was lost, Ray's own error is raised.
    """
    import ray

    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, HeadwayError | OSError):
            raise cause from None
        if raises_lost and not isinstance(error, ray.exceptions.RayTaskError):
            raise
        reason = str(cause or error).strip().splitlines()
        raise TargetError(
            f"the cluster could not do a part ({(reason or [type(error).__name__])[-1][:300]}): every node needs the same Headway; "
            "Ray's logs have more"
        ) from error
