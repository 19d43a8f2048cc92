"""Generated images: deterministic, balanced, in memory and as an image folder."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasproxy.data import generated
from nasproxy.data.dataset import take_split
from nasproxy.errors import DataError
from nasproxy.trials.spec import Split

SMALL = {"train_size": 30, "valid_size": 11, "classes": 3, "image_size_px": 16}


def test_equal_arguments_give_equal_images_without_drawing_twice() -> None:
    assert generated.load(**SMALL) is generated.load(**SMALL)
    fingerprint = generated.load(**SMALL).fingerprint
    generated.load.cache_clear()
    assert generated.load(**SMALL).fingerprint == fingerprint
    assert generated.load(**SMALL, seed=1).fingerprint != fingerprint


def test_sizes_are_as_requested_and_classes_are_balanced() -> None:
    dataset = generated.load(**SMALL)
    assert dataset.train_images.shape == (30, 3, 16, 16)
    assert dataset.valid_images.shape == (11, 3, 16, 16)
    assert (dataset.num_classes, dataset.train_images.shape[1:]) == (3, (3, 16, 16))
    assert np.bincount(dataset.train_labels).tolist() == [10, 10, 10]
    assert sorted(np.bincount(dataset.valid_labels).tolist()) == [3, 4, 4]


def test_images_are_about_normalised_and_all_different() -> None:
    dataset = generated.load(train_size=400, valid_size=100)
    assert abs(dataset.train_images.mean()) < 0.2
    assert 0.7 < dataset.train_images.std() < 1.3
    images = np.concatenate([dataset.train_images, dataset.valid_images])
    assert len({image.tobytes() for image in images}) == 500


def test_large_datasets_are_drawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    generated.load.cache_clear()
    monkeypatch.setattr(generated, "CHUNK_PIXELS", 16 * 16 * 7)
    dataset = generated.load(**SMALL)
    generated.load.cache_clear()
    assert dataset.train_images.shape == (30, 3, 16, 16)
    assert np.isfinite(dataset.train_images).all()


def test_noise_has_the_requested_standard_deviation() -> None:
    quiet, noisy = (generated.load(**{**SMALL, "noise": noise}).train_images for noise in (0.0, 0.1))
    apart = (noisy - quiet) * generated.DEVIATION
    assert apart.std() == pytest.approx(0.1, rel=0.1)


def test_the_mean_colour_does_not_identify_the_class() -> None:
    dataset = generated.load(train_size=600, valid_size=300, classes=4)
    colours, others = (images.mean(axis=(2, 3)) for images in (dataset.train_images, dataset.valid_images))
    centres = np.stack([colours[dataset.train_labels == label].mean(axis=0) for label in range(4)])
    guesses = np.linalg.norm(others[:, None] - centres, axis=2).argmin(axis=1)
    assert (guesses == dataset.valid_labels).mean() < 0.4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 1}, "at least 2 classes, got 1"),
        ({"valid_size": 2}, "each of 3 classes needs an image in each split, got 2 images"),
        ({"image_size_px": 0}, "a side of at least 1 pixel, got 0"),
        ({"noise": -0.1}, r"noise must be at least 0, got -0\.1"),
        ({"clutter": 1.5}, r"clutter must lie in \[0, 1\], got 1\.5"),
    ],
)
def test_arguments_that_cannot_be_drawn_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        generated.load(**{**SMALL, **changes})


def test_a_folder_is_written_once_and_atomically(tmp_path: Path) -> None:
    dataset = generated.load_folder(images=12, cache_dir=str(tmp_path))
    files = sorted(path for path in tmp_path.rglob("*.png"))
    times = [path.stat().st_mtime_ns for path in files]
    assert (len(files), len(dataset.train_paths), len(dataset.valid_paths)) == (24, 12, 12)
    assert [path.name.startswith(".") for path in tmp_path.iterdir()] == [False], "nothing half written is left"
    again = generated.load_folder(images=12, cache_dir=str(tmp_path), image_size_px=24)
    assert again.root == dataset.root
    assert [path.stat().st_mtime_ns for path in files] == times
    assert again.fingerprint == dataset.fingerprint


def test_other_arguments_give_another_folder(tmp_path: Path) -> None:
    roots = {generated.load_folder(cache_dir=str(tmp_path), **more).root for more in ({}, {"seed": 1}, {"classes": 3})}
    assert len(roots) == 3


def test_concurrent_processes_write_a_single_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        roots = set(threads.map(lambda _: generated.load_folder(cache_dir=str(tmp_path)).root, range(4)))
    assert list(tmp_path.iterdir()) == list(roots)


def test_image_files_are_rgb_and_of_the_requested_size(tmp_path: Path) -> None:
    dataset = generated.load_folder(cache_dir=str(tmp_path), source_px=40)
    with Image.open(dataset.root / os.fsdecode(dataset.train_paths[0])) as image:
        assert (image.mode, image.size) == ("RGB", (40, 40))
    split = take_split(dataset, split=Split.FULL, data_fraction=0.5, holdout_fraction=0.25, order_seed=0)
    assert len(split.train_paths) == 6
