"""The verdict of a study that accepted no proxy task: no task is good, or there are too few models to tell."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from nasproxy.report import confirmation_section, headline_words, wording
from nasproxy.report.milder_tasks import advise_milder_tasks
from nasproxy.report.task_outcomes import TaskOutcome, get_outcome
from nasproxy.stages.proxy_search.state import StoppingState, TaskState
from nasproxy.stages.references.ties import describe_ties
from nasproxy.stages.study_results import StudyResults, find_decisive_check, read_target
from nasproxy.statistics.acceptance import MOST_MODELS
from nasproxy.statistics.rank_correlation import RankCorrelation
from nasproxy.statistics.rejection import count_models_to_reject, limit_true_tau

HEADLINE = "No proxy task was accepted"


@dataclass(frozen=True)
class TaskLimit:
    """A proxy task that was not accepted, and what its last check tells about its true tau.

    Attributes:
        task: The proxy task.
        found: Rank correlation at its last check.
        target: Tau of a good proxy task.
        limit: Upper limit of the true tau that holds for all tasks at once; None with fewer than 5 models.
        models_needed: Models to add until this tau would be accepted or rejected; None if no practical number.
    """

    task: TaskState
    found: RankCorrelation
    target: float
    limit: float | None
    models_needed: int | None

    @property
    def is_below_target(self) -> bool:
        """Whether the true tau lies below the target."""
        return self.limit is not None and self.limit < self.target


@dataclass(frozen=True)
class NoneAccepted:
    """What a study without an accepted proxy task has shown.

    Attributes:
        results: The results of the study.
    """

    results: StudyResults

    @cached_property
    def limits(self) -> tuple[TaskLimit, ...]:
        """Limits of the tasks of use whose last check has a tau, the highest tau first."""
        every = self.results.tasks.values()
        tasks = [task for task in every if get_outcome(self.results, task) is not TaskOutcome.USELESS]
        limits = [limit for task in tasks if (limit := _limit_task(task, len(every))) is not None]
        return tuple(sorted(limits, key=lambda limit: -limit.found.tau))

    @property
    def undecided(self) -> tuple[TaskLimit, ...]:
        """Tasks whose true tau may reach the target, the highest tau first."""
        return tuple(limit for limit in self.limits if not limit.is_below_target)

    @property
    def has_equal_references(self) -> bool:
        """Whether all reference models have the same score, so that none can be ranked."""
        scores = {reference.score for reference in self.results.references}
        return len(self.results.references) > 1 and len(scores) == 1

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        if self.has_equal_references:
            return f"{HEADLINE}: the reference models cannot be ranked"
        if not self.limits or self.is_contradicted:
            return HEADLINE
        return f"{HEADLINE}: {'too few models to tell' if self.undecided else 'none is good enough'}"

    @property
    def is_contradicted(self) -> bool:
        """Whether a confirmation contradicted an accepted task."""
        return any(task.stopping_state is StoppingState.CONTRADICTED for task in self.results.tasks.values())

    @property
    def sentence(self) -> str:
        """The numbers of the verdict."""
        contradicted = list(confirmation_section.list_contradictions(self.results))
        what = "none accepted" + (" and confirmed" if contradicted else "")
        parts = [f"{wording.format_count(len(self.results.tasks), 'proxy task')} judged, {what}.", *contradicted]
        if self.limits and not contradicted:
            parts += [self._describe_highest(), self._describe_limits()]
        return " ".join(parts)

    def list_advice(self) -> Iterator[str]:
        """List what to do next; each advice is accepted by the study's configuration when followed."""
        yield from _list_causes(self.results)
        if self.has_equal_references:
            yield (
                "All reference models have the same full-training score: validate on more images, train longer, or "
                "use a search space or metric in which models differ."
            )
            return
        if self.undecided and not self.is_contradicted:
            yield self._advise_more_models(self.undecided[0])
        if any(get_outcome(self.results, task) is not TaskOutcome.USELESS for task in self.results.tasks.values()):
            yield advise_milder_tasks(self.results)
        ties = describe_ties(self.results.references)
        if ties is not None:
            yield f"{ties}."
        yield from _list_noise(self.results)
        yield "Do not lower the target to fit these results; the valid alternative is a search with full training."

    def _describe_highest(self) -> str:
        tasks = self.results.tasks.values()
        known = [(check.correlation, task, check) for task in tasks for check in task.checks if check.correlation]
        found, task, check = max(known, key=lambda each: each[0].tau)
        where = wording.format_count(check.step, "step")
        return f"Highest tau: {task.name} after {where}, {wording.write_tau(found)}, {headline_words.OPTIMISTIC}."

    def _describe_limits(self) -> str:
        limits = self.undecided or self.limits
        highest = max(limits, key=lambda each: -1.0 if each.limit is None else each.limit)
        limit = "1" if highest.limit is None else wording.format_tau(highest.limit)
        bound = f"(95 % upper bound over all proxy tasks: {limit}, {highest.task.name})"
        target = wording.format_number(highest.target)
        if not self.undecided:
            return f"At their last checks, the true tau of each lies below the target of {target} {bound}."
        models = wording.format_count(highest.found.n, "model")
        return f"On {models} a true tau at the target of {target} cannot be excluded {bound}."

    def _advise_more_models(self, limit: TaskLimit) -> str:
        name, tau, results = limit.task.name, wording.format_tau(limit.found.tau), self.results
        more = limit.models_needed
        origin, wanted = results.origin, limit.found.n + (more or 0)
        if more is None:
            return (
                f"{name}'s tau of {tau} lies so near the target that {MOST_MODELS} reference models would not decide."
            )
        if origin is not None and origin.architectures is not None and wanted > origin.architectures:
            return f"{name} would need {wanted} reference models, and the search space has {origin.architectures}."
        how = f"repeat the command with references.initial={wanted}"
        if results.is_spread:
            how = f"begin another study with selection=random references.initial={wanted} study=NAME"
        return (
            f"{wording.format_count(more, 'more reference model')} would probably decide on {name}, at its tau of "
            f"{tau}: {how} (about {wording.format_duration(self._price(more))} of device time)."
        )

    def _price(self, models: int) -> float:
        """Estimate the device seconds of more reference models, trained fully and under each undecided task."""
        full = median(reference.train_seconds for reference in self.results.references)
        return models * (full + sum(limit.task.final_train_seconds or 0.0 for limit in self.undecided))


def _limit_task(task: TaskState, tasks: int) -> TaskLimit | None:
    """Compute what a task's last check tells; None without a tau, or under a criterion without a target."""
    check, target = find_decisive_check(task), read_target(task)
    if check is None or check.correlation is None or target is None:
        return None
    found, verdict = check.correlation, task.verdict
    to_reject = count_models_to_reject(found.tau, found.n, target=target, tasks=tasks)
    more = verdict.models_needed if to_reject is None and verdict is not None else to_reject
    return TaskLimit(task, found, target, limit_true_tau(found.tau, found.n, tasks), more)


def _list_causes(results: StudyResults) -> Iterator[str]:
    states = {task.stopping_state for task in results.tasks.values()}
    if StoppingState.EXCESS_FAILURES in states:
        yield "Some proxy tasks have too many failed trials to be judged: fix the causes listed under Failures."
    if StoppingState.EXCEEDED_TIME_LIMIT in states:
        yield "Some proxy tasks were stopped by proxy_search.train_seconds_limit: raise it to train them to the end."
    if StoppingState.CONTRADICTED in states:
        yield (
            "The shortened schedule ranks models differently from the start of the full schedule: raise "
            "criterion.target, so that tasks stop later, or search on the full schedule and stop each training early."
        )
    useless = [task.name for task in results.tasks.values() if get_outcome(results, task) is TaskOutcome.USELESS]
    if useless:
        yield (
            f"No cheaper than full training, so of no use: {', '.join(useless)}. Try proxy tasks whose steps are "
            f"cheaper, with a smaller width or smaller images, or train models fully."
        )


def _list_noise(results: StudyResults) -> Iterator[str]:
    ceiling = results.ceiling
    targets = [wanted for task in results.tasks.values() if (wanted := read_target(task)) is not None]
    if ceiling is not None and targets and max(targets) > ceiling.low:
        yield (
            f"Seed noise may be too large for the target: the noise ceiling is {wording.format_tau(ceiling.tau)} "
            f"(95 % confidence interval {wording.format_interval(ceiling.low, ceiling.high)}). Train longer, average "
            f"the weights, or validate on more images."
        )
