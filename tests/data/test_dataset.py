"""Nested subsets, disjoint splits and the validation of datasets."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasproxy.data.dataset import (
    ImageDataset,
    order_equally,
    order_proportionally,
    resize_images,
    size_subset,
    take_split,
)
from nasproxy.errors import DataError
from nasproxy.trials.spec import Split

CLASS_SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6)
SEEDS = st.integers(0, 2**32)
FRACTIONS = st.integers(1, 100).map(lambda percent: percent / 100)


def labels_of(sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


def counted_images(n_train=40, n_valid=10, classes=2, side=2):
    """Make images whose pixels all equal the image's number, so that images can be identified."""
    numbers = np.arange(n_train + n_valid, dtype=np.float32)
    images = np.broadcast_to(numbers[:, None, None, None], (len(numbers), 1, side, side)).copy()
    labels = (np.arange(len(numbers)) % classes).astype(np.int64)
    return ImageDataset(images[:n_train], labels[:n_train], images[n_train:], labels[n_train:])


def numbers_of(images):
    return images[:, 0, 0, 0].astype(int).tolist()


def taken(dataset, **settings):
    defaults = {"split": Split.SEARCH, "data_fraction": 1.0, "holdout_fraction": 0.1, "order_seed": 0}
    return take_split(dataset, **{**defaults, **settings})


@given(CLASS_SIZES, SEEDS)
def test_every_order_holds_each_image_once(sizes, seed):
    labels = labels_of(sizes)
    for order in (order_proportionally(labels, seed), order_equally(labels, seed)):
        assert sorted(order.tolist()) == list(range(len(labels)))


@given(CLASS_SIZES, SEEDS)
def test_every_prefix_of_the_proportional_order_is_proportional_to_the_classes(sizes, seed):
    labels = labels_of(sizes)
    order = order_proportionally(labels, seed)
    for k in range(len(labels) + 1):
        counts = np.bincount(labels[order[:k]], minlength=len(sizes))
        for count, size in zip(counts.tolist(), sizes, strict=True):
            share = Fraction(size, len(labels))
            assert abs(count - k * share) <= (1 + max(0, len(sizes) - 2) * share) / 2


@given(st.integers(1, 12), st.integers(1, 10), SEEDS)
def test_class_counts_of_a_prefix_deviate_by_less_than_one_for_classes_of_equal_size(classes, size, seed):
    labels = labels_of([size] * classes)
    order = order_proportionally(labels, seed)
    for k in range(len(labels) + 1):
        counts = np.bincount(labels[order[:k]], minlength=classes)
        assert np.abs(counts - k / classes).max() < 1


@given(CLASS_SIZES, SEEDS)
def test_every_prefix_of_the_equal_order_has_equal_class_counts_while_classes_last(sizes, seed):
    labels = labels_of(sizes)
    order = order_equally(labels, seed)
    for k in range(len(labels) + 1):
        counts = np.bincount(labels[order[:k]], minlength=len(sizes))
        lasting = [count for count, size in zip(counts, sizes, strict=True) if count < size]
        assert not lasting or max(counts) - min(lasting) <= 1


def test_another_seed_gives_another_order():
    labels = labels_of([20, 20])
    assert order_proportionally(labels, 0).tolist() == order_proportionally(labels, 0).tolist()
    assert order_proportionally(labels, 0).tolist() != order_proportionally(labels, 1).tolist()


@given(st.integers(1, 100_000), st.integers(1, 10_000))
def test_a_subset_has_exactly_the_rounded_size(n, ten_thousandths):
    size = size_subset(n, ten_thousandths / 10_000)
    assert size == max(1, (2 * n * ten_thousandths + 10_000) // 20_000)
    assert 1 <= size <= n


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, 50.0, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(DataError, match=r"data_fraction must lie in \(0, 1\]"):
        size_subset(10, fraction)


def test_a_subset_of_nothing_is_refused():
    with pytest.raises(DataError, match="at least 1 image"):
        size_subset(0, 0.5)


@given(FRACTIONS, FRACTIONS, SEEDS, st.sampled_from(list(Split)), st.sampled_from(["proportional", "equal"]))
def test_a_smaller_fraction_is_a_prefix_of_a_larger_one_and_validation_never_shrinks(a, b, seed, split, balance):
    smaller, larger = (
        taken(counted_images(), split=split, data_fraction=fraction, order_seed=seed, balance=balance)
        for fraction in sorted((a, b))
    )
    kept = numbers_of(smaller.train_images)
    assert kept == numbers_of(larger.train_images)[: len(kept)]
    assert numbers_of(smaller.valid_images) == numbers_of(larger.valid_images)


@given(st.integers(1, 99).map(lambda percent: percent / 100), SEEDS)
def test_the_search_split_partitions_the_training_images(holdout_fraction, seed):
    dataset = counted_images(n_train=200)
    search = taken(dataset, holdout_fraction=holdout_fraction, order_seed=seed)
    trained, scored = numbers_of(search.train_images), numbers_of(search.valid_images)
    assert len(scored) == size_subset(200, holdout_fraction)
    assert sorted(trained + scored) == numbers_of(dataset.train_images)


def test_the_full_split_trains_on_all_and_scores_on_the_validation_images():
    dataset = counted_images()
    full = taken(dataset, split=Split.FULL)
    assert sorted(numbers_of(full.train_images)) == numbers_of(dataset.train_images)
    assert numbers_of(full.valid_images) == numbers_of(dataset.valid_images)


def test_labels_stay_with_their_images():
    dataset = counted_images(classes=3)
    for split in Split:
        part = taken(dataset, split=split, data_fraction=0.5)
        assert (part.train_labels == part.train_images[:, 0, 0, 0] % 3).all()
        assert (part.valid_labels == part.valid_images[:, 0, 0, 0] % 3).all()


@pytest.mark.parametrize("holdout_fraction", [0.0, 1.0, 10.0])
def test_a_holdout_outside_its_range_is_refused(holdout_fraction):
    with pytest.raises(DataError, match=r"holdout_fraction must lie in \(0, 1\)"):
        taken(counted_images(), holdout_fraction=holdout_fraction)


def test_a_holdout_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(DataError, match="needs a training image besides the holdout, got 2 images"):
        taken(counted_images(n_train=2), holdout_fraction=0.9)


def test_an_unknown_balance_is_refused():
    with pytest.raises(DataError, match="balance must be 'proportional' or 'equal', got 'fair'"):
        taken(counted_images(), balance="fair")


def test_a_dataset_knows_its_number_of_classes():
    assert counted_images(classes=3).num_classes == 3


def test_the_fingerprint_changes_with_the_content_and_with_nothing_else():
    dataset = counted_images()
    changed = dataset.valid_images.copy()
    changed[-1, -1, -1, -1] += 1
    assert dataset.fingerprint == counted_images().fingerprint
    assert dataset.fingerprint != replace(dataset, valid_images=changed).fingerprint
    assert len(dataset.fingerprint) == 64


def with_nan(images):
    images = images.copy()
    images[0] = np.nan
    return images


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("train_images", lambda a: a.astype(np.float64), r"train_images must be float32 .* got float64"),
        ("train_images", lambda a: a[:, 0], r"train_images must be float32 of shape"),
        ("train_images", lambda a: a[:0], r"train_images .* not empty, got float32 \(0, 1, 2, 2\)"),
        ("train_labels", lambda a: a[1:], r"train_labels must be int64 of shape \(40,\).* \(39,\)"),
        ("valid_labels", lambda a: a.astype(np.int32), "valid_labels must be int64 .* got int32"),
        ("valid_labels", lambda a: a - 1, "valid_labels must be classes from 0, got -1"),
        ("valid_labels", lambda a: a + 1, r"valid_labels must be classes of train_labels, got \[2\]"),
        ("train_labels", lambda a: a * 0, "at least 2 classes, got 1"),
        ("valid_images", with_nan, "valid_images must be finite"),
        ("valid_images", lambda a: a[:, :, :1], r"the same shape, got \(1, 2, 2\) and \(1, 1, 2\)"),
    ],
)
def test_unusable_data_is_refused(part, change, message):
    dataset = counted_images()
    with pytest.raises(DataError, match=message):
        replace(dataset, **{part: change(getattr(dataset, part))})


@pytest.mark.parametrize(
    ("renders", "message"),
    [
        (0, "renders must be at least 1 and divide the number of training images, 40, got 0"),
        (3, "divide the number of training images, 40, got 3"),
        (2, "the 2 renders of a training source must have the same label"),
    ],
)
def test_invalid_renders_are_refused(renders, message):
    with pytest.raises(DataError, match=message):
        replace(counted_images(), renders=renders)


@given(st.integers(1, 40), st.integers(1, 40))
def test_resizing_keeps_constants_and_bounds(source, target):
    generator = np.random.default_rng(source * 41 + target)
    images = generator.random((2, 1, source, source), dtype=np.float32)
    resized = resize_images(images, target)
    assert resized.shape == (2, 1, target, target)
    assert resized.dtype == np.float32
    assert images.min() - 1e-5 <= resized.min()
    assert resized.max() <= images.max() + 1e-5
    np.testing.assert_allclose(resize_images(np.ones_like(images), target), 1, rtol=1e-5)


def test_halving_interpolates_with_triangular_weights():
    image = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8).repeat(8, axis=2)
    np.testing.assert_allclose(resize_images(image, 4)[0, 0, 0, 1:3], [2.5, 4.5], rtol=1e-6)


def test_resizing_keeps_proportions_and_cropping_cuts_the_centre():
    images = np.arange(24, dtype=np.float32).reshape(1, 1, 4, 6)
    assert resize_images(images, 3).shape == (1, 1, 2, 3)
    assert resize_images(images, 2, "crop").tolist() == [[[[8, 9], [14, 15]]]]
    assert resize_images(images, 6, "crop") is images
    assert resize_images(images, 6) is images


@pytest.mark.parametrize(
    ("size", "mode", "message"),
    [
        (0, "resize", "image_size_px must be at least 1"),
        (9, "crop", "a crop must fit into 4x6 pixels, got 9"),
        (2, "pad", "image_mode must be 'resize' or 'crop', got 'pad'"),
    ],
)
def test_an_impossible_size_is_refused(size, mode, message):
    with pytest.raises(DataError, match=message):
        resize_images(np.zeros((1, 1, 4, 6), dtype=np.float32), size, mode)
