"""Generated images, in memory or as an image folder: striped lobed shapes on a cluttered background, with noise.

A class is a combination of a shape, which needs a large receptive field, and a texture, which a small one suffices
for; colours and the stripes of the background carry no information on the class. Images are deterministic in the
arguments, and nothing is downloaded.
"""

import hashlib
import math
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from nasproxy.data import image_folder
from nasproxy.data.dataset import ImageDataset, Images, Labels
from nasproxy.data.image_folder import ImageFolder
from nasproxy.errors import DataError

MEAN, DEVIATION = 0.45, 0.14
"""Approximate mean and standard deviation of a colour; images in memory are normalized by them."""
FREQUENCIES = (1.5, 3.0)
"""Stripes per partial image, coarse and fine."""
CHUNK_PIXELS = 1 << 22


@lru_cache(maxsize=8)
def load(
    *,
    train_size: int = 3000,
    valid_size: int = 1000,
    classes: int = 10,
    image_size_px: int = 32,
    noise: float = 0.05,
    clutter: float = 0.25,
    seed: int = 0,
) -> ImageDataset:
    """Draw RGB images deterministically.

    Args:
        train_size: Number of training images; class counts differ by at most 1.
        valid_size: Number of validation images; class counts differ by at most 1.
        classes: Number of classes, at least 2.
        image_size_px: Side of an image.
        noise: Standard deviation of the Gaussian noise on colours in [0, 1].
        clutter: Contrast of the background stripes, in [0, 1].
        seed: Seed of all random numbers.

    Returns:
        Dataset with images of about zero mean and unit standard deviation.

    Raises:
        DataError: A value is out of range.
    """
    _check(min(train_size, valid_size), classes, image_size_px, noise, clutter)
    parts: list[tuple[Images, Labels]] = []
    for number, size in enumerate((train_size, valid_size)):
        generator = np.random.default_rng((seed, number))
        labels = _draw_labels(size, classes, generator)
        drawn = _draw(labels, classes, image_size_px, noise, clutter, generator)
        parts.append(((drawn - np.float32(MEAN)) / np.float32(DEVIATION), labels))
    (train_images, train_labels), (valid_images, valid_labels) = parts
    return ImageDataset(train_images, train_labels, valid_images, valid_labels)


def load_folder(
    *,
    images: int = 12,
    valid_images: int | None = None,
    classes: int = 2,
    source_px: int = 48,
    noise: float = 0.05,
    clutter: float = 0.25,
    seed: int = 0,
    cache_dir: str | None = None,
    image_size_px: int = 32,
    min_area: float = 0.08,
    policy: image_folder.Policy = "none",
    num_workers: int = 0,
) -> ImageFolder:
    """Write a small image folder if it does not exist yet, and list it with `nasproxy.data.image_folder.load`.

    Args:
        images: Number of training images.
        valid_images: Number of validation images; None for the number of training images.
        classes: Number of classes, at least 2.
        source_px: Side of the image files.
        noise: Standard deviation of the Gaussian noise on colours in [0, 1].
        clutter: Contrast of the background stripes, in [0, 1].
        seed: Seed of all random numbers.
        cache_dir: Parent folder of the image folder; None for the system's temporary folder.
        image_size_px: Side of the model's input images in full training.
        min_area: As in `nasproxy.data.image_folder.Reading`.
        policy: As in `nasproxy.data.image_folder.Reading`.
        num_workers: As in `nasproxy.data.image_folder.Reading`.

    Raises:
        DataError: A value is out of range.
    """
    drawn = {
        "images": images,
        "valid_images": images if valid_images is None else valid_images,
        "classes": classes,
        "source_px": source_px,
        "noise": noise,
        "clutter": clutter,
        "seed": seed,
    }
    name = hashlib.sha256(repr(sorted(drawn.items())).encode()).hexdigest()[:16]
    shared = Path(tempfile.gettempdir()) / f"nasproxy-generated-{os.getuid()}"
    root = (shared if cache_dir is None else Path(cache_dir)) / name
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root.parent))
        write_folder(partial, **drawn)  # type: ignore[arg-type]
        try:
            partial.rename(root)  # atomic: a partly written folder is never read
        except OSError:  # another process has written the same images
            shutil.rmtree(partial)
    return image_folder.load(
        str(root),
        image_size_px=image_size_px,
        min_area=min_area,
        policy=policy,
        num_workers=num_workers,
    )


def write_folder(
    root: Path,
    *,
    images: int,
    valid_images: int,
    classes: int = 2,
    source_px: int = 48,
    noise: float = 0.05,
    clutter: float = 0.25,
    seed: int = 0,
) -> None:
    """Write PNG files in the layout of `nasproxy.data.image_folder`, with arguments as in `load_folder`.

    Raises:
        DataError: A value is out of range.
    """
    _check(min(images, valid_images), classes, source_px, noise, clutter)
    digits = len(str(classes - 1))
    for part_number, (part, size) in enumerate(((image_folder.TRAIN, images), (image_folder.VALID, valid_images))):
        generator = np.random.default_rng((seed, part_number))
        labels = _draw_labels(size, classes, generator)
        drawn = _draw(labels, classes, source_px, noise, clutter, generator)
        pixels = np.round(255 * drawn.transpose(0, 2, 3, 1)).astype(np.uint8)
        for number, (label, image) in enumerate(zip(labels.tolist(), pixels, strict=True)):
            path = root / part / f"class{label:0{digits}d}" / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def _draw_labels(size: int, classes: int, generator: np.random.Generator) -> Labels:
    return generator.permutation(np.arange(size, dtype=np.int64) % classes)


def _draw(
    labels: Labels, classes: int, side: int, noise: float, clutter: float, generator: np.random.Generator
) -> Images:
    """Draw images with values in [0, 1], shape (n, 3, side, side)."""
    step = max(1, CHUNK_PIXELS // side**2)
    chunks = [
        _draw_chunk(labels[first : first + step], classes, side, noise, clutter, generator)
        for first in range(0, len(labels), step)
    ]
    return np.concatenate(chunks)


def _draw_chunk(
    labels: Labels, classes: int, side: int, noise: float, clutter: float, generator: np.random.Generator
) -> Images:
    count = len(labels)
    shapes = math.ceil(math.sqrt(classes))
    lobes = np.where(labels % shapes == 0, 0, labels % shapes + 1)
    texture = labels // shapes
    axis = np.linspace(1 / side - 1, 1 - 1 / side, side, dtype=np.float32)  # pixel centres in [-1, 1]
    dx = axis - _draw_uniform(generator, count, -0.3, 0.3)  # (n, 1, side)
    dy = axis[:, None] - _draw_uniform(generator, count, -0.3, 0.3)  # (n, side, 1)
    inside = _draw_shapes(dx, dy, lobes, generator)
    # At most a right angle, so that horizontal flips preserve the class.
    angle = math.pi / 2 * texture / max(1, math.ceil(classes / shapes) - 1)
    frequency = np.take(FREQUENCIES, texture % len(FREQUENCIES))
    stripes = _draw_stripes(dx, dy, angle, frequency, generator)
    behind = 0.5 + clutter * (_draw_stripes(dx, dy, *_draw_stripe_parameters(count, generator), generator) - 0.5)
    front, back = (_tint(part, generator) for part in (stripes, behind))
    image = back + inside[:, None] * (front - back)
    image += np.float32(noise) * generator.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, 0, 1, out=image)


def _draw_shapes(
    dx: Images, dy: Images, lobes: npt.NDArray[np.int64], generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Compute the share of each pixel that lies inside the shape, shape (n, side, side)."""
    count, side = len(lobes), dx.shape[-1]
    turn = _draw_uniform(generator, count, 0, 2 * math.pi)
    radius = _draw_uniform(generator, count, 0.45, 0.65)
    waves = np.cos(lobes.astype(np.float32)[:, None, None] * np.arctan2(dy, dx) + turn)
    edge = radius * (1 + np.float32(0.35) * waves * (lobes > 0)[:, None, None])
    inside: npt.NDArray[np.float32] = np.clip((edge - np.hypot(dx, dy)) * np.float32(side / 2) + 0.5, 0, 1)
    return inside


def _draw_stripes(
    dx: Images, dy: Images, angle: npt.ArrayLike, frequency: npt.ArrayLike, generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Draw sine waves in [0, 1] along each image's direction, shape (n, side, side)."""
    wave = 2 * math.pi * np.asarray(frequency, dtype=np.float32)[:, None, None]
    direction = np.asarray(angle, dtype=np.float32)[:, None, None]
    phase = _draw_uniform(generator, len(dx), 0, 2 * math.pi)
    along = dx * (wave * np.cos(direction)) + dy * (wave * np.sin(direction))
    return np.float32(0.5) + np.float32(0.5) * np.sin(along + phase)


def _draw_stripe_parameters(count: int, generator: np.random.Generator) -> tuple[npt.ArrayLike, npt.ArrayLike]:
    return generator.uniform(0, math.pi, count), generator.uniform(FREQUENCIES[0], FREQUENCIES[-1], count)


def _tint(shades: npt.NDArray[np.float32], generator: np.random.Generator) -> Images:
    """Map shades in [0, 1] to colours between a random dark and a random bright one, shape (n, 3, side, side)."""
    dark = generator.uniform(0.0, 0.4, (len(shades), 3, 1, 1)).astype(np.float32)
    bright = generator.uniform(0.5, 0.9, (len(shades), 3, 1, 1)).astype(np.float32)
    tinted: Images = dark + shades[:, None] * (bright - dark)
    return tinted


def _draw_uniform(generator: np.random.Generator, count: int, low: float, high: float) -> npt.NDArray[np.float32]:
    return generator.uniform(low, high, (count, 1, 1)).astype(np.float32)


def _check(size: int, classes: int, side: int, noise: float, clutter: float) -> None:
    if classes < 2:
        raise DataError(f"generated images need at least 2 classes, got {classes}: increase data.loader.classes")
    if size < classes:
        raise DataError(f"each of {classes} classes needs an image in each split, got {size} images: generate more")
    if side < 1:
        raise DataError(f"generated images need a side of at least 1 pixel, got {side}: increase it")
    if noise < 0:
        raise DataError(f"data.loader.noise must be at least 0, got {noise:g}: give a standard deviation")
    if not 0 <= clutter <= 1:
        raise DataError(f"data.loader.clutter must lie in [0, 1], got {clutter:g}: give a contrast")
