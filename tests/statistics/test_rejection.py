"""Upper limits of the true tau that hold for all proxy tasks of a study."""

import numpy as np
import pytest

from nasproxy.statistics.acceptance import find_near_target
from nasproxy.statistics.rejection import count_models_to_reject, limit_true_tau
from nasproxy.statistics.score_test import score_lower_limits, score_upper_limits
from nasproxy.statistics.simulation import simulate_taus


def test_the_upper_limit_mirrors_the_lower_one() -> None:
    taus = np.array([-0.6, 0.0, 0.6])
    assert score_upper_limits(taus, 12).tolist() == (-score_lower_limits(-taus, 12)).tolist()


def test_the_limit_decreases_with_models_and_increases_with_tasks_and_tau() -> None:
    few, many = limit_true_tau(0.3, 10, tasks=3), limit_true_tau(0.3, 40, tasks=3)
    alone, better = limit_true_tau(0.3, 10, tasks=1), limit_true_tau(0.5, 10, tasks=3)
    assert 0.3 < (many or 0) < (few or 0) < (better or 0)
    assert (alone or 0) < (few or 0)
    assert limit_true_tau(0.3, 4, tasks=1) is None


def test_the_number_of_models_suffices_in_four_of_five_samples() -> None:
    more = count_models_to_reject(0.4, 10, target=0.65, tasks=3)
    assert more is not None
    shares = []
    for n in (10 + more, 10 + more // 2):
        taus = simulate_taus(0.4, [1.0], [n], noise_share=1.0, studies=2000, seed=1)
        shares.append(float((score_upper_limits(taus[0, :, 0], n, alpha=0.05 / 6) < 0.65).mean()))
    assert 0.75 < shares[0] < 0.87
    assert shares[1] < 0.65


def test_no_number_of_models_rejects_a_task_near_the_target_or_above() -> None:
    assert count_models_to_reject(-0.5, 10, target=0.65, tasks=3) == 0, "rejected already"
    assert count_models_to_reject(0.64, 10, target=0.65, tasks=3) is None, "200 models would not tell"
    assert count_models_to_reject(0.7, 10, target=0.65, tasks=3) is None


@pytest.mark.parametrize("tasks", [1, 3])
def test_a_task_at_the_target_is_rarely_rejected_although_models_are_added_near_the_target(tasks: int) -> None:
    sizes, target = (10, 15, 20, 25, 30), 0.65
    taus = simulate_taus(target, [1.0], sizes, noise_share=1.0, studies=4000, seed=3)[:, :, 0]
    size = np.zeros(taus.shape[1], dtype=np.intp)
    for place, models in enumerate(sizes[:-1]):
        size[(size == place) & (taus[place] >= (find_near_target(target, models) or 1.0))] = place + 1
    found, models = taus[size, np.arange(size.size)], np.array(sizes)[size]
    limits = score_upper_limits(found, models, alpha=0.05 / (2 * tasks))
    assert tasks * float((limits < target).mean()) <= 0.055
