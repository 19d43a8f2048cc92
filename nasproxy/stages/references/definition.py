"""The selection and training of the reference models as a stage of jobs."""

from collections.abc import Sequence

from nasproxy.errors import StageStoppedError
from nasproxy.stages.definition import Forecast, StageContext, StageDefinition
from nasproxy.stages.references.baseline import find_baseline_comparison
from nasproxy.stages.references.count_decision import settle_references
from nasproxy.stages.references.settings import ReferencesSettings
from nasproxy.stages.references.state import Reference, SelectionState, read_selection
from nasproxy.stages.references.ties import describe_equal_scores, describe_ties, have_equal_scores
from nasproxy.stages.references.workload import plan_selection
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.stages.variance.state import read_variance
from nasproxy.stages.workload import StageWork
from nasproxy.storage.study_stores import StudyStore
from nasproxy.storage.trial_stores import read_intact

NAME = "references"


def run(context: StageContext) -> SelectionState:
    """Select the reference models and train them fully; the first ones decide how many, unless that is given.

    Raises:
        StageStoppedError: Too many candidates failed, or all reference models have the same score.
    """
    context.preflight()
    is_new = load(context.study) is None
    state = _select(context)
    refuse_equal_scores(context, state.references or ())
    if settle_references(context):
        state = _select(context)
    references = state.references or ()
    if (ties := describe_ties(references)) is not None:
        context.say(ties)
    if is_new:
        _note_baseline(context, state)
    context.score_untrained(references)
    return state


def _select(context: StageContext) -> SelectionState:
    design = context.design
    stage = design.selection.make_stage(
        recipe=design.recipe,
        candidates=design.candidates,
        baseline=design.baseline,
        seed=design.seed,
        study=context.study,
    )
    with context.hold(NAME):
        return context.run(stage)


def refuse_equal_scores(context: StageContext, references: Sequence[Reference]) -> None:
    """Stop if all reference models have the same score.

    Raises:
        StageStoppedError: They have.
    """
    if have_equal_scores(references):
        found = [read_intact(context.study.trials, reference.key) for reference in references]
        records = [record for record in found if record is not None]
        raise StageStoppedError(describe_equal_scores(references, records, context.design.recipe.objective))


def _note_baseline(context: StageContext, state: SelectionState) -> None:
    """Say what the reference models show of the search space, compared with the baseline model."""
    found = find_baseline_comparison(state, read_variance(context.study), context.design.recipe.objective)
    if found is not None:
        context.say(f"baseline: {found.message}")


def load(study: StudyStore) -> SelectionState | None:
    """Read the reference models of a study; None before all of them are trained."""
    state = read_selection(study)
    return None if state is None or state.references is None else state


def plan(forecast: Forecast) -> StageWork:
    """Plan the selection of the reference models and the training of the baseline."""
    design = forecast.design
    variance = design.settings(VarianceSettings)
    is_measured = "variance" in forecast.stages and variance.enabled
    is_of_first = is_measured and design.variance_candidates[0] == design.candidates[0]
    return plan_selection(
        design.selection,
        design.recipe,
        design.candidates,
        design.baseline,
        is_first_trained=is_of_first and variance.total_steps is None,
    )


REFERENCES = StageDefinition(
    NAME, run, load, settings={"references": ReferencesSettings}, plan=plan, is_part_of_design=True
)
