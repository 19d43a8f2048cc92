"""Variance measurement: train one model several times with different seeds.

This is the variance measurement of Vertex AI NAS: find a model that trains at all, train it five times on the user's
schedule, and judge how much its final scores vary and whether its curves rise steadily.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from nasproxy.errors import StageStoppedError
from nasproxy.stages.common_steps import probe_common_steps
from nasproxy.stages.runner import Decide, Records, Train
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.stages.variance.state import STATE, VarianceResult, VarianceState
from nasproxy.statistics.variance import judge_variance, seed_deviation
from nasproxy.storage.study_stores import StudyStore
from nasproxy.tracking.events import Progress
from nasproxy.trials.objective import describe_opposite_direction, has_opposite_direction
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import TrialPurpose
from nasproxy.trials.spec import Architecture, Recipe, Split, TrialSpec


class VarianceStage:
    """Measures how much a model's score varies between seeds."""

    name = "variance"

    def __init__(
        self,
        settings: VarianceSettings,
        *,
        recipe: Recipe,
        candidates: Sequence[Architecture],
        seed: int,
        study: StudyStore,
        model_scores: Sequence[float] = (),
    ) -> None:
        """Configure the stage.

        Args:
            settings: Settings of the measurement.
            recipe: The study's recipe.
            candidates: Architectures, of which the first trainable one is measured.
            seed: Seed of the first training; the others use the following integers.
            study: The study.
            model_scores: Full-training scores of the reference models that the study has so far.
        """
        settings.check()
        self._settings = settings
        steps = recipe.total_steps if settings.total_steps is None else settings.total_steps
        self._recipe = replace(recipe, total_steps=steps)
        self._candidates = tuple(candidates[: settings.max_tries])
        self._seed = seed
        self._study = study
        self._model_scores = tuple(model_scores) if steps == recipe.total_steps else ()

    def load(self) -> VarianceState:
        """Read the stored state, or make a fresh one."""
        return self._study.read(STATE, VarianceState) or VarianceState()

    def save(self, state: VarianceState) -> VarianceState:
        """Store the state."""
        self._study.write(STATE, state)
        return state

    def specs(self, state: VarianceState) -> list[TrialSpec]:
        """List one trial per candidate or, once a trainable one is found, its trials with all seeds."""
        if state.trainable is None:
            return [self._make_spec(candidate, 0) for candidate in self._candidates]
        return [
            self._make_spec(self._candidates[state.trainable], seed_offset)
            for seed_offset in range(self._settings.seeds)
        ]

    def purpose(self, spec: TrialSpec) -> TrialPurpose:
        """Return that the trial is one of this stage."""
        return TrialPurpose(self.name)

    def next_action(self, state: VarianceState, records: Records) -> Train | Decide[VarianceState] | None:
        """Find a trainable model, train it with all seeds, judge the results."""
        if state.result is not None:
            return None
        if state.trainable is None:
            return self._find_trainable_candidate(state, records)
        specs = self.specs(state)
        if all(records[spec.key].is_failed or records[spec.key].reached(spec.total_steps) for spec in specs):
            result = self._judge_seeds(specs, records)
            return Decide(replace(state, result=result), self._describe(result, records))
        probed = probe_common_steps({spec.key: records[spec.key] for spec in specs}, self._recipe.total_steps)
        return Train({spec.key: spec.total_steps for spec in specs}, awaited=probed or None)

    def progress(self, state: VarianceState, records: Records) -> Progress:
        """Summarise the steps of the trainings with all seeds."""
        seeds, total = self._settings.seeds, self._recipe.total_steps
        return Progress(
            stage=self.name,
            detail="searching for a trainable model" if state.trainable is None else f"{seeds} seeds of one model",
            trials_done=sum(record.reached(total) for record in records.values()),
            trials_total=seeds,
            steps_done=sum(record.step for record in records.values()),
            steps_total=seeds * total,
        )

    def _describe(self, result: VarianceResult, records: Records) -> str:
        curves = [[check.score for check in records[key].checks] for key in result.keys]
        objective = self._recipe.objective
        if has_opposite_direction(curves, objective):  # what the variance suggests is then misleading
            return f"variance: {describe_opposite_direction(len(curves), objective)}"
        return _describe_result(result)

    def _make_spec(self, architecture: Architecture, seed_offset: int) -> TrialSpec:
        return TrialSpec(architecture, ProxyTask(), Split.FULL, self._seed + seed_offset, self._recipe)

    def _find_trainable_candidate(self, state: VarianceState, records: Records) -> Train | Decide[VarianceState]:
        """Find the first trainable candidate; failed candidates are recognised by their trials, not by the state."""
        until = max(1, round(self._settings.trainable_fraction * self._recipe.total_steps))
        for number, spec in enumerate(self.specs(state)):
            record = records[spec.key]
            if record.reached(until):
                return Decide(replace(state, trainable=number, architecture=spec.architecture))
            if not record.is_failed:
                return Train({spec.key: until})
        raise StageStoppedError(
            f"variance needs a model that trains for {self._settings.trainable_fraction:.0%} of its steps, and "
            f"{len(self._candidates)} candidates failed ({_describe_failures(self.specs(state), records)}): fix the "
            f"trainer, the data or the search space, and run the command again"
        )

    def _judge_seeds(self, specs: Sequence[TrialSpec], records: Records) -> VarianceResult:
        ended = [spec.key for spec in specs if records[spec.key].reached(spec.total_steps)]
        if len(ended) < self._settings.min_seeds:
            raise StageStoppedError(
                f"variance needs {self._settings.min_seeds} seeds that train to the end, and {len(ended)} of "
                f"{len(specs)} did ({_describe_failures(specs, records)}): fix the trainer, and run the command again"
            )
        orient = self._recipe.objective.orient
        checks = [records[key].trained_checks for key in ended]
        curves = [([check.step for check in curve], [orient(check.score) for check in curve]) for curve in checks]
        final_scores = tuple(records[key].checks[-1].score for key in ended)
        verdict = judge_variance(
            curves,
            model_scores=self._model_scores,
            max_variation=self._settings.max_variation,
            max_noise_ratio=self._settings.max_noise_ratio,
            max_roughness=self._settings.max_roughness,
        )
        return VarianceResult(tuple(ended), final_scores, seed_deviation(final_scores), verdict)


def _describe_failures(specs: Sequence[TrialSpec], records: Records) -> str:
    """Describe why trials failed, and name the log of one of them."""
    ended = {spec.key: records[spec.key] for spec in specs if records[spec.key].is_failed}
    failed = {record.trained_as(key): record.status for key, record in ended.items()}
    messages = Counter(str(status.message).strip().split("\n", 1)[0] for status in failed.values())
    summary = "; ".join(f"{count} x {message}" for message, count in messages.most_common(3))
    return f"{summary}; see trials/{next(reversed(failed))}/worker.log" if failed else "none failed"


def _describe_result(result: VarianceResult) -> str:
    verdict = result.verdict
    variation = "undefined" if verdict.variation is None else f"{verdict.variation:.3f}"
    roughness = "undefined" if verdict.roughness is None else f"{verdict.roughness:.2f}"
    summary = " ".join(["low enough to rank models." if verdict.is_good else "", *verdict.advice]).strip()
    return (
        f"variance: coefficient of variation {variation}, roughness {roughness}, standard deviation over seeds "
        f"{result.deviation.sd:.4f}: {summary}"
    )


def check_variance(state: VarianceState, settings: VarianceSettings) -> None:
    """Stop the study if the variance is too high and `on_failure` is `stop`.

    Raises:
        StageStoppedError: Training is too noisy to rank models.
    """
    if state.result is not None and not state.result.verdict.is_good and settings.on_failure == "stop":
        raise StageStoppedError(
            "variance stopped the study: " + " ".join(state.result.verdict.advice) + " To continue nevertheless, "
            "use variance.on_failure=warn"
        )
