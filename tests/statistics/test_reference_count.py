"""How many reference models: the numbers that minimise the expected cost of study and search."""

import numpy as np
import pytest

from nasproxy.statistics.deviation import atanh_deviation
from nasproxy.statistics.ladder import expect_cost
from nasproxy.statistics.reference_count import (
    CountChoice,
    Economy,
    ReferenceCount,
    StudySimulation,
    choose_references,
    draw_noise,
    list_designs,
    thin_out,
)
from nasproxy.statistics.tau_curve import TauCurve

LOOKS = tuple(float(fraction) for fraction in np.geomspace(0.02, 1.0, 6))


def choose(trials: int, curve: TauCurve | None = None, **given: int) -> CountChoice:
    economy = Economy(trials, fractions=LOOKS)
    return choose_references(economy, curve or TauCurve(), target=0.65, alpha=0.2, **given)


def expect(count: tuple[int, int], trials: int = 2000, **economy: float) -> ReferenceCount:
    costs = Economy(trials, fractions=LOOKS, **economy)  # type: ignore[arg-type]
    return StudySimulation(costs, TauCurve(), 0.65, 0.2).expect(*count)


def test_larger_searches_get_more_references() -> None:
    small, middle, large = (choose(trials).chosen for trials in (50, 200, 2000))
    assert (small.initial, small.maximum) == (10, 10), "the minimum"
    assert small.models < middle.models < large.models
    assert large.initial >= 30


def test_the_chosen_numbers_are_the_cheapest_and_the_alternatives_surround_them() -> None:
    choice = choose(500)
    assert len(choice.alternatives) == 2
    assert all(choice.chosen.cost <= each.cost for each in choice.alternatives)
    fewer, more = choice.alternatives
    sizes = [each.initial + each.maximum for each in (fewer, choice.chosen, more)]
    assert sizes == sorted(set(sizes))


def test_given_numbers_are_kept_each_by_itself() -> None:
    assert choose(2000, initial=10).chosen.initial == 10
    assert choose(2000, maximum=30).chosen.maximum == 30
    fixed = choose(2000, maximum=0).chosen
    assert fixed.initial == fixed.maximum, "none are added"
    both = choose(2000, initial=12, maximum=24)
    assert (both.chosen.initial, both.chosen.maximum, both.alternatives) == (12, 24, ())


def test_fewer_models_than_the_criterion_needs_accept_nothing() -> None:
    assert expect((5, 5)).accepted == 0
    assert expect((7, 9)).models > 7
    assert choose(2000, initial=5).chosen.maximum >= 10


def test_a_target_of_one_is_expected_to_accept_nothing() -> None:
    economy = Economy(200, fractions=LOOKS)
    assert choose_references(economy, TauCurve(), target=1.0, alpha=0.2).chosen.accepted < 0.01


def test_the_ladder_is_the_alternative_to_a_proxy_task() -> None:
    hopeless = TauCurve(level=-1.0, slope=0.0, variances=(1e-6, 0.0, 1e-6))
    found = StudySimulation(Economy(300, fractions=LOOKS, max_risk=0.25), hopeless, 0.65, 0.2).expect(30, 30)
    assert found.cost == pytest.approx(30 + 30 + 300 * float(expect_cost(np.array(30.0), 0.25)), rel=0.02)
    many = choose_references(Economy(2000, fractions=LOOKS, max_risk=0.25), hopeless, target=0.65, alpha=0.2).chosen
    none = choose_references(Economy(2000, fractions=LOOKS), hopeless, target=0.65, alpha=0.2).chosen
    assert many.initial > none.initial, "the ladder is worth more reference models, though no task is accepted"


def test_no_more_models_are_chosen_than_the_search_space_has() -> None:
    assert choose(10_000, most=24).chosen.maximum <= 24


def test_ranks_that_appear_late_change_the_numbers() -> None:
    late = TauCurve(level=0.0, slope=0.6, variances=(0.05, 0.0, 0.01), task_variance=0.1)
    early = TauCurve(level=1.6, slope=0.2, variances=(0.05, 0.0, 0.01), task_variance=0.1)
    slow, fast = choose(2000, late).chosen, choose(2000, early).chosen
    assert fast.cost < slow.cost
    assert (fast.initial, fast.maximum) != (slow.initial, slow.maximum)


def test_more_models_stop_earlier_and_cost_more_study() -> None:
    few, many = expect((10, 10)), expect((60, 60))
    assert many.study > few.study
    assert many.cost - many.study < few.cost - few.study
    assert many.accepted > few.accepted


def test_a_study_costs_its_references_and_every_task_up_to_the_acceptance() -> None:
    one, eight = expect((10, 10), proxy=0.5, tasks=1), expect((10, 10), proxy=0.5, tasks=8)
    assert 10 < one.study < 10 * 1.5
    assert one.study < eight.study < 10 * (1 + 8 * 0.5)


def test_nothing_accepted_costs_the_search_in_full() -> None:
    hopeless = TauCurve(level=-1.0, slope=0.0, variances=(1e-6, 0.0, 1e-6))
    found = StudySimulation(Economy(300, fractions=LOOKS), hopeless, 0.65, 0.2).expect(10, 10)
    assert found.accepted < 0.01
    assert found.cost == pytest.approx(10 + 10 + 300, rel=0.01)


def test_the_noise_of_nested_sets_has_the_variance_of_means() -> None:
    sizes = (10, 20, 40)
    noise = draw_noise(np.array([0.1, 0.2]), sizes, 0.5, 20_000)
    for place, size in enumerate(sizes):
        assert noise[place].std() == pytest.approx(atanh_deviation(size), rel=0.03)
    shared = float((noise[0, :, 0] * noise[2, :, 0]).mean())
    assert shared == pytest.approx((atanh_deviation(40) or 0) ** 2, rel=0.2)
    apart = np.corrcoef(noise[0, :, 0], noise[0, :, 1])[0, 1]
    assert apart == pytest.approx(0.5 * 0.5, abs=0.03), "half of the variance, with correlation 0.1 / 0.2"


def test_many_looks_are_thinned_out_between_the_first_and_the_last() -> None:
    kept = thin_out([step / 400 for step in range(1, 401)])
    assert kept.size <= 16
    assert (kept[0], kept[-1]) == (1 / 400, 1.0)
    assert thin_out([0.5, 1.0]).tolist() == [0.5, 1.0]


def test_the_choice_is_the_same_when_repeated() -> None:
    first = choose(300)
    choose_references.cache_clear()
    assert choose(300) == first
    assert list_designs(None, 30, 10, 12) == [(10, 30), (12, 30)]
