"""Planned work of a study: trials, steps and starts of each stage, counted from its settings. Pure functions.

Each stage is counted three times: minimum, under the assumption, and maximum.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nasproxy.cost.expected_acceptance import ExpectedAcceptance
from nasproxy.stages.proxy_search import race
from nasproxy.stages.proxy_search.race import TaskSpeed
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.references.selection import Selection
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Architecture, Recipe, Split, TrialSpec

Models = tuple[Architecture, ...]


@dataclass(frozen=True)
class Work:
    """Total work of trials of one kind.

    Attributes:
        models: Their architectures; each trial is assumed to take the mean time of these.
        task: Name of their proxy task; None for full training.
        trials: Number of new trials, without those continued from an earlier round.
        starts: Number of started processes; a paused trial needs another start.
        steps: Optimizer steps of all trials.
        checks: Checks of all trials.
    """

    models: Models
    task: str | None
    trials: int
    starts: int
    steps: int
    checks: int


@dataclass(frozen=True)
class StageWork:
    """Planned work of a stage.

    Attributes:
        low: Minimum.
        middle: Under the assumption.
        high: Maximum.
    """

    low: tuple[Work, ...]
    middle: tuple[Work, ...]
    high: tuple[Work, ...]


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


def list_checks(recipe: Recipe, task: ProxyTask | None = None) -> tuple[int, ...]:
    """List the check steps of a training; `task` None for full training."""
    return TrialSpec({}, task or ProxyTask(), Split.FULL, 0, recipe).check_steps


def plan_variance(settings: VarianceSettings, recipe: Recipe, candidates: Sequence[Architecture]) -> StageWork:
    """Plan the variance stage: the seeds of the first candidate.

    In the maximum case all other candidates are tried before, and fail just before they count as trainable.

    Args:
        settings: Settings of the measurement.
        recipe: The study's recipe.
        candidates: Architectures in the order in which they are tried.
    """
    total = recipe.total_steps if settings.total_steps is None else settings.total_steps
    steps = list_checks(replace(recipe, total_steps=total))
    # The first seed is paused at the check that shows that it trains, and continues with the others.
    seeds = replace(_count_whole(tuple(candidates[:1]), None, steps, settings.seeds), starts=settings.seeds + 1)
    failed_checks = _count_checks(steps, settings.trainable_fraction * total)
    others = tuple(candidates[1 : settings.max_tries])
    failed_tries = _count_between(others, None, len(others), steps, 0, failed_checks)
    return StageWork((seeds,), (seeds,), (seeds, failed_tries))


def plan_schedules(recipe: Recipe, architecture: Architecture, trainings: int) -> StageWork:
    """Plan the schedule comparison: so many full trainings of one model."""
    work = (_count_whole((architecture,), None, list_checks(recipe), trainings),)
    return StageWork(work, work, work)


def plan_selection(
    settings: Selection,
    recipe: Recipe,
    candidates: Sequence[Architecture],
    baseline: Architecture | None,
    *,
    is_first_trained: bool,
) -> StageWork:
    """Plan the selection of the reference models and the training of the baseline.

    In the maximum case as many candidates as allowed fail at the end of their training.

    Args:
        settings: The selection.
        recipe: The study's recipe.
        candidates: Random architectures.
        baseline: The user's own architecture; None if there is none.
        is_first_trained: Whether the variance stage trains the first candidate fully, so that it costs nothing here.
    """
    steps, shared = list_checks(recipe), int(is_first_trained)
    begun = settings.rounds[0][0]
    pool, works, reached = tuple(candidates[shared:begun]), [], 0
    for models, fraction in settings.rounds:
        until = _count_checks(steps, fraction * steps[-1])
        work = _count_between(pool, None, models - shared, steps, reached, until)
        works.append(work if not reached else replace(work, trials=0))
        reached = until
    if baseline is not None:
        works.append(_count_whole((baseline,), None, steps, 1))
    failed = _count_whole(tuple(candidates[begun : settings.candidates]), None, steps, settings.candidates - begun)
    return StageWork(tuple(works), tuple(works), (*works, failed))


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
        (*middle, _count_whole(added, None, run.full_steps, len(added))),
        (*high, _count_whole(most, None, run.full_steps, len(most))),
    )


def plan_confirmation(run: RaceWork, expected: ExpectedAcceptance, fresh: Models) -> StageWork:
    """Plan the confirmation runs of the accepted task.

    In the minimum case no task is accepted. In the maximum case each task is accepted at its last check but one, and
    all but one are contradicted.

    Args:
        run: Proxy tasks and models.
        expected: Expected end of the proxy search.
        fresh: Fresh architectures that are trained fully and under the proxy task.
    """
    n = len(run.models)
    full = _count_whole(fresh, None, run.full_steps, len(fresh))

    def count_runs(name: str, step: int, models: int) -> Work:
        # A task that was accepted at its last step needs no confirmation runs.
        steps = run.task_speeds[name].check_steps
        trials, checks = 0 if step == steps[-1] else models + len(fresh), _count_checks(steps, step)
        return Work(run.models, name, trials, trials, trials * step, trials * checks)

    most = n + len(run.added_at_most)
    latest = [count_runs(name, speed.check_steps[-2:][0], most) for name, speed in run.task_speeds.items()]
    middle = () if expected.step is None else (count_runs(expected.task, expected.step, n + expected.added), full)
    return StageWork((), middle, (*latest, full))


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
    return steps[_count_checks(steps, share * steps[-1]) - 1]


def _count_until(run: RaceWork, name: str, step: int, models: int) -> Work:
    """Count the work of so many models under a task up to a step, with a pause at the end of each rung."""
    steps, growth = run.task_speeds[name].check_steps, run.settings.rung_growth
    further = math.log(step / race.find_rated_step(steps)) / math.log(growth)
    rungs = max(0, math.ceil(further - 1e-9))
    work = _count_between(run.models, name, models, steps, 0, _count_checks(steps, step))
    return replace(work, starts=models * (1 + rungs))


def _count_whole(models: Models, task: str | None, steps: tuple[int, ...], trials: int) -> Work:
    return _count_between(models, task, trials, steps, 0, len(steps))


def _count_between(models: Models, task: str | None, trials: int, steps: tuple[int, ...], begin: int, end: int) -> Work:
    """Count the work of trials from one check to another, given as numbers of checks."""
    done = steps[begin - 1] if begin else 0
    return Work(models, task, trials, trials, trials * (steps[end - 1] - done), trials * (end - begin))


def _count_checks(steps: tuple[int, ...], wanted: float) -> int:
    """Count the checks up to and including the first one at or after a step."""
    return next(place for place, step in enumerate(steps, 1) if step >= wanted - 1e-9)
