"""Planned work of the proxy search. Pure functions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nasproxy.stages.proxy_search import race
from nasproxy.stages.proxy_search.expected_acceptance import ExpectedAcceptance
from nasproxy.stages.proxy_search.race import TaskSpeed
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.workload import Models, StageWork, Work, count_between, count_checks, count_whole


@dataclass(frozen=True)
class RaceWork:
    """Proxy tasks of a proxy search and the models that they are judged on.

    Attributes:
        task_speeds: Checks and speed of each proxy task.
        models: The selected reference models.
        candidate_pool: Architectures that can be added as references.
        maximum: Maximum number of reference models.
        full_steps: Check steps of a full training.
        settings: Settings of the proxy search.
    """

    task_speeds: Mapping[str, TaskSpeed]
    models: Models
    candidate_pool: Models
    maximum: int
    full_steps: tuple[int, ...]
    settings: ProxySearchSettings

    @property
    def added_at_most(self) -> Models:
        """Architectures that are added in the maximum case."""
        return self.candidate_pool[: max(0, self.maximum - len(self.models))]

    def last_step(self, name: str) -> int:
        """Return the step of a proxy task's last check: at the end of its training, or the first at the time limit."""
        speed, limit = self.task_speeds[name], self.settings.train_seconds_limit
        late = (
            step for step in speed.check_steps if limit is not None and speed.seconds_at(step) >= speed.devices * limit
        )
        return next(late, speed.check_steps[-1])


def plan_proxy_search(run: RaceWork, expected: ExpectedAcceptance) -> StageWork:
    """Plan the proxy search.

    In the minimum case each task is accepted at its first check, after its speed was measured at the second. In the
    maximum case each task trains to the end, on the maximum number of references. In the middle case the race ends at
    the expected acceptance.

    Args:
        run: Proxy tasks and models.
        expected: Expected end of the proxy search.
    """
    n, first = (
        len(run.models),
        {name: race.find_rated_step(speed.check_steps) for name, speed in run.task_speeds.items()},
    )
    low = [_count_until(run, name, first[name], n) for name in run.task_speeds]
    most = run.added_at_most
    high = [_count_until(run, name, run.last_step(name), n + len(most)) for name in run.task_speeds]
    reached = _find_reached_steps(run, expected)
    middle = [
        _count_until(run, name, max(step, first[name]), n + (expected.added if name == expected.task else 0))
        for name, step in reached.items()
    ]
    added = run.candidate_pool[: expected.added]
    return StageWork(
        tuple(low),
        (*middle, count_whole(added, None, run.full_steps, len(added))),
        (*high, count_whole(most, None, run.full_steps, len(most))),
    )


def _find_reached_steps(run: RaceWork, expected: ExpectedAcceptance) -> dict[str, int]:
    """Return the step that each task has reached when one is accepted: the end of the rung in training time."""
    if expected.step is None:
        return {name: run.last_step(name) for name in run.task_speeds}
    if not run.settings.early_stop_if_not_best:
        share = expected.step / run.task_speeds[expected.task].check_steps[-1]
        return {name: _find_step_at_share(speed.check_steps, share) for name, speed in run.task_speeds.items()}
    seconds = run.task_speeds[expected.task].seconds_at(expected.step)
    start = max(speed.seconds_at(race.find_rated_step(speed.check_steps)) for speed in run.task_speeds.values())
    end = race.find_horizon(seconds, start, run.settings.rung_growth)
    if run.settings.policy != "race":
        end = seconds  # sequential: no other task trains ahead
    return {name: min(speed.last_check_within(end), run.last_step(name)) for name, speed in run.task_speeds.items()}


def _find_step_at_share(steps: tuple[int, ...], share: float) -> int:
    return steps[count_checks(steps, share * steps[-1]) - 1]


def _count_until(run: RaceWork, name: str, step: int, models: int) -> Work:
    """Count the work of so many models under a task up to a step, with a pause at the end of each rung."""
    steps, growth = run.task_speeds[name].check_steps, run.settings.rung_growth
    further = math.log(step / race.find_rated_step(steps)) / math.log(growth)
    rungs = max(0, math.ceil(further - 1e-9))
    work = count_between(run.models, name, models, steps, 0, count_checks(steps, step))
    return replace(work, starts=models * (1 + rungs))
