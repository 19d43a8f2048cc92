"""The confirmation of the winner as a stage of jobs."""

from nasproxy.errors import ConfigError, StageStoppedError
from nasproxy.stages.confirmation.settings import ConfirmSettings
from nasproxy.stages.confirmation.stage import ConfirmationStage
from nasproxy.stages.confirmation.state import ConfirmationOutcome, ConfirmationState, read_confirmations
from nasproxy.stages.confirmation.void import VoidReason
from nasproxy.stages.confirmation.workload import plan_confirmation
from nasproxy.stages.definition import Design, Forecast, StageContext, StageDefinition
from nasproxy.stages.proxy_search import definition as proxy_search
from nasproxy.stages.proxy_search.rules import read_time_tolerance
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.state import TaskState, find_best_task, read_rules, read_tasks
from nasproxy.stages.references.state import read_references
from nasproxy.stages.workload import StageWork
from nasproxy.storage.study_stores import StudyStore


def run(context: StageContext) -> ConfirmationState | None:
    """Confirm the winner; while it is contradicted, search again and confirm the next winner.

    Returns:
        The last confirmation; None if no task is accepted, if the job lacks the accepted one, or if none is
            wanted.

    Raises:
        StageStoppedError: A stage cannot reach a result.
    """
    if not context.design.settings(ConfirmSettings).enabled:
        return None
    while (winner := _confirm_winner(context)) is not None and winner[1].contradicts(winner[0]):
        proxy_search.search(context)
    return None if winner is None else winner[1]


def load(study: StudyStore) -> ConfirmationState | None:
    """Read the confirmation of the study's winner; None if there is no winner, or no outcome yet."""
    judged_by = read_rules(study).judged_by
    best = find_best_task(read_tasks(study), judged_by, time_tolerance=read_time_tolerance(judged_by))
    states = [state for state in read_confirmations(study) if state.outcome is not None]
    return next((state for state in states if best is not None and state.is_of(best)), None)


def check(design: Design) -> None:
    """Refuse more fresh models than the search space has.

    Raises:
        ConfigError: There are too few architectures.
    """
    settings = design.settings(ConfirmSettings)
    if settings.enabled and len(design.fresh) < settings.fresh_models:
        raise ConfigError(
            f"confirm.fresh_models needs {settings.fresh_models} architectures that no other stage trains, got "
            f"{len(design.fresh)} in this search space: lower confirm.fresh_models or references.max"
        )


def plan(forecast: Forecast) -> StageWork | None:
    """Plan the confirmation runs of the task that is expected to be accepted."""
    settings = forecast.design.settings(ConfirmSettings)
    if not settings.enabled:
        return None
    return plan_confirmation(forecast.race, forecast.expected, tuple(forecast.design.fresh[: settings.fresh_models]))


def verify(state: ConfirmationState | None) -> None:
    """Check that a confirmation is not void; a table that lacks its runs is no failure of the job.

    Raises:
        StageStoppedError: It is void.
    """
    if state is None or state.void is None or state.void.reason is VoidReason.NOT_IN_TABLE:
        return
    if state.outcome is ConfirmationOutcome.VOID:
        raise StageStoppedError(
            f"the confirmation of {state.task} needs runs that test its verdict, and is void: "
            f"{state.void.description}. {state.void.advice}"
        )


def _confirm_winner(context: StageContext) -> tuple[TaskState, ConfirmationState] | None:
    """Confirm the study's best proxy task; None if there is none, or the job lacks it."""
    design, study = context.design, context.study
    tolerance = design.settings(ProxySearchSettings).time_tolerance
    with context.hold(ConfirmationStage.name):
        best = find_best_task(read_tasks(study), design.judged_by, time_tolerance=tolerance)
        if best is None:
            return None
        if best.name not in design.tasks:
            context.say(f"{best.name} is not confirmed, as this job has other proxy tasks: add it to proxy=")
            return None
        stage = ConfirmationStage(
            design.settings(ConfirmSettings),
            task=best,
            references=read_references(study),
            fresh=design.fresh,
            judge=proxy_search.make_judge(design),
            recipe=design.recipe,
            full_seed=design.seed,
            proxy_seed=design.seed + proxy_search.PROXY_SEED_OFFSET,
            study=study,
            table=design.replayed,
        )
        return best, context.run(stage, stop_at_setup_failure=False)


CONFIRMATION = StageDefinition(
    ConfirmationStage.name,
    run,
    load,
    requires=("references", "proxy_search"),
    settings={"confirm": ConfirmSettings},
    check=check,
    plan=plan,
    verify=verify,
    is_part_of_design=True,
)
