"""Records of trials: steps, failures, and retries."""

from nasproxy.trials.records import Cause, Check, State, Status, TrialRecord, merge_records


def make_record(*steps: int, cause: Cause | None = None) -> TrialRecord:
    status = Status() if cause is None else Status(State.FAILED, cause=cause)
    return TrialRecord(status, tuple(Check(step, step / 100, float(step)) for step in steps))


def test_a_check_of_step_0_is_no_progress() -> None:
    record = make_record(0)
    assert (record.step, record.reached(1), record.trained_checks) == (0, False, ())
    first = Status().failed(Cause.CRASH, "no", step=record.step, max_attempts=2)
    assert first.state is State.PENDING
    assert first.failed(Cause.CRASH, "no", step=record.step, max_attempts=2).state is State.FAILED


def test_a_merged_curve_begins_with_step_0_once() -> None:
    merged = merge_records([make_record(0, 16, cause=Cause.OOM), make_record(0, 16, 32)])
    assert [check.step for check in merged.checks] == [0, 16, 32]
    assert merged.checks[0].train_seconds == 0.0


def test_a_trial_fails_after_its_last_check_whatever_steps_others_report() -> None:
    lost, diverged = make_record(16, 32, cause=Cause.CRASH), make_record(16, 32, cause=Cause.NAN)
    assert [lost.is_missing_at(step) for step in (20, 32, 40)] == [False, False, True]
    assert [diverged.has_failed_by(step) for step in (20, 32, 40)] == [False, False, True]
