"""Speeds, order of checks and rungs of the race."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.stages.proxy_search import race
from nasproxy.trials.records import Cause, Check, State, Status, TrialRecord, merge_records

STEPS = (10, 20, 30, 40)


def make_record(*seconds: float, failed: bool = False) -> TrialRecord:
    """Make the record of a trial with checks every ten steps at these training times."""
    status = Status(State.FAILED, cause=Cause.NAN) if failed else Status()
    return TrialRecord(status, tuple(Check(10 * (i + 1), 0.5, second) for i, second in enumerate(seconds)))


def test_speed_is_measured_between_the_first_two_checks() -> None:
    speed = race.measure_speed(STEPS, [make_record(5.0, 6.0, 9.0)])
    assert speed is not None
    assert speed.seconds_per_step == pytest.approx(0.1)
    assert speed.seconds_at(40) == pytest.approx(4.0)


def test_rated_time_counts_all_devices_of_a_training() -> None:
    alone, both = (race.measure_speed(STEPS, [make_record(1.0, 2.0)], devices) for devices in (1, 2))
    assert alone is not None
    assert both is not None
    assert both.seconds_at(40) == 2 * alone.seconds_at(40)
    assert (alone.last_check_within(2.0), both.last_check_within(2.0)) == (20, 10)


def test_later_checks_do_not_change_a_measured_speed() -> None:
    assert race.measure_speed(STEPS, [make_record(1.0, 2.0)]) == race.measure_speed(
        STEPS, [make_record(1.0, 2.0, 30.0, 40.0)]
    )


def test_there_is_no_speed_before_all_models_have_reached_the_rated_step() -> None:
    assert race.measure_speed(STEPS, [make_record(1.0, 2.0), make_record(1.0)]) is None
    assert race.measure_speed(STEPS, [make_record(1.0, 2.0), make_record(1.0, failed=True)]) is not None
    assert race.measure_speed(STEPS, [make_record(failed=True)]) is None


def test_speed_of_a_retried_trial_is_measured_on_one_training() -> None:
    slow, fast = make_record(9.0, failed=True), make_record(1.0, 2.0, 3.0)
    whole = merge_records([slow, fast])
    assert [check.train_seconds for check in whole.checks] == [9.0, 11.0, 12.0], "the time of both trainings counts"
    assert race.measure_speed(STEPS, [whole]) == race.measure_speed(STEPS, [fast])
    again = merge_records([slow, make_record(1.0, 2.0, failed=True), make_record(5.0, 10.0, 15.0)])
    assert race.measure_speed(STEPS, [again]) == race.measure_speed(STEPS, [fast]), (
        "the first training that got far enough is used"
    )


def test_speed_is_measured_on_a_training_with_one_check() -> None:
    speed = race.measure_speed((10,), [make_record(3.0)])
    assert speed is not None
    assert speed.seconds_per_step == pytest.approx(0.3)


def test_the_earliest_check_is_next_and_ties_follow_the_grid() -> None:
    assert race.find_earliest({"slow": 2.0, "fast": 1.0, "too": 1.0}) == "fast"


@given(st.floats(0.01, 1e6), st.floats(0.01, 100), st.floats(1.01, 4))
def test_a_rung_ends_after_the_next_check_by_less_than_the_growth(moment: float, start: float, growth: float) -> None:
    end = race.find_horizon(moment, start, growth)
    assert end >= moment * (1 - 1e-6)
    assert end == start or end <= moment * growth * (1 + 1e-6)


def test_a_task_trains_to_its_last_check_within_a_rung() -> None:
    speed = race.TaskSpeed(STEPS, 0.1)
    assert speed.last_check_within(3.5) == 30
    assert speed.last_check_within(0.1) == 10, "a task trains at least to its first check"
