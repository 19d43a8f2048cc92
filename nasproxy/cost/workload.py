"""What a study will train: trials, steps and starts of each stage, counted from the settings its controllers use. Pure.

Each stage is counted three times: at the least, as is assumed, and at most.
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
    """Trials of one kind, together.

    Attributes:
        models: Architectures that they train; the mean over these stands for each.
        task: The proxy task that they train under; None for full training.
        trials: How many are new; those of an earlier round go on.
        starts: Processes that are started for them: a trial that was paused starts anew.
        steps: Optimizer steps of all of them.
        checks: Validations of all of them.
    """

    models: Models
    task: str | None
    trials: int
    starts: int
    steps: int
    checks: int


@dataclass(frozen=True)
class StageWork:
    """What a stage may train.

    Attributes:
        low: At the least.
        middle: As is assumed.
        high: At most.
    """

    low: tuple[Work, ...]
    middle: tuple[Work, ...]
    high: tuple[Work, ...]


@dataclass(frozen=True)
class RaceWork:
    """The proxy tasks and the models that they are judged on.

    Attributes:
        task_speeds: Checks and speed of each proxy task.
        models: The selected reference models.
        candidate_pool: Architectures that may be added to them.
        maximum: Reference models that there may be.
        full_steps: The checks of a full training.
        settings: How the search is held.
    """

    task_speeds: Mapping[str, TaskSpeed]
    models: Models
    candidate_pool: Models
    maximum: int
    full_steps: tuple[int, ...]
    settings: ProxySearchSettings

    @property
    def added_at_most(self) -> Models:
        """Architectures that are added if as many are as may."""
        return self.candidate_pool[: max(0, self.maximum - len(self.models))]

    def last_step(self, name: str) -> int:
        """The last check of a proxy task: that of its training, or the first at its time limit."""
        speed, limit = self.task_speeds[name], self.settings.train_seconds_limit
        late = (
            step for step in speed.check_steps if limit is not None and speed.seconds_at(step) >= speed.devices * limit
        )
        return next(late, speed.check_steps[-1])


def list_checks(recipe: Recipe, task: ProxyTask | None = None) -> tuple[int, ...]:
    """The steps of the checks of a training."""
    return TrialSpec({}, task or ProxyTask(), Split.FULL, 0, recipe).check_steps


def plan_variance(settings: VarianceSettings, recipe: Recipe, candidates: Sequence[Architecture]) -> StageWork:
    """The copies of the first candidate; at most, all other tries fail when they have nearly counted as workable."""
    total = recipe.total_steps if settings.total_steps is None else settings.total_steps
    steps = list_checks(replace(recipe, total_steps=total))
    # The first copy is paused at the check that shows it to train, and goes on with the others.
    copies = replace(_whole(tuple(candidates[:1]), None, steps, settings.seeds), starts=settings.seeds + 1)
    hunted = _checks_until(steps, settings.trainable_fraction * total)
    others = tuple(candidates[1 : settings.max_tries])
    hunt = _trained(others, None, len(others), steps, 0, hunted)
    return StageWork((copies,), (copies,), (copies, hunt))


def plan_schedules(recipe: Recipe, architecture: Architecture, trainings: int) -> StageWork:
    """Full trainings of one model under schedules of their own."""
    work = (_whole((architecture,), None, list_checks(recipe), trainings),)
    return StageWork(work, work, work)


def plan_selection(
    settings: Selection,
    recipe: Recipe,
    candidates: Sequence[Architecture],
    baseline: Architecture | None,
    *,
    is_first_trained: bool,
) -> StageWork:
    """The reference models and the baseline; at most, as many more candidates as may fail do so at their end.

    Args:
        settings: How they are selected.
        recipe: The study's trainings.
        candidates: Random architectures.
        baseline: The user's own; None for none.
        is_first_trained: Whether variance trains the first candidate fully, so that it costs nothing here.
    """
    steps, shared = list_checks(recipe), int(is_first_trained)
    begun = settings.rounds[0][0]
    pool, works, reached = tuple(candidates[shared:begun]), [], 0
    for models, fraction in settings.rounds:
        until = _checks_until(steps, fraction * steps[-1])
        work = _trained(pool, None, models - shared, steps, reached, until)
        works.append(work if not reached else replace(work, trials=0))
        reached = until
    if baseline is not None:
        works.append(_whole((baseline,), None, steps, 1))
    failed = _whole(tuple(candidates[begun : settings.candidates]), None, steps, settings.candidates - begun)
    return StageWork(tuple(works), tuple(works), (*works, failed))


def plan_proxy_search(run: RaceWork, expected: ExpectedAcceptance) -> StageWork:
    """The models under each proxy task.

    At the least each task is accepted at its first check, and has shown its speed at the second. At most each goes
    to its end, on as many references as there may be. In between the race ends where it is expected to.
    """
    n, first = (
        len(run.models),
        {name: race.find_rated_step(speed.check_steps) for name, speed in run.task_speeds.items()},
    )
    low = [_until(run, name, first[name], n) for name in run.task_speeds]
    most = run.added_at_most
    high = [_until(run, name, run.last_step(name), n + len(most)) for name in run.task_speeds]
    reached = _reached(run, expected)
    middle = [
        _until(run, name, max(step, first[name]), n + (expected.added if name == expected.task else 0))
        for name, step in reached.items()
    ]
    added = run.candidate_pool[: expected.added]
    return StageWork(
        tuple(low),
        (*middle, _whole(added, None, run.full_steps, len(added))),
        (*high, _whole(most, None, run.full_steps, len(most))),
    )


def plan_confirmation(run: RaceWork, expected: ExpectedAcceptance, fresh: Models) -> StageWork:
    """The accepted task's models once more, on a schedule that ends where it was stopped.

    At the least nothing is accepted. At most each task is, at its last check but one, and contradicted but for one.

    Args:
        run: The proxy tasks.
        expected: When the proxy search ends.
        fresh: Architectures that are trained besides, fully and under the proxy task.
    """
    n = len(run.models)
    fully = _whole(fresh, None, run.full_steps, len(fresh))

    def again(name: str, step: int, models: int) -> Work:
        # What was accepted at its end is trained so already.
        steps = run.task_speeds[name].check_steps
        trials, checks = 0 if step == steps[-1] else models + len(fresh), _checks_until(steps, step)
        return Work(run.models, name, trials, trials, trials * step, trials * checks)

    most = n + len(run.added_at_most)
    latest = [again(name, speed.check_steps[-2:][0], most) for name, speed in run.task_speeds.items()]
    middle = () if expected.step is None else (again(expected.task, expected.step, n + expected.added), fully)
    return StageWork((), middle, (*latest, fully))


def _reached(run: RaceWork, expected: ExpectedAcceptance) -> dict[str, int]:
    """How far each task is trained when one is accepted: to the end of the rung, in lockstep of training time."""
    if expected.step is None:
        return {name: run.last_step(name) for name in run.task_speeds}
    if not run.settings.early_stop_if_not_best:
        share = expected.step / run.task_speeds[expected.task].check_steps[-1]
        return {name: _at_share(speed.check_steps, share) for name, speed in run.task_speeds.items()}
    seconds = run.task_speeds[expected.task].seconds_at(expected.step)
    start = max(speed.seconds_at(race.find_rated_step(speed.check_steps)) for speed in run.task_speeds.values())
    end = race.find_horizon(seconds, start, run.settings.rung_growth)
    if run.settings.policy != "race":
        end = seconds  # nobody runs ahead
    return {name: min(speed.last_check_within(end), run.last_step(name)) for name, speed in run.task_speeds.items()}


def _at_share(steps: tuple[int, ...], share: float) -> int:
    return steps[_checks_until(steps, share * steps[-1]) - 1]


def _until(run: RaceWork, name: str, step: int, models: int) -> Work:
    """So many models under a task, to a step, paused at the end of each rung on the way."""
    steps, growth = run.task_speeds[name].check_steps, run.settings.rung_growth
    further = math.log(step / race.find_rated_step(steps)) / math.log(growth)
    rungs = max(0, math.ceil(further - 1e-9))
    work = _trained(run.models, name, models, steps, 0, _checks_until(steps, step))
    return replace(work, starts=models * (1 + rungs))


def _whole(models: Models, task: str | None, steps: tuple[int, ...], trials: int) -> Work:
    return _trained(models, task, trials, steps, 0, len(steps))


def _trained(models: Models, task: str | None, trials: int, steps: tuple[int, ...], begin: int, end: int) -> Work:
    """Trials that go on from one of their checks to another, told by their places."""
    done = steps[begin - 1] if begin else 0
    return Work(models, task, trials, trials, trials * (steps[end - 1] - done), trials * (end - begin))


def _checks_until(steps: tuple[int, ...], wanted: float) -> int:
    """How many checks there are up to the first at or after a step."""
    return next(place for place, step in enumerate(steps, 1) if step >= wanted - 1e-9)
