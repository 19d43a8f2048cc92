"""The embedded dataset: deterministic, with disjoint training and validation digits."""

from collections import Counter

import numpy as np
import pytest

from nasproxy.data.dataset import take_split
from nasproxy.data.digits import load
from nasproxy.errors import DataError
from nasproxy.trials.spec import Split


def test_equal_arguments_give_equal_images_without_rendering_twice():
    assert load(seed=3) is load(seed=3)
    fingerprint = load(seed=3).fingerprint
    load.cache_clear()
    assert load(seed=3).fingerprint == fingerprint
    assert load(seed=4).fingerprint != fingerprint


def test_sizes_are_as_requested():
    dataset = load(train_size=900, canvas_px=24, valid_renders=2)
    assert dataset.train_images.shape == (900, 1, 24, 24)
    assert dataset.valid_images.shape == (2 * 897, 1, 24, 24)
    assert (dataset.num_classes, dataset.train_images.shape[1:]) == (10, (1, 24, 24))


def test_no_source_digit_is_used_for_training_and_validation():
    plain = load(digit_px=8, canvas_px=8, noise=0.0, valid_renders=2)
    train = {image.tobytes() for image in plain.train_images}
    valid = [image.tobytes() for image in plain.valid_images]
    assert len(train) == 1000
    assert len(set(valid)) == 797
    assert train.isdisjoint(valid)


def test_renders_of_a_digit_differ_in_place_only():
    dataset = load(noise=0.0, valid_renders=2)
    first, second = dataset.valid_images[0::2], dataset.valid_images[1::2]
    assert (dataset.valid_labels[0::2] == dataset.valid_labels[1::2]).all()
    np.testing.assert_allclose(first.sum(axis=(1, 2, 3)), second.sum(axis=(1, 2, 3)), rtol=1e-4)
    assert (first != second).any(axis=(1, 2, 3)).mean() > 0.8


def test_noise_has_the_requested_standard_deviation():
    noise = load(noise=0.3).train_images - load(noise=0.0).train_images
    assert noise.std() == pytest.approx(0.3, rel=0.01)


@pytest.mark.parametrize("data_fraction", [0.25, 1.0])
def test_no_digit_trains_and_scores_in_a_search(data_fraction):
    dataset = load(digit_px=8, canvas_px=8, noise=0.0, train_renders=3)
    search = take_split(dataset, split=Split.SEARCH, data_fraction=data_fraction, holdout_fraction=0.25, order_seed=0)
    train = Counter(image.tobytes() for image in search.train_images)
    scoring = Counter(image.tobytes() for image in search.valid_images)
    assert train.keys().isdisjoint(scoring.keys())
    assert set(train.values()) == set(scoring.values()) == {3}
    assert (len(train), len(scoring)) == (round(750 * data_fraction), 250)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_size": 1797}, r"train_size must lie in \[1, 1796\], got 1797"),
        ({"train_size": 0}, "train_size must lie in"),
        ({"digit_px": 21}, r"digit_px must lie in \[1, canvas_px\], got 21 with canvas_px 20"),
        ({"noise": -0.1}, "noise must be at least 0, got -0.1"),
        ({"train_renders": 0}, "valid_renders must be at least 1, got 0"),
        ({"valid_renders": 0}, "valid_renders must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        load(**arguments)
