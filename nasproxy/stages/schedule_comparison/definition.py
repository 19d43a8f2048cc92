"""The comparison of learning-rate schedules as a stage of jobs."""

from collections.abc import Sequence

from nasproxy.errors import ConfigError
from nasproxy.stages.definition import Design, Forecast, StageContext, StageDefinition
from nasproxy.stages.schedule_comparison.settings import CompareSchedulesSettings
from nasproxy.stages.schedule_comparison.stage import ScheduleComparisonStage, list_compared_tasks
from nasproxy.stages.schedule_comparison.state import ScheduleComparisonState, read_comparison
from nasproxy.stages.schedule_comparison.workload import plan_schedules
from nasproxy.stages.workload import StageWork, list_checks
from nasproxy.storage.study_stores import StudyStore
from nasproxy.trials.identity import check_overrides_decide
from nasproxy.trials.spec import Split, TrialSpec


def run(context: StageContext) -> ScheduleComparisonState:
    """Train the models under each schedule.

    Raises:
        StageStoppedError: No model trains under any schedule.
    """
    design = context.design
    settings = design.settings(CompareSchedulesSettings)
    stage = ScheduleComparisonStage(
        list_compared_tasks(settings),
        recipe=design.recipe,
        architectures=design.comparison_architectures[: settings.models],
        seed=design.seed,
        study=context.study,
    )
    context.preflight()
    with context.hold(ScheduleComparisonStage.name):
        return context.run(stage)


def load(study: StudyStore) -> ScheduleComparisonState | None:
    """Read the measured comparison of a study; None before it."""
    state = read_comparison(study)
    return None if state is None or not state.is_measured else state


def check(design: Design) -> None:
    """Refuse a comparison that its trainer does not support, with too many models, or whose trainings have one check.

    Raises:
        ConfigError: The comparison cannot be made.
    """
    settings, recipe = design.settings(CompareSchedulesSettings), design.recipe
    settings.check_trainer(recipe.trainer)
    if len(list_checks(recipe)) < 2:
        raise ConfigError(
            f"compare_schedules needs 2 checks of a training to compare curves by, got one in {recipe.total_steps} "
            f"steps: check more often"
        )
    if settings.models > (known := len(design.comparison_architectures)):
        raise ConfigError(
            f"compare_schedules.models must be at most {known}, the baseline and the candidates that this study draws "
            f"first, got {settings.models}: choose fewer"
        )
    for (schedule, smoothing), task in list_compared_tasks(settings).items():
        check_overrides_decide(f"{schedule} {smoothing}", task.overrides, recipe.excluded)


def list_kinds(design: Design) -> Sequence[TrialSpec]:
    """List the full training of one model under each schedule."""
    tasks = list_compared_tasks(design.settings(CompareSchedulesSettings)).values()
    model, recipe = design.comparison_architectures[0], design.recipe
    return [TrialSpec(model, task, Split.FULL, design.seed, recipe) for task in tasks]


def plan(forecast: Forecast) -> StageWork:
    """Plan one full training of each model under each schedule."""
    design = forecast.design
    settings = design.settings(CompareSchedulesSettings)
    architectures = tuple(design.comparison_architectures[: settings.models])
    return plan_schedules(design.recipe, architectures, len(list_compared_tasks(settings)))


SCHEDULE_COMPARISON = StageDefinition(
    ScheduleComparisonStage.name,
    run,
    load,
    settings={"compare_schedules": CompareSchedulesSettings},
    check=check,
    list_kinds=list_kinds,
    plan=plan,
)
