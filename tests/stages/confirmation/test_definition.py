"""The confirmation as a stage of jobs."""

from nasproxy.stages.confirmation.definition import load
from nasproxy.stages.confirmation.state import STATES, ConfirmationOutcome, ConfirmationState
from nasproxy.stages.proxy_search.state import PREFIX, Rules, StoppingState, TaskCheck, TaskState
from nasproxy.storage.object_study_store import ObjectStudyStore
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import to_canonical_json

JUDGED_BY = to_canonical_json({"time_tolerance": 0.05})


def accept(name: str, number: int, seconds: float) -> TaskState:
    look = TaskCheck(40, 10, None, None, None, 0.5, seconds, seconds)
    accepted = StoppingState.MET_CORRELATION
    keys = (f"{name}-trial",)
    return TaskState(
        name, number, ProxyTask(), JUDGED_BY, keys, 100, checks=(look,), stopping_state=accepted, final_step=40
    )


def write_confirmation(study: ObjectStudyStore, task: TaskState) -> ConfirmationState:
    outcome = ConfirmationOutcome.STANDS
    state = ConfirmationState(task.name, 40, task.judged_by, task.keys, task.keys, is_begun=True, outcome=outcome)
    study.write(f"{STATES}/{task.name}", state)
    return state


def write_tasks(study: ObjectStudyStore, *tasks: TaskState) -> None:
    study.write(f"{PREFIX}/rules", Rules(JUDGED_BY))
    for task in tasks:
        study.write(f"{PREFIX}/tasks/{task.name}", task)


def test_the_confirmation_of_a_winner_within_the_time_tolerance_is_loaded() -> None:
    study = ObjectStudyStore("nearly-tied")
    first, nearly_as_cheap = accept("first", 0, 100.0), accept("nearly_as_cheap", 1, 97.0)
    write_tasks(study, first, nearly_as_cheap)
    assert load(study) is None, "no task is confirmed"
    confirmed = write_confirmation(study, first)
    assert load(study) == confirmed


def test_the_confirmation_of_a_task_that_has_been_replaced_is_not_loaded() -> None:
    study = ObjectStudyStore("replaced")
    first, cheaper = accept("first", 0, 100.0), accept("cheaper", 1, 90.0)
    write_tasks(study, first, cheaper)
    write_confirmation(study, first)
    assert load(study) is None
