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
    """Train one model under each schedule.

    Raises:
        StageStoppedError: The model trains under no schedule.
    """
    design = context.design
    stage = ScheduleComparisonStage(
        list_compared_tasks(design.settings(CompareSchedulesSettings)),
        recipe=design.recipe,
        architecture=design.comparison_architecture,
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
    """Refuse a comparison that its trainer does not support, or whose trainings have one check.

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
    for (schedule, smoothing), task in list_compared_tasks(settings).items():
        check_overrides_decide(f"{schedule} {smoothing}", task.overrides, recipe.excluded)


def list_kinds(design: Design) -> Sequence[TrialSpec]:
    """List the full training of one model under each schedule."""
    tasks = list_compared_tasks(design.settings(CompareSchedulesSettings)).values()
    model, recipe = design.comparison_architecture, design.recipe
    return [TrialSpec(model, task, Split.FULL, design.seed, recipe) for task in tasks]


def plan(forecast: Forecast) -> StageWork:
    """Plan one full training under each schedule."""
    design = forecast.design
    trainings = len(list_compared_tasks(design.settings(CompareSchedulesSettings)))
    return plan_schedules(design.recipe, design.comparison_architecture, trainings)


SCHEDULE_COMPARISON = StageDefinition(
    ScheduleComparisonStage.name,
    run,
    load,
    settings={"compare_schedules": CompareSchedulesSettings},
    check=check,
    list_kinds=list_kinds,
    plan=plan,
)
