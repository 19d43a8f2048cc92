from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.errors import ConfigError
from nasproxy.statistics.rank_correlation import rank_failed_last
from nasproxy.trials.objective import Objective, describe_opposite_direction, has_opposite_direction

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9)


@given(VALUES)
def test_a_metric_to_minimise_ranks_as_its_negation_to_maximise(values: list[float]) -> None:
    low = Objective("loss", "min").orient(np.array(values))
    assert low.tolist() == Objective("gain", "max").orient(-np.array(values)).tolist()


@given(VALUES, st.data())
def test_failed_models_rank_last_and_tie_in_either_direction(values: list[float], data: Any) -> None:
    has_failed = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    for mode in ("max", "min"):
        ranked = rank_failed_last(Objective("m", mode).orient(np.array(values)), has_failed)
        failed = ranked[np.array(has_failed)]
        assert len(set(failed.tolist())) <= 1
        if failed.size and not all(has_failed):
            assert failed.max() < ranked[~np.array(has_failed)].min()


def test_lower_is_better_where_the_mode_is_min() -> None:
    assert Objective("loss", "min").is_better(0.1, 0.2)
    assert not Objective("loss", "min").is_better(0.2, 0.2)
    assert Objective().is_better(0.2, 0.1)


@pytest.mark.parametrize(("name", "mode", "message"), [("", "max", "metric.name must"), ("loss", "low", "metric.mode")])
def test_another_metric_is_refused(name: str, mode: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Objective(name, mode)


def test_curves_that_all_get_worse_are_noticed() -> None:
    falling = [[3.0, 2.0, 1.0], [2.0, 0.5], [1.0, 0.9]]
    assert has_opposite_direction(falling, Objective("loss", "max"))
    assert not has_opposite_direction(falling, Objective("loss", "min"))
    assert not has_opposite_direction([*falling, [1.0, 2.0]], Objective("loss", "max"))
    assert not has_opposite_direction(falling[:2], Objective("loss", "max")), "two may be chance"
    assert not has_opposite_direction([[3.0], [2.0], [1.0]], Objective("loss", "max"))
    assert describe_opposite_direction(3, Objective("loss", "max")) == (
        "all 3 curves of loss fall, and metric.mode=max prefers the opposite: set metric.mode=min if lower values are "
        "better, and another study=NAME"
    )
