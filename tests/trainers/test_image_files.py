"""Batches of image files are functions of (seed, step), for any number of readers and any first step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nasproxy.data import generated
from nasproxy.data.dataset import take_split
from nasproxy.data.image_folder import FileSplit
from nasproxy.errors import ConfigError, DataError
from nasproxy.trainers.image_files import DEVIATION, MEAN, ImageFiles, make_training_transform, read_image
from nasproxy.trainers.settings import ClassifierSettings
from nasproxy.trials.spec import Split

CPU = torch.device("cpu")
Batches = list[tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> FileSplit:
    """Provide 18 training images, so that an epoch ends inside a batch of 8, and 6 validation images, augmented."""
    folder = generated.load_folder(
        images=24,
        classes=3,
        image_size_px=16,
        policy="trivial",
        cache_dir=str(tmp_path_factory.mktemp("images")),
    )
    return take_split(folder, split=Split.SEARCH, data_fraction=1.0, holdout_fraction=0.25, order_seed=0)


def files(split: FileSplit, *, batch_size: int = 8, trainer: Any = None, **changes: Any) -> ImageFiles:
    given: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.0, "momentum": 0.9}
    settings = ClassifierSettings(**{**given, "schedule": "cosine", "batch_size": batch_size, **(trainer or {})})
    return ImageFiles(split, settings, **{"seed": 3, "device": CPU, **changes})


RANDOM = {"flip": True, "erase": 0.5, "shift_px": 1, "mixup": 0.2}


def reading(split: FileSplit, **changes: Any) -> FileSplit:
    return replace(split, reading=replace(split.reading, **changes))


def same(left: Batches, right: Batches) -> bool:
    pairs = zip(left, right, strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def plain(split: FileSplit) -> FileSplit:
    """Make settings without random augmentation."""
    return reading(split, min_area=1.0, policy="none")


def test_batches_are_the_models_inputs(split: FileSplit) -> None:
    images, labels = next(files(split).batches(0, 1))
    assert (images.shape, images.dtype, labels.dtype) == ((8, 3, 16, 16), torch.float32, torch.int64)
    grey = Image.new("RGB", (48, 48), (100, 150, 200))
    pixels = make_training_transform(plain(split).reading, 1.0)(grey)
    assert pixels.unique().tolist() == [100, 150, 200]


def test_pixels_are_normalised_as_imagenets(split: FileSplit, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (100, 150, 200)).save(tmp_path / "one.png")
    one = replace(split, root=tmp_path, valid_paths=np.array([b"one.png"]), valid_labels=np.array([0]))
    ((images, _),) = files(one).validation()
    expected = [(c / 255 - m) / d for c, m, d in zip((100, 150, 200), MEAN, DEVIATION, strict=True)]
    torch.testing.assert_close(images[0, :, 7, 7], torch.tensor(expected))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(split: FileSplit, num_workers: int) -> None:
    alone, helped = (files(reading(split, num_workers=number), trainer=RANDOM) for number in (0, num_workers))
    assert same(list(alone.batches(0, 7)), list(helped.batches(0, 7)))
    assert same(list(alone.validation()), list(helped.validation()))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_training_has_the_same_batches(split: FileSplit, num_workers: int) -> None:
    whole = list(files(split, trainer=RANDOM).batches(0, 7))
    assert same(list(files(reading(split, num_workers=num_workers), trainer=RANDOM).batches(4, 7)), whole[4:])


def test_a_batch_depends_on_step_and_seed_only(split: FileSplit) -> None:
    torch.manual_seed(99)
    (left,) = files(split).batches(5, 6)
    torch.manual_seed(1)
    (right,), (other,), (later,) = (
        files(split).batches(5, 6),
        files(split, seed=4).batches(5, 6),
        files(split).batches(6, 7),
    )
    assert same([left], [right])
    assert not same([left], [other])
    assert not same([left], [later])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_dropout_depends_on_step_and_seed_only(split: FileSplit, num_workers: int) -> None:
    drawn = []
    for first in (0, 2):
        source = files(reading(split, num_workers=num_workers)).batches(first, 3)
        drawn.append([torch.rand(3) for _ in source][-1])
    assert torch.equal(*drawn)


def test_images_are_augmented_and_shuffled_differently_in_each_epoch(split: FileSplit) -> None:
    batches = list(files(split, batch_size=18).batches(0, 2))
    assert sorted(batches[0][1].tolist()) == sorted(batches[1][1].tolist())
    assert batches[0][1].tolist() != batches[1][1].tolist()
    seen = {image.numpy().tobytes() for images, _ in batches for image in images}
    assert len(seen) == 36


def test_labels_stay_with_their_images(split: FileSplit) -> None:
    known = {}
    for images, labels in files(plain(split), augmentation=0.0, batch_size=18).batches(0, 1):
        known = {image.numpy().tobytes(): label for image, label in zip(images, labels.tolist(), strict=True)}
    for images, labels in files(plain(split), batch_size=5).batches(0, 6):
        assert [known[image.numpy().tobytes()] for image in images] == labels.tolist()


def test_without_augmentation_a_crop_is_the_centre(split: FileSplit) -> None:
    (one,), (other,) = (files(split, augmentation=0.0, batch_size=18).batches(epoch, epoch + 1) for epoch in (0, 1))
    assert {image.numpy().tobytes() for image in one[0]} == {image.numpy().tobytes() for image in other[0]}


@pytest.mark.parametrize("policy", ["none", "trivial", "rand"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5, 3.0])
def test_every_strength_of_every_policy_gives_images(split: FileSplit, policy: str, strength: float) -> None:
    images, _ = next(files(reading(split, policy=policy), augmentation=strength).batches(0, 1))
    assert images.shape == (8, 3, 16, 16)


@pytest.mark.parametrize(("mode", "scale", "side"), [("resize", 0.5, 8), ("crop", 0.5, 8), ("resize", 0.75, 12)])
def test_a_smaller_image_is_read_smaller(split: FileSplit, mode: Any, scale: float, side: int) -> None:
    small = split.resized(scale, mode)
    for images, _ in (next(files(small).batches(0, 1)), next(files(small).validation())):
        assert images.shape[1:] == small.image_shape == (3, side, side)


def test_a_cropped_image_is_the_centre_of_the_whole_one(split: FileSplit) -> None:
    ((whole, _),), ((centre, _),) = (files(part).validation() for part in (split, split.resized(0.5, "crop")))
    assert torch.equal(whole[:, :, 4:12, 4:12], centre)
    still = reading(split, policy="none")
    ((whole, _),), ((centre, _),) = (files(part).batches(0, 1) for part in (still, still.resized(0.5, "crop")))
    assert torch.equal(whole[:, :, 4:12, 4:12], centre)


@pytest.mark.parametrize(("world_size", "sizes"), [(2, [4, 4]), (3, [2, 3, 3])])
def test_the_parts_of_all_ranks_form_the_batch(split: FileSplit, world_size: int, sizes: list[int]) -> None:
    whole = list(files(split).batches(0, 3))
    ranks = [list(files(split, rank=rank, world_size=world_size).batches(0, 3)) for rank in range(world_size)]
    joined = [tuple(torch.cat(parts) for parts in zip(*step, strict=True)) for step in zip(*ranks, strict=True)]
    assert same(whole, joined)  # type: ignore[arg-type]
    assert [len(batches[0][1]) for batches in ranks] == sizes


def test_ranks_draw_independently(split: FileSplit) -> None:
    drawn = [torch.rand(3) for rank in range(2) for _ in files(split, rank=rank, world_size=2).batches(0, 1)]
    assert not torch.equal(*drawn)


def test_batch_augmentations_apply_to_image_files(split: FileSplit) -> None:
    (plainly,), (mixed,) = (files(split, trainer=trainer).batches(0, 1) for trainer in ({}, {"mixup": 1.0}))
    assert mixed[1].shape == (8, 3)
    torch.testing.assert_close(mixed[1].sum(dim=1), torch.ones(8))
    assert not torch.equal(mixed[0], plainly[0])


def test_parts_that_cannot_be_mixed_are_refused(split: FileSplit) -> None:
    with pytest.raises(ConfigError, match=r"even number of images on every device, got 3 with trainer\.batch_size 6"):
        files(split, batch_size=6, trainer={"mixup": 1.0}, rank=0, world_size=2)


def test_a_rank_without_a_validation_image_is_refused(split: FileSplit) -> None:
    with pytest.raises(ConfigError, match=r"every device of a trial needs a validation image, got 6 images on 7"):
        files(split, rank=0, world_size=7)


def test_the_parts_of_all_ranks_form_the_validation_images(split: FileSplit) -> None:
    ((images, labels),) = files(split).validation()
    parts = [next(files(split, rank=rank, world_size=2).validation()) for rank in range(2)]
    assert torch.equal(torch.cat([part[0] for part in parts]), images)
    assert torch.equal(torch.cat([part[1] for part in parts]), labels)


@pytest.mark.parametrize(("parts", "sizes"), [({}, [6]), ({"micro_batch": 2}, [4, 2]), ({"world_size": 4}, [1])])
def test_a_validation_batch_has_at_most_twice_the_images_of_a_training_batch(
    split: FileSplit, parts: dict[str, int], sizes: list[int]
) -> None:
    source = files(split, batch_size=8, **parts)
    assert [len(labels) for _, labels in source.validation()] == sizes
    assert source.validation_batches == len(sizes)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_image_is_named(split: FileSplit, tmp_path: Path, num_workers: int) -> None:
    whole = (split.root / split.train_paths[0].decode()).read_bytes()
    (tmp_path / "broken.png").write_bytes(whole[: len(whole) // 2])
    broken = replace(
        reading(split, num_workers=num_workers),
        root=tmp_path,
        train_paths=np.array([b"broken.png"]),
        train_labels=np.array([0]),
        valid_paths=np.array([b"missing.png"]),
        valid_labels=np.array([0]),
    )
    with pytest.raises(DataError, match=r"^\S*broken\.png must be a readable image, got .*: restore or"):
        list(files(broken).batches(0, 1))
    with pytest.raises(DataError, match=r"^\S*missing\.png must be a readable image, got .*No such file"):
        list(files(broken).validation())


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("CMYK", (1, 2, 3, 4)), ("RGBA", (1, 2, 3, 4)), ("P", 3)])
def test_every_kind_of_image_is_read_as_rgb(tmp_path: Path, mode: str, colour: Any) -> None:
    Image.new(mode, (8, 6), colour).save(tmp_path / "one.tif")
    image = read_image(tmp_path, b"one.tif")
    assert (image.mode, image.size) == ("RGB", (8, 6))


def test_nothing_is_read_before_a_batch_is_requested(split: FileSplit, tmp_path: Path) -> None:
    gone = replace(split, root=tmp_path)
    assert files(gone).validation_batches == 1
    source = files(gone).batches(0, 1)
    with pytest.raises(DataError, match=r"No such file"):
        next(source)


def test_loader_processes_end_with_their_iterator(split: FileSplit) -> None:
    import multiprocessing

    source = files(reading(split, num_workers=2)).batches(0, 100)
    next(source)
    assert len(multiprocessing.active_children()) == 2
    source.close()
    assert multiprocessing.active_children() == []
