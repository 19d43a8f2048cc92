import numpy as np
import pytest

from nasproxy.statistics.missing import as_vector, as_vectors, keep_present


def test_missing_values_are_removed_in_order() -> None:
    np.testing.assert_array_equal(keep_present("scores", [3.0, float("nan"), 1.0]), [3.0, 1.0])


def test_no_values_are_a_vector_of_length_zero() -> None:
    assert as_vector("scores", []).shape == (0,)


def test_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scores must be one-dimensional, got shape \(1, 2\)"):
        as_vector("scores", [[1.0, 2.0]])


def test_an_infinite_score_is_refused() -> None:
    with pytest.raises(ValueError, match="proxy must be finite, or NaN where missing"):
        as_vectors(proxy=[1.0, float("inf")], reference=[1.0, 2.0])


def test_vectors_of_different_models_are_refused() -> None:
    with pytest.raises(ValueError, match="got proxy 2, reference 3"):
        as_vectors(proxy=[1.0, 2.0], reference=[1.0, 2.0, 3.0])
