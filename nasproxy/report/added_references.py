"""Reference models added after inconclusive looks: when, at what cost, and the cost of waiting instead."""

from collections.abc import Iterator
from dataclasses import dataclass

from nasproxy.report import wording
from nasproxy.stages.proxy_search.state import TaskCheck, TaskState
from nasproxy.stages.references.state import Reference
from nasproxy.stages.study_results import StudyResults


@dataclass(frozen=True)
class Addition:
    """Reference models added for one proxy task at one check.

    Attributes:
        task: Name of the proxy task.
        check: The check that was judged again with them.
        is_last: Whether it was the last check.
        before: Number of reference models before.
        models: The added models.
        trained: The added models that no other proxy task had trained before.
        waiting_seconds: Cost to the search of a later verdict, by the rule that adds models.
    """

    task: str
    check: TaskCheck
    is_last: bool
    before: int
    models: tuple[Reference, ...]
    trained: tuple[Reference, ...]
    waiting_seconds: float

    @property
    def full_seconds(self) -> float:
        """Training time of the full trainings, in seconds."""
        return sum(model.train_seconds for model in self.trained)

    @property
    def proxy_seconds(self) -> float:
        """Rated training time of their proxy trainings up to the check, in seconds."""
        return len(self.models) * self.check.rated_seconds

    def sentence(self, search_trials: int) -> str:
        """Describe the addition: step, number, cost, and the cost of waiting instead."""
        shared = len(self.models) - len(self.trained)
        already = f" ({shared} of them trained before for another proxy task)" if shared else ""
        full = (
            f"{wording.format_count(len(self.trained), 'full training')} ({wording.format_duration(self.full_seconds)})"
        )
        proxy = f"{wording.format_duration(self.proxy_seconds)} of proxy training"
        cost = f"{full} and {proxy}" if self.trained else proxy
        waiting = (
            "no later check remained to wait for"
            if self.is_last
            else f"waiting instead until training has taken about twice as long would cost the search of "
            f"{search_trials:,} models {wording.format_duration(self.waiting_seconds)}"
        )
        return (
            f"{self.task}, step {self.check.step:,}: inconclusive on {wording.format_count(self.before, 'model')}, "
            f"{wording.format_count(len(self.models), 'random model')} added{already}. Cost: {cost}; {waiting}."
        )


def list_additions(results: StudyResults) -> list[Addition]:
    """List all additions in the order of the race: models count as trained for the first task that added them."""
    every = [event for task in results.tasks.values() for event in _list_growths_with_models(results, task)]
    every.sort(key=lambda event: event[1].rated_seconds)
    trained: set[str] = set()
    result = []
    for task, check, before, models in every:
        new = tuple(model for model in models if model.key not in trained)
        trained.update(model.key for model in new)
        is_last = check.step == task.total_steps
        waiting = results.decided_trials * check.rated_seconds
        result.append(Addition(task.name, check, is_last, before, models, new, waiting))
    return result


def list_growths(task: TaskState) -> Iterator[tuple[TaskCheck, int, int]]:
    """Yield each check at which reference models were added, with their number before and after."""
    before = len(task.keys) - len(task.added)
    for check in task.checks:
        if check.models > before:
            yield check, before, check.models
            before = check.models


def _list_growths_with_models(
    results: StudyResults, task: TaskState
) -> Iterator[tuple[TaskState, TaskCheck, int, tuple[Reference, ...]]]:
    selected = len(task.keys) - len(task.added)
    for check, before, after in list_growths(task):
        yield task, check, before, task.added[before - selected : after - selected]
