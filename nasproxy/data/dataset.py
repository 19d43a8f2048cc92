"""The dataset protocol, images in memory, and the splits and nested subsets that trials train on."""

import hashlib
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from nasproxy.errors import DataError
from nasproxy.trials.proxy_task import ResizeMode
from nasproxy.trials.spec import Split

Images: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.int64]
Order: TypeAlias = npt.NDArray[np.int64]
Balance: TypeAlias = Literal["proportional", "equal"]
Shape: TypeAlias = tuple[int, int, int]
"""Channels, height and width of an image."""
S = TypeVar("S", covariant=True)
T = TypeVar("T", bound="TrialImages")


class TrialImages(Protocol):
    """The images of one trial, in memory or in files."""

    @property
    def num_classes(self) -> int:
        """Number of classes of the whole dataset; a small subset may lack some."""
        ...

    @property
    def image_shape(self) -> Shape:
        """Channels, height and width of the model's input images."""
        ...

    def resized(self: T, scale: float, mode: ResizeMode) -> T:
        """Return the same images with the longer side multiplied by `scale`, at least 1 pixel."""
        ...


class Dataset(Protocol[S]):
    """Labelled images, in memory or in files, from which the splits of trials are taken."""

    @property
    def train_labels(self) -> Labels:
        """Classes of the training images, int64 from 0, shape (n_train,)."""
        ...

    @property
    def renders(self) -> int:
        """Number of consecutive training images that show one source; splits keep these together."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash that identifies the dataset."""
        ...

    def part(self, train: Order, scoring: Order | None) -> S:
        """Select training images by index, to train on and to score on; None scores on the validation images."""
        ...


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images in memory, for training and for validation.

    Attributes:
        train_images: float32, shape (n_train, channels, height, width).
        train_labels: int64 classes from 0, shape (n_train,).
        valid_images: float32, shape (n_valid, channels, height, width), with the sides of `train_images`.
        valid_labels: int64, shape (n_valid,), classes that occur in `train_labels`.
        renders: Number of consecutive training images that show one source, such as one digit at several positions;
            splits and subsets keep these together, so that no source is both trained and scored on.

    Raises:
        DataError: An array has the wrong type or shape, is empty or not finite; there are fewer than 2 classes;
            or a class occurs in validation only.
    """

    train_images: Images
    train_labels: Labels
    valid_images: Images
    valid_labels: Labels
    renders: int = 1

    def __post_init__(self) -> None:
        _check_part("train", self.train_images, self.train_labels)
        _check_part("valid", self.valid_images, self.valid_labels)
        if self.train_images.shape[1:] != self.valid_images.shape[1:]:
            raise DataError(
                f"train_images and valid_images must have the same shape, got {self.train_images.shape[1:]} and "
                f"{self.valid_images.shape[1:]}: resize one of them"
            )
        _check_renders(self.train_labels, self.renders)
        classes = np.unique(self.train_labels)
        if len(classes) < 2:
            raise DataError(f"train_labels must contain at least 2 classes, got {len(classes)}: add images")
        if len(classes) != self.num_classes:
            absent = sorted(set(range(self.num_classes)) - set(classes.tolist()))
            raise DataError(
                f"train_labels must number the classes from 0 without gaps, got no image of {absent[:5]}: renumber them"
            )
        unknown = np.setdiff1d(self.valid_labels, classes)
        if len(unknown):
            raise DataError(
                f"valid_labels must be classes of train_labels, got {unknown[:5].tolist()} too: add training images "
                f"of these classes, or remove their validation images"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes: one more than the largest label."""
        return int(self.train_labels.max()) + 1

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hexadecimal of the type, shape and content of all arrays, and of `renders`."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.valid_images, self.valid_labels):
            little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(f"{little_endian.dtype.str}{little_endian.shape}".encode())
            digest.update(little_endian.data)
        digest.update(f"renders={self.renders}".encode())
        return digest.hexdigest()

    def part(self, train: Order, scoring: Order | None) -> "ImageSplit":
        """Select training images by index, to train on and to score on; None scores on the validation images."""
        valid_images, valid_labels = self.valid_images, self.valid_labels
        if scoring is not None:
            valid_images, valid_labels = self.train_images[scoring], self.train_labels[scoring]
        return ImageSplit(
            self.train_images[train], self.train_labels[train], valid_images, valid_labels, self.num_classes
        )


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """The training and scoring images of one trial, with arrays as in `ImageDataset`.

    `num_classes` counts the classes of the whole dataset; a small subset may lack some.
    """

    train_images: Images
    train_labels: Labels
    valid_images: Images
    valid_labels: Labels
    num_classes: int

    @property
    def image_shape(self) -> Shape:
        """Channels, height and width of the model's input images."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    def resized(self, scale: float, mode: ResizeMode) -> "ImageSplit":
        """Return the same images with the longer side multiplied by `scale`, at least 1 pixel."""
        side = scale_side(max(self.image_shape[1:]), scale)
        return replace(
            self,
            train_images=resize_images(self.train_images, side, mode),
            valid_images=resize_images(self.valid_images, side, mode),
        )


def scale_side(side_px: int, scale: float) -> int:
    """Scale the side of an image, rounding to at least 1 pixel."""
    return max(1, round(side_px * scale))


def take_split(
    dataset: Dataset[S],
    *,
    split: Split,
    data_fraction: float,
    holdout_fraction: float,
    order_seed: int,
    balance: Balance = "proportional",
) -> S:
    """Select the images of a trial, the same for every model and training seed.

    Args:
        dataset: Source of the images.
        split: `SEARCH` trains on the first part of the training images in the order of `order_proportionally` and
            scores on the rest; `FULL` trains on all training images and scores on the validation images.
        data_fraction: Share of the split's training images to keep, in (0, 1]. It is a prefix of their order, so that
            smaller fractions are subsets of larger ones; scoring images are never reduced.
        holdout_fraction: Share of the training images that the search split scores on, in (0, 1).
        order_seed: Seed of the order; a property of the data, independent of the training seed.
        balance: `proportional` keeps the class proportions in every prefix, `equal` equal class counts while images
            of all classes remain.

    Raises:
        DataError: A fraction is out of range, or the search split would leave a part empty.
    """
    _check_fraction("data_fraction", data_fraction)
    labels = dataset.train_labels[:: dataset.renders]
    sources, scoring = np.arange(len(labels)), None
    if split is Split.SEARCH:
        sources, held_out = _hold_out(labels, holdout_fraction, order_seed)
        scoring = _list_images(held_out, dataset.renders)
    sources = sources[_order_images(labels[sources], order_seed, balance)]
    return dataset.part(_list_images(sources[: size_subset(len(sources), data_fraction)], dataset.renders), scoring)


def order_proportionally(labels: npt.ArrayLike, seed: int) -> Order:
    """Shuffle images so that every prefix preserves the class proportions.

    Image r of a class of n images (r from 0, in random order) has position (r + 1/2) / n; images are sorted by
    position, ties in random order. Given C classes and N images, a prefix of k images contains k n / N images of
    the class, within (1 + (C - 2) n / N) / 2: less than 1 for classes of equal size.

    Args:
        labels: Classes, shape (n_images,).
        seed: Seed of the shuffle.

    Returns:
        Permutation of the indices, shape (n_images,).
    """
    rank, size, ties = _draw_ranks(np.asarray(labels), seed)
    # A single division of integers: equal positions are equal floats, so ties are detected exactly.
    return np.lexsort((ties, (2 * rank + 1) / (2 * size))).astype(np.int64)


def order_equally(labels: npt.ArrayLike, seed: int) -> Order:
    """Shuffle images so that class counts in every prefix differ by at most 1 while images of all classes remain.

    Args:
        labels: Classes, shape (n_images,).
        seed: Seed of the shuffle.

    Returns:
        Permutation of the indices, shape (n_images,).
    """
    rank, _, ties = _draw_ranks(np.asarray(labels), seed)
    return np.lexsort((ties, rank)).astype(np.int64)


def size_subset(n: int, fraction: float) -> int:
    """Compute the size of a subset: `n * fraction` rounded half up, at least 1.

    The fraction is interpreted as the decimal number as written, so that 0.15 of 10 is 1.5 exactly, rounded to 2.

    Raises:
        DataError: There are no images, or the fraction is not in (0, 1].

    >>> size_subset(1797, 0.25), size_subset(10, 0.15), size_subset(10, 0.001), size_subset(10, 1.0)
    (449, 2, 1, 10)
    """
    if n < 1:
        raise DataError(f"a subset needs at least 1 image, got {n}: add images")
    _check_fraction("data_fraction", fraction)
    return max(1, math.floor(n * Fraction(repr(float(fraction))) + Fraction(1, 2)))


def resize_images(images: Images, image_size_px: int, mode: ResizeMode = "resize") -> Images:
    """Resize or crop images.

    Args:
        images: Shape (n, channels, height, width).
        image_size_px: Longer side of the result. Mode `resize` keeps the aspect ratio; mode `crop` cuts each side to
            at most this.
        mode: `resize` interpolates linearly with antialiasing; `crop` cuts out the centre.

    Returns:
        float32 images; the same array if nothing changes.

    Raises:
        DataError: The size is below 1, a crop is larger than the image, or the mode is unknown.
    """
    height, width = images.shape[2:]
    if image_size_px < 1:
        raise DataError(f"image_size_px must be at least 1, got {image_size_px}: increase image_size")
    if mode == "crop":
        return _crop(images, image_size_px)
    if mode != "resize":
        raise DataError(f"image_mode must be 'resize' or 'crop', got {mode!r}: choose one")
    longer = max(height, width)
    if image_size_px == longer:
        return images
    rows = _compute_interpolation(height, max(1, round(height * image_size_px / longer)))
    columns = _compute_interpolation(width, max(1, round(width * image_size_px / longer)))
    return np.ascontiguousarray(rows @ images @ columns.T, dtype=np.float32)


def _crop(images: Images, image_size_px: int) -> Images:
    height, width = images.shape[2:]
    if image_size_px > max(height, width):
        raise DataError(
            f"a crop must fit into {height}x{width} pixels, got {image_size_px} pixels: decrease image_size"
        )
    new_height, new_width = min(height, image_size_px), min(width, image_size_px)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    if (new_height, new_width) == (height, width):
        return images
    return np.ascontiguousarray(images[:, :, top : top + new_height, left : left + new_width])


def _compute_interpolation(source: int, target: int) -> Images:
    """Compute weights of antialiased linear interpolation, shape (target, source)."""
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale - 0.5
    distance = np.abs(centres[:, None] - np.arange(source)[None, :]) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    normalised: Images = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def _list_images(sources: Order, renders: int) -> Order:
    return (sources[:, None] * renders + np.arange(renders)).reshape(-1)


def _order_images(labels: Labels, seed: int, balance: Balance) -> Order:
    if balance == "proportional":
        return order_proportionally(labels, seed)
    if balance == "equal":
        return order_equally(labels, seed)
    raise DataError(f"balance must be 'proportional' or 'equal', got {balance!r}: choose one")


def _hold_out(labels: Labels, holdout_fraction: float, seed: int) -> tuple[Order, Order]:
    if not 0 < holdout_fraction < 1:
        raise DataError(
            f"holdout_fraction must lie in (0, 1), got {holdout_fraction:g}: give the share of the training "
            f"images to hold out for scoring, such as 0.1"
        )
    order = order_proportionally(labels, seed)
    train_size = len(order) - size_subset(len(order), holdout_fraction)
    if train_size < 1:
        raise DataError(
            f"the search split needs a training image besides the holdout, got {len(order)} images: add images"
        )
    return order[:train_size], order[train_size:]


def _draw_ranks(labels: npt.NDArray[Any], seed: int) -> tuple[Order, Order, Order]:
    """Draw each image's random rank within its class, the size of its class, and a random number for ties."""
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(labels))
    _, classes, sizes = np.unique(labels[shuffled], return_inverse=True, return_counts=True)
    by_class = np.argsort(classes, kind="stable")
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(labels), dtype=np.int64)
    rank[shuffled[by_class]] = np.arange(len(labels)) - starts[classes[by_class]]
    size = np.empty(len(labels), dtype=np.int64)
    size[shuffled] = sizes[classes]
    return rank, size, generator.permutation(len(labels)).astype(np.int64)


def _check_fraction(name: str, fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise DataError(f"{name} must lie in (0, 1], got {fraction:g}: give a fraction such as 0.5")


def _check_renders(labels: Labels, renders: int) -> None:
    if renders < 1 or len(labels) % renders:
        raise DataError(
            f"renders must be at least 1 and divide the number of training images, {len(labels)}, got {renders}: "
            f"give 1 if every image has its own source"
        )
    if (labels.reshape(-1, renders) != labels[::renders, None]).any():
        raise DataError(
            f"the {renders} renders of a training source must have the same label, got different ones: order the "
            f"images so that renders of a source are consecutive"
        )


def _check_part(part: str, images: Images, labels: Labels) -> None:
    if images.dtype != np.float32 or images.ndim != 4 or 0 in images.shape:
        raise DataError(
            f"{part}_images must be float32 of shape (n, channels, height, width), not empty, got "
            f"{images.dtype} {images.shape}: convert them"
        )
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{part}_labels must be int64 of shape ({len(images)},), one for each image, got {labels.dtype} "
            f"{labels.shape}: convert them"
        )
    if labels.min() < 0:
        raise DataError(f"{part}_labels must be classes from 0, got {labels.min()}: renumber the classes")
    if not np.isfinite(images).all():
        raise DataError(f"{part}_images must be finite, got NaN or infinity: remove or repair these images")
