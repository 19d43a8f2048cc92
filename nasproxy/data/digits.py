"""The embedded dataset: scikit-learn's handwritten digits with random shifts and noise."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from nasproxy.data.dataset import ImageDataset, Images, resize_images
from nasproxy.errors import DataError

SOURCE_MAXIMUM = 16.0


@lru_cache(maxsize=8)
def load(
    *,
    train_size: int = 1000,
    digit_px: int = 16,
    canvas_px: int = 20,
    noise: float = 0.1,
    train_renders: int = 1,
    valid_renders: int = 1,
    seed: int = 0,
) -> ImageDataset:
    """Render the digits deterministically; nothing is downloaded.

    Each digit is used for either training or validation. It is enlarged, pasted at a random position of an empty
    canvas, and overlaid with noise.

    Args:
        train_size: Number of training digits, of 1,797; the others are for validation.
        digit_px: Side of an enlarged digit; 8 in the source.
        canvas_px: Side of an image.
        noise: Standard deviation of the Gaussian noise on pixels in [0, 1].
        train_renders: Renders of each training digit, each at a random position with independent noise. The holdout
            of the search split keeps the renders of a digit together.
        valid_renders: Renders of each validation digit; more renders give scores of finer resolution.
        seed: Seed of the split, the positions and the noise.

    Returns:
        Dataset of 10 classes, with images of one channel.

    Raises:
        DataError: A size, the noise or the number of renders is out of range.
    """
    source, labels = load_digits(return_X_y=True)
    if not 0 < train_size < len(labels):
        raise DataError(f"train_size must lie in [1, {len(labels) - 1}], got {train_size}: leave digits for validation")
    _check_rendering(digit_px, canvas_px, noise, min(train_renders, valid_renders))
    digits = resize_images((source.reshape(-1, 1, 8, 8) / SOURCE_MAXIMUM).astype(np.float32), digit_px)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    train = np.repeat(order[:train_size], train_renders)
    valid = np.repeat(order[train_size:], valid_renders)
    return ImageDataset(
        train_images=_render(digits[train], canvas_px, noise, generator),
        train_labels=labels[train].astype(np.int64),
        valid_images=_render(digits[valid], canvas_px, noise, generator),
        valid_labels=labels[valid].astype(np.int64),
        renders=train_renders,
    )


def _render(digits: Images, canvas_px: int, noise: float, generator: np.random.Generator) -> Images:
    count, _, side, _ = digits.shape
    rows = _draw_positions(generator, count, canvas_px - side, side)
    columns = _draw_positions(generator, count, canvas_px - side, side)
    canvas = np.zeros((count, 1, canvas_px, canvas_px), dtype=np.float32)
    canvas[np.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]] = digits[:, 0]
    canvas += noise * generator.standard_normal(canvas.shape, dtype=np.float32)
    return canvas


def _draw_positions(generator: np.random.Generator, count: int, room: int, side: int) -> npt.NDArray[np.int64]:
    """Draw the rows (or columns) of the canvas that each digit covers, shape (count, side)."""
    return generator.integers(0, room + 1, size=(count, 1)) + np.arange(side)


def _check_rendering(digit_px: int, canvas_px: int, noise: float, renders: int) -> None:
    if not 1 <= digit_px <= canvas_px:
        raise DataError(
            f"digit_px must lie in [1, canvas_px], got {digit_px} with canvas_px {canvas_px}: increase canvas_px"
        )
    if noise < 0:
        raise DataError(f"noise must be at least 0, got {noise:g}: give a standard deviation")
    if renders < 1:
        raise DataError(
            f"train_renders and valid_renders must be at least 1, got {renders}: give 1 to render each digit once"
        )
