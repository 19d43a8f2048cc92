"""Changes after a contradicted confirmation: the winner is withdrawn and tasks that it stopped continue. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from nasproxy.stages.confirmation.state import ConfirmationState
from nasproxy.stages.proxy_search.state import StoppingState, TaskState


def find_next_change(
    tasks: Mapping[str, TaskState], own: Collection[str], confirmations: Sequence[ConfirmationState]
) -> TaskState | None:
    """Find the next task whose state a contradicted confirmation changes.

    Contradictions are stored in confirmations only, so a study that is resumed between two changes reaches the same
    result.

    Args:
        tasks: All proxy tasks of the study.
        own: Names of the tasks that this controller may change.
        confirmations: All confirmations of the study.

    Returns:
        The changed task; None if there is no change left.
    """
    for task in (tasks[name] for name in own):
        if task.is_accepted and any(confirmation.contradicts(task) for confirmation in confirmations):
            return replace(task, stopping_state=StoppingState.CONTRADICTED)
    for task in (tasks[name] for name in own):
        if task.stopping_state is StoppingState.EXCEEDED_BEST_TIME and _is_contradicted(tasks, task.beaten_by):
            return replace(task, stopping_state=None, final_step=None, final_train_seconds=None, beaten_by=None)
    return None


def _is_contradicted(tasks: Mapping[str, TaskState], name: str | None) -> bool:
    winner = None if name is None else tasks.get(name)
    return winner is not None and winner.stopping_state is StoppingState.CONTRADICTED


def apply_confirmations(
    tasks: Mapping[str, TaskState], confirmations: Sequence[ConfirmationState]
) -> dict[str, TaskState]:
    """Apply all changes after contradicted confirmations, for readers that do not store them."""
    result = dict(tasks)
    while (changed := find_next_change(result, result, confirmations)) is not None:
        result[changed.name] = changed
    return result
