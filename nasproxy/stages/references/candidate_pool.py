"""Candidates that become further reference models for an inconclusive verdict, if that pays. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.references.selection import make_reference
from nasproxy.stages.references.state import Reference
from nasproxy.statistics.acceptance import Verdict, count_models_to_add
from nasproxy.trials.records import TrialRecord
from nasproxy.trials.spec import TrialSpec


@dataclass(frozen=True)
class CandidatePool:
    """Candidates beyond the selected references, and when to add them as references.

    Attributes:
        candidates: Full trainings of the candidates, in the order in which they are added.
        first_number: Number of the first candidate.
        step: References that are added at a time.
        maximum: Maximum number of references that a proxy task is judged on.
        search_trials: Models that the search will train with the accepted proxy task.
        full_seconds: Median time of a full training of a reference, in seconds, of all its devices together.
    """

    candidates: Sequence[TrialSpec]
    first_number: int
    step: int
    maximum: int
    search_trials: int
    full_seconds: float

    def sizes(self, selected: int) -> tuple[int, ...]:
        """List the numbers of references that a task can be judged on, given the number of selected ones."""
        largest = min(self.maximum, selected + len(self.candidates))
        return (*range(selected, largest, self.step), max(selected, largest))

    def requested_specs(self, task: TaskState) -> Sequence[TrialSpec]:
        """Return the full trainings of the candidates that the task waits for."""
        return self.candidates[task.completed : task.requested]

    def count_requested(
        self, task: TaskState, verdict: Verdict, models: int, trained: int, *, is_last_look: bool
    ) -> int:
        """Decide how many candidates a task requests in total as further references, after a look.

        The alternative is a later check, with which every model of the search trains longer, by about the same time
        again: references are added while they cost less than that. After the last look there is no later check.

        Args:
            task: The task, with the check of this look.
            verdict: The criterion's verdict at this look.
            models: References that the task was judged on.
            trained: Candidates that are trained fully already, for any task.
            is_last_look: Whether this was the last look.

        Returns:
            The total number of candidates requested by the task; at least `task.requested`.
        """
        wanted = count_models_to_add(verdict, models, step=self.step, maximum=self.maximum)
        requested = min(task.requested + wanted, len(self.candidates))
        seconds = task.checks[-1].rated_seconds
        extra_seconds = (
            max(0, requested - max(trained, task.requested)) * self.full_seconds
            + (requested - task.requested) * seconds
        )
        is_worth_it = is_last_look or extra_seconds <= self.search_trials * seconds
        return requested if is_worth_it else task.requested

    def trainable(self, task: TaskState, records: Mapping[str, TrialRecord]) -> tuple[Reference, ...] | None:
        """Return the requested candidates that trained fully, as references; None while one of them still trains."""
        specs = self.requested_specs(task)
        if not all(records[spec.key].is_failed or records[spec.key].reached(spec.total_steps) for spec in specs):
            return None
        return tuple(
            make_reference(self.first_number + task.completed + index, spec, records)
            for index, spec in enumerate(specs)
            if records[spec.key].reached(spec.total_steps)
        )
