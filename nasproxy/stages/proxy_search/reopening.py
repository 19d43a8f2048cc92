"""What a contradicted winner changes in the proxy search: it is none, and whom it stopped goes on. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from nasproxy.stages.confirmation.state import ConfirmationState
from nasproxy.stages.proxy_search.state import StoppingState, TaskState


def find_next_change(
    tasks: Mapping[str, TaskState], own: Collection[str], confirmations: Sequence[ConfirmationState]
) -> TaskState | None:
    """The next task of a controller's own that is no longer what it was, as it is now; None once all are.

    Confirmations are the one record of a contradiction, so a study that is resumed between any two changes comes to
    the same end.

    Args:
        tasks: All proxy tasks of the study.
        own: Names of those that may be changed.
        confirmations: What became of winners.
    """
    for task in (tasks[name] for name in own):
        if task.is_accepted and any(confirmation.contradicts(task) for confirmation in confirmations):
            return replace(task, stopping_state=StoppingState.CONTRADICTED)
    for task in (tasks[name] for name in own):
        if task.stopping_state is StoppingState.EXCEEDED_BEST_TIME and _is_contradicted(tasks, task.beaten_by):
            return replace(task, stopping_state=None, final_step=None, final_train_seconds=None, beaten_by=None)
    return None


def _is_contradicted(tasks: Mapping[str, TaskState], name: str | None) -> bool:
    beater = None if name is None else tasks.get(name)
    return beater is not None and beater.stopping_state is StoppingState.CONTRADICTED


def apply_confirmations(
    tasks: Mapping[str, TaskState], confirmations: Sequence[ConfirmationState]
) -> dict[str, TaskState]:
    """All tasks as they are once every change has been made, for a reader that makes none."""
    result = dict(tasks)
    while (changed := find_next_change(result, result, confirmations)) is not None:
        result[changed.name] = changed
    return result
