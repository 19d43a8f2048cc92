"""Choose and time a sample: the smallest, the median and the largest model, and the median one under proxy tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median_low

from nasproxy.config.builder import StudyBuilder
from nasproxy.cost.speed import Speeds, Timed, Timing, interpolate_timing
from nasproxy.cost.timing import OpenBackend, TimingFailure, choose_cycle, time_trials
from nasproxy.errors import StageStoppedError
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.orders import measure_models
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.storage.zero_cost_scores import ZeroCost, ZeroCostScores
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Architecture, Split, TrialSpec, to_canonical_json

BUDGET_SHARE = 0.05
"""Steps of all timing trials, as a share of the steps of variance and selection."""
MAX_SETTINGS = 6
"""Maximum number of proxy tasks that are timed; others are interpolated by the model's size."""
SPARE_SEEDS = 1000
"""Offset from the study's seed for trials that only keep slots occupied."""

SCHEDULE = ("training.total_steps", "training.check_every_steps", "training.check_at")
"""Overrides that change the number of steps, not the cost of a step."""

Score = Callable[[Sequence[Architecture]], ZeroCostScores]
Result = Timing | TimingFailure


@dataclass(frozen=True)
class TimedSample:
    """Sample of a study's models to time before the study.

    Attributes:
        design: The configured study.
        backend: Backend that would run its trials.
        orders: Template of its work orders.
        scores: Zero-cost scores of the models.
    """

    design: StudyBuilder
    backend: Backend
    orders: OrderTemplate
    scores: ZeroCostScores

    def speeds(self, open_backend: OpenBackend) -> tuple[Speeds, tuple[str, ...]]:
        """Time the sample and interpolate the speeds of all models.

        Args:
            open_backend: Opens a backend for timing trials, on their own store.

        Returns:
            Speeds, and one line for each trial that could not be timed.

        Raises:
            StageStoppedError: No model could be timed.
        """
        models = [self._make_full_spec(architecture) for architecture in self.chosen]
        settings = [self._make_task_spec(setting) for setting in self.settings[:MAX_SETTINGS]]
        copies = -(len(models) + len(settings)) % self.backend.capabilities.slots
        spare = [replace(models[len(models) // 2], seed=self._seed + SPARE_SEEDS + copy) for copy in range(copies)]
        specs = [*models, *settings, *spare]
        cycle = self._choose_cycle(len(specs))
        results = time_trials(specs, open_backend, self.orders, cycle, self.design.retry_policy)
        end = len(models) + len(settings)
        model_results = [*results[: len(models)], *results[end:]]
        timed = self._collect_timed([*models, *spare], model_results)
        setting_results = dict(
            zip(map(_make_key, self.settings[:MAX_SETTINGS]), results[len(models) : end], strict=True)
        )
        factors = {name: self._compute_factor(task, timed, setting_results) for name, task in self.design.tasks.items()}
        sizes = {text: float(score.size) for text, score in self.scores.scores.items() if score is not None}
        failures = [result for result in results if isinstance(result, TimingFailure)]
        return Speeds(timed, factors, sizes), tuple(map(_describe_failure, failures))

    @cached_property
    def chosen(self) -> list[Architecture]:
        """The smallest, the median and the largest architecture; the first three if a size is unknown."""
        every = draw_architectures(self.design)
        sizes = {to_canonical_json(each): self._get_size(each) for each in every}
        if any(size is None for size in sizes.values()):
            return every[:3]
        known_sizes = [size for size in sizes.values() if size is not None]
        wanted = dict.fromkeys([min(known_sizes), median_low(known_sizes), max(known_sizes)])
        return [next(each for each in every if sizes[to_canonical_json(each)] == size) for size in wanted]

    @cached_property
    def settings(self) -> list[ProxyTask]:
        """Proxy tasks with different costs per step, without the data fraction, which does not change that cost."""
        steps = [_reduce_to_step_setting(task) for task in self.design.tasks.values()]
        return list({_make_key(setting): setting for setting in steps}.values())

    @cached_property
    def _sizes_under(self) -> Mapping[str, int | None]:
        """Sizes of the median model under the proxy tasks beyond `MAX_SETTINGS`, which are not timed."""
        settings = self.settings[MAX_SETTINGS:]
        scores: list[ZeroCost | None] = (
            measure_models(self.backend, self.orders, [self._make_task_spec(s) for s in settings]) if settings else []
        )
        return {_make_key(s): None if score is None else score.size for s, score in zip(settings, scores, strict=True)}

    def _compute_factor(
        self, task: ProxyTask, timed: Sequence[Timed], setting_results: Mapping[str, Result]
    ) -> tuple[float, float]:
        """Compute the median model's seconds per step and per check under a proxy task, relative to full training."""
        key, size = _make_key(_reduce_to_step_setting(task)), self._get_size(self._middle)
        whole = interpolate_timing(timed, size)
        result = setting_results.get(key)
        if not isinstance(result, Timing):
            reduced = self._sizes_under.get(key)
            result = whole if reduced is None or size is None else interpolate_timing(timed, reduced)
        return _compute_ratio(result.step_seconds, whole.step_seconds), _compute_ratio(
            result.check_seconds, whole.check_seconds
        )

    def _collect_timed(self, specs: Sequence[TrialSpec], results: Sequence[Result]) -> list[Timed]:
        timed = [
            Timed(self._get_size(spec.architecture), result)
            for spec, result in zip(specs, results, strict=True)
            if isinstance(result, Timing)
        ]
        if not timed:
            (failure, *_) = (result for result in results if isinstance(result, TimingFailure))
            raise StageStoppedError(
                f"an estimate needs a model that trains for a few steps, and {len(specs)} did not ({failure.reason}): "
                f"fix the trainer, the data or the search space"
            )
        return timed

    def _choose_cycle(self, trials: int) -> int:
        recipe, config = self.design.recipe, self.design.config
        trainings = self.design.selection.models + (config.variance.seeds if config.variance.enabled else 0)
        shortest = min(
            spec.total_steps for spec in [self._make_full_spec(self._middle), *map(self._make_task_spec, self.settings)]
        )
        return choose_cycle(shortest, trials=trials, budget_steps=BUDGET_SHARE * trainings * recipe.total_steps)

    def _get_size(self, architecture: Architecture) -> float | None:
        score = self.scores.of(architecture)
        return None if score is None else float(score.size)

    @property
    def _middle(self) -> Architecture:
        return self.chosen[len(self.chosen) // 2]

    @property
    def _seed(self) -> int:
        return self.design.config.seed

    def _make_full_spec(self, architecture: Architecture) -> TrialSpec:
        return TrialSpec(architecture, ProxyTask(), Split.FULL, self._seed, self.design.recipe)

    def _make_task_spec(self, task: ProxyTask) -> TrialSpec:
        return TrialSpec(self._middle, task, Split.SEARCH, self._seed + 1, self.design.recipe)


def draw_architectures(design: StudyBuilder) -> list[Architecture]:
    """List all architectures that the study may train."""
    baseline = [] if design.space.baseline is None else [design.space.baseline]
    every = [*design.candidates, *design.candidate_pool, *baseline]
    return list({to_canonical_json(architecture): architecture for architecture in every}.values())


def _reduce_to_step_setting(task: ProxyTask) -> ProxyTask:
    """Reduce a proxy task to the settings that decide the cost of a step."""
    others = {path: value for path, value in task.overrides.items() if path not in SCHEDULE}
    return replace(task, data_fraction=1.0, overrides=others)


def _make_key(task: ProxyTask) -> str:
    return to_canonical_json(vars(task))


def _compute_ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 1.0


def _describe_failure(failure: TimingFailure) -> str:
    spec = failure.spec
    choices = " ".join(f"{name}={value}" for name, value in spec.architecture.items())
    return f"not timed: {choices} under {spec.proxy_task.default_name} failed ({failure.reason})"
