"""Judge proxy tasks: measures of a task at a step, and the criterion's verdict. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from nasproxy.stages.proxy_search.race import TaskSpeed
from nasproxy.stages.proxy_search.state import TaskCheck
from nasproxy.stages.references.state import Reference
from nasproxy.statistics.acceptance import Criterion, Evidence, LookPlan, Verdict
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import kendall_tau, rank_failed_last
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import TrialRecord


@dataclass(frozen=True)
class JudgedModels:
    """The models that a proxy task is judged on.

    Attributes:
        references: The reference models.
        records: Records of their proxy trainings, in the same order.
        objective: The study's metric and its direction.
    """

    references: tuple[Reference, ...]
    records: tuple[TrialRecord, ...]
    objective: Objective = field(default_factory=Objective)

    def present_at(self, step: int) -> tuple[TrialRecord, ...]:
        """Return the records of models that did not crash and were not lost before a step."""
        return tuple(record for record in self.records if not record.is_missing_at(step))

    def scores_at(self, step: int) -> Floats:
        """Return proxy scores at a step, shape (n_models,), higher is better.

        Models that ran out of memory or diverged rank below all others; crashed or lost models are NaN.
        """
        checks = [record.check_at(step) for record in self.records]
        failed = [record.has_failed_by(step) for record in self.records]
        scores = np.array([math.nan if check is None else check.score for check in checks])
        return rank_failed_last(self.objective.orient(scores), failed)

    def scores_over(self, steps: Sequence[int]) -> Floats:
        """Return proxy scores at several steps, shape (n_steps, n_models), each row as from `scores_at`."""
        checks = [[record.check_at(step) for step in steps] for record in self.records]
        scores = np.array([[math.nan if check is None else check.score for check in row] for row in checks]).T
        table = self.objective.orient(scores)
        for place in np.flatnonzero(np.isnan(table).any(axis=1)).tolist():
            table[place] = self.scores_at(steps[place])
        return table

    @property
    def reference_scores(self) -> Floats:
        """Full-training scores, shape (n_models,), higher is better."""
        return self.objective.orient(np.array([reference.score for reference in self.references]))


@dataclass(frozen=True)
class Judge:
    """Judges proxy tasks by a criterion.

    Attributes:
        criterion: Acceptance criterion.
        min_models: Minimum number of models with a score.
        min_valid_ratio: Minimum share of the models with a score, in [0, 1].
    """

    criterion: Criterion
    min_models: int
    min_valid_ratio: float

    def has_enough(self, models: JudgedModels, step: int) -> bool:
        """Return whether enough models are left at a step, and not all of them failed."""
        present = models.present_at(step)
        return len(present) >= self.needed(models) and not all(record.has_failed_by(step) for record in present)

    def needed(self, models: JudgedModels) -> int:
        """Return how many models must not have crashed or been lost."""
        return max(self.min_models, math.ceil(self.min_valid_ratio * len(models.records)))

    def collect(self, models: JudgedModels, steps: Sequence[int], plan: LookPlan, *, total_steps: int) -> Evidence:
        """Collect the scores of all looks so far; arguments as for `look`."""
        fractions = np.array(steps) / total_steps
        return Evidence(models.reference_scores, models.scores_over(steps), fractions, plan)

    def look(
        self, models: JudgedModels, steps: Sequence[int], speed: TaskSpeed, plan: LookPlan, *, total_steps: int
    ) -> tuple[TaskCheck, Verdict]:
        """Take one look at a task, at the last of `steps`, which all of its models have reported.

        Args:
            models: Models of the task.
            steps: Steps of all looks so far, including this one; at earlier ones, added models may lack a score.
            speed: Training speed of the task.
            plan: Number of proxy tasks and sizes of the reference set, for the criterion.
            total_steps: Steps of the whole training.

        Returns:
            Measures at the last step, and the verdict.
        """
        step = steps[-1]
        evidence = self.collect(models, steps, plan, total_steps=total_steps)
        verdict = self.criterion.judge(evidence)
        at_step = [check for record in models.records if (check := record.check_at(step)) is not None]
        shown = TaskCheck(
            step=step,
            models=len(models.records),
            correlation=kendall_tau(evidence.proxy[-1], evidence.reference, min_pairs=self.min_models),
            needed=verdict.needed,
            lower_limit=verdict.lower_limit,
            median_score=median(check.score for check in at_step),
            median_train_seconds=speed.devices * median(check.train_seconds for check in at_step),
            rated_seconds=speed.seconds_at(step),
        )
        return shown, verdict
