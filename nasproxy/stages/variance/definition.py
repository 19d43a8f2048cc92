"""The variance stage as a part of jobs."""

from nasproxy.stages.definition import Forecast, StageContext, StageDefinition
from nasproxy.stages.references.state import read_selection
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.stages.variance.stage import VarianceStage, check_variance
from nasproxy.stages.variance.state import VarianceState, read_variance
from nasproxy.stages.variance.workload import plan_variance
from nasproxy.stages.workload import StageWork
from nasproxy.storage.study_stores import StudyStore


def run(context: StageContext) -> VarianceState | None:
    """Measure the variance over seeds.

    Returns:
        The measurement; None if none is wanted.

    Raises:
        StageStoppedError: No model trains, or training is too noisy to rank models.
    """
    design, study = context.design, context.study
    settings, selection = design.settings(VarianceSettings), read_selection(study)
    context.preflight()
    if not settings.enabled:
        context.say("seed noise is not measured (variance.enabled=false): the noise ceiling stays unknown")
        return None
    stage = VarianceStage(
        settings,
        recipe=design.recipe,
        candidates=design.variance_candidates,
        seed=design.seed,
        study=study,
        model_scores=[reference.score for reference in (selection and selection.references) or ()],
    )
    with context.hold(VarianceStage.name):
        state = context.run(stage)
    check_variance(state, settings)
    return state


def load(study: StudyStore) -> VarianceState | None:
    """Read the measured variance of a study; None before it is measured."""
    state = read_variance(study)
    return None if state is None or state.result is None else state


def plan(forecast: Forecast) -> StageWork | None:
    """Plan the trainings with all seeds; None if none are wanted."""
    design = forecast.design
    settings = design.settings(VarianceSettings)
    return plan_variance(settings, design.recipe, design.variance_candidates) if settings.enabled else None


VARIANCE = StageDefinition(
    VarianceStage.name, run, load, settings={"variance": VarianceSettings}, plan=plan, is_part_of_design=True
)
