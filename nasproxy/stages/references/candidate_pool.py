"""Candidates that an undecided proxy task may call up as further reference models, and whether that pays. Pure."""

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
    """Candidates beyond the selected references, and what more references are worth.

    Attributes:
        candidates: Their full trainings, in the order they are called up in.
        first_number: The first one's number.
        step: References that are added at a time.
        maximum: References that a task may be judged on.
        search_trials: Models that the search will train with the accepted proxy task.
        full_seconds: Full training of a reference, median.
    """

    candidates: Sequence[TrialSpec]
    first_number: int
    step: int
    maximum: int
    search_trials: int
    full_seconds: float

    def sizes(self, selected: int) -> tuple[int, ...]:
        """Sizes that the set may have, if so many references were selected."""
        most = min(self.maximum, selected + len(self.candidates))
        return (*range(selected, most, self.step), max(selected, most))

    def requested_specs(self, task: TaskState) -> Sequence[TrialSpec]:
        """Full trainings that the task waits for."""
        return self.candidates[task.completed : task.requested]

    def count_requested(
        self, task: TaskState, verdict: Verdict, models: int, trained: int, *, is_last_look: bool
    ) -> int:
        """How many of the reserve a task shall have called up in all after a look.

        Waiting for a later check instead lets every model of the search train longer, by about as long again: so
        references are added while they cost less than that. At the last look there is no later check to wait for.

        Args:
            task: The task, with its last check.
            verdict: What the criterion said there.
            models: References that it was judged on.
            trained: Candidates of the reserve that are trained fully already, for whichever task.
            is_last_look: Whether this was the last check.
        """
        wanted = count_models_to_add(verdict, models, step=self.step, maximum=self.maximum)
        requested = min(task.requested + wanted, len(self.candidates))
        seconds = task.checks[-1].rated_seconds
        price = (
            max(0, requested - max(trained, task.requested)) * self.full_seconds
            + (requested - task.requested) * seconds
        )
        is_worth_it = is_last_look or price <= self.search_trials * seconds
        return requested if is_worth_it else task.requested

    def trainable(self, task: TaskState, records: Mapping[str, TrialRecord]) -> tuple[Reference, ...] | None:
        """The references that those called up have become; None while one of them still trains."""
        called = self.requested_specs(task)
        if not all(records[spec.key].is_failed or records[spec.key].reached(spec.total_steps) for spec in called):
            return None
        return tuple(
            make_reference(self.first_number + task.completed + place, spec, records)
            for place, spec in enumerate(called)
            if records[spec.key].reached(spec.total_steps)
        )
