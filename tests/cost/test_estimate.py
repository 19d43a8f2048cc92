"""Estimates against results computed by hand."""

import pytest

from nasproxy.cost.estimate import Amount, Estimate, StageEstimate, estimate_amount, estimate_stage
from nasproxy.cost.speed import Speeds, Timed, Timing, interpolate_timing
from nasproxy.stages.workload import StageWork, Work
from nasproxy.trials.spec import Architecture, to_canonical_json

SMALL: Architecture = {"size": "small"}
LARGE: Architecture = {"size": "large"}
BETWEEN: Architecture = {"size": "between"}
TIMED = [Timed(100.0, Timing(0.1, 1.0, 3.0)), Timed(300.0, Timing(0.3, 2.0, 5.0))]
SPEEDS = Speeds(
    models=TIMED,
    factors={"half": (0.5, 0.25)},
    sizes={to_canonical_json(SMALL): 100.0, to_canonical_json(LARGE): 300.0, to_canonical_json(BETWEEN): 250.0},
)


def test_timings_are_interpolated_between_timed_models() -> None:
    assert interpolate_timing(TIMED, 250.0) == Timing(pytest.approx(0.25), pytest.approx(1.75), 4.0)
    assert interpolate_timing(TIMED, 1000.0).step_seconds == 0.3, "no extrapolation beyond the largest model"


def test_models_of_unknown_size_get_the_mean_timing() -> None:
    assert interpolate_timing(TIMED, None) == Timing(pytest.approx(0.2), 1.5, 4.0)
    assert interpolate_timing([Timed(None, TIMED[0].timing), TIMED[1]], 100.0).step_seconds == pytest.approx(0.2)


def test_timings_are_averaged_over_models_and_scaled_by_the_proxy_task() -> None:
    assert SPEEDS.timing([SMALL, LARGE], None).step_seconds == pytest.approx(0.2)
    assert SPEEDS.timing([BETWEEN], "half") == Timing(pytest.approx(0.125), pytest.approx(0.4375), 4.0)


def test_estimated_seconds_sum_starts_steps_and_checks_in_rounds_of_slots() -> None:
    work = Work((SMALL,), None, trials=3, starts=3, steps=30, checks=6)
    cost = estimate_amount([work], SPEEDS, slots=2)
    assert cost.slot_seconds == pytest.approx(3 * 4.0 + 30 * 0.1 + 6 * 1.0)
    assert cost.elapsed_seconds == pytest.approx(cost.slot_seconds / 3 * 2), "the third trial waits for a slot"
    assert (cost.trials, cost.steps) == (3, 30)


def test_a_trial_on_several_devices_occupies_several_slots() -> None:
    alone, wide = (Work((SMALL,), task, trials=3, starts=3, steps=30, checks=6) for task in (None, "half"))
    cost = estimate_amount([wide], SPEEDS, slots=5, slots_of=lambda task: 2.0 if task == "half" else 1.0)
    each = 4.0 + 10 * 0.05 + 2 * 0.25
    assert cost.slot_seconds == pytest.approx(3 * each * 2)
    assert cost.elapsed_seconds == pytest.approx(2 * each), "two trials at once, although a fifth slot is free"
    assert estimate_amount([alone], SPEEDS, slots=5, slots_of=lambda _: 1.0) == estimate_amount(
        [alone], SPEEDS, slots=5
    )


def test_stages_are_summed_and_priced_by_the_device_hour() -> None:
    work = Work((SMALL,), None, trials=1, starts=1, steps=3560, checks=0)
    twice = Work((SMALL,), None, trials=2, starts=2, steps=2 * 3560, checks=0)
    stage = estimate_stage(StageWork((work,), (work,), (twice,)), SPEEDS, slots=1)
    estimate = Estimate({"a": stage, "b": stage}, full_steps=3560, devices_per_slot=0.5, price_per_hour=8.0)
    assert estimate.total.middle == Amount(2, 7120, pytest.approx(720.0), pytest.approx(720.0))
    assert estimate.total.high.slot_seconds == pytest.approx(1440.0)
    assert estimate.price(estimate.total.middle) == pytest.approx(720 * 0.5 / 3600 * 8)
    assert Estimate({}, full_steps=1, devices_per_slot=1.0).price(estimate.total.middle) is None


def test_a_stage_without_trials_costs_nothing() -> None:
    nothing = Work((), None, 0, 0, 0, 0)
    assert estimate_stage(StageWork((nothing,), (), ()), SPEEDS, 2) == StageEstimate(*[Amount(0, 0, 0.0, 0.0)] * 3)
