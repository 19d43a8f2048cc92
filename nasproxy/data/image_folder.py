"""Datasets of image files that do not fit in memory, in the layout of ImageNet: ROOT/{train,val}/CLASS/*."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from nasproxy.data.dataset import Labels, Order, Shape, scale_side
from nasproxy.errors import DataError
from nasproxy.trials.proxy_task import ResizeMode

Paths: TypeAlias = npt.NDArray[np.bytes_]
"""Paths relative to the root, separated by '/', in the file system's encoding."""
Policy: TypeAlias = Literal["none", "trivial", "rand"]

TRAIN, VALID = "train", "val"
ENDINGS = frozenset({"bmp", "jpeg", "jpg", "png", "ppm", "tif", "tiff", "webp"})
LAYOUT = f"ROOT/{TRAIN}/CLASS/* and ROOT/{VALID}/CLASS/*"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Settings for decoding, cropping, resizing and augmenting image files; batch augmentations belong to the trainer.

    Attributes:
        view_px: Side of the crop: a random resized crop in training; in validation the centre crop after resizing
            the shorter side to 8/7 of this (256 for 224).
        image_size_px: Side of the model's input images: the centre of the crop.
        min_area: Smallest share of the image's area in a random crop, in (0, 1].
        policy: Augmentation policy in training: `none`, `trivial` (TrivialAugment, wide) or `rand` (RandAugment,
            2 operations at magnitude 9 of 30).
        num_workers: Number of reading processes; 0 reads in the trial's process. Does not affect the images.

    Raises:
        DataError: A value is out of range.
    """

    view_px: int
    image_size_px: int
    min_area: float = 0.08
    policy: Policy = "none"
    num_workers: int = 0

    def __post_init__(self) -> None:
        _check("image_size_px", self.image_size_px, "at least 1", 1 <= self.image_size_px <= self.view_px)
        _check("min_area", self.min_area, "in (0, 1]", 0 < self.min_area <= 1)
        _check("policy", self.policy, " or ".join(get_args(Policy)), self.policy in get_args(Policy))
        _check("num_workers", self.num_workers, "at least 0", self.num_workers >= 0)

    def resized(self, scale: float, mode: ResizeMode) -> "Reading":
        """Return settings for another size: mode `crop` takes a smaller centre, mode `resize` scales the crop too."""
        side = scale_side(self.image_size_px, scale)
        if mode == "crop":
            return replace(self, image_size_px=side)
        return replace(self, image_size_px=side, view_px=max(side, scale_side(self.view_px, scale)))


@dataclass(frozen=True, eq=False)
class FileSplit:
    """The training and scoring files of one trial, not decoded.

    Attributes:
        root: Folder that the paths are relative to.
        train_paths: Shape (n_train,).
        train_labels: int64 classes, shape (n_train,).
        valid_paths: Shape (n_valid,).
        valid_labels: int64 classes, shape (n_valid,).
        num_classes: Number of classes of the whole dataset; a small subset may lack some.
        reading: Settings for reading the files.
    """

    root: Path
    train_paths: Paths
    train_labels: Labels
    valid_paths: Paths
    valid_labels: Labels
    num_classes: int
    reading: Reading

    @property
    def image_shape(self) -> Shape:
        """Channels, height and width of the model's input images."""
        return 3, self.reading.image_size_px, self.reading.image_size_px

    def resized(self, scale: float, mode: ResizeMode) -> "FileSplit":
        """Return the same files, read with the side multiplied by `scale`, at least 1 pixel."""
        return replace(self, reading=self.reading.resized(scale, mode))


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Labelled image files, for training and for validation.

    Attributes:
        root: Folder that the paths are relative to.
        classes: Sorted names of the classes; a label is an index into them.
        train_paths: Sorted, shape (n_train,).
        train_labels: int64 classes, shape (n_train,).
        train_bytes: int64 sizes of the files, shape (n_train,).
        valid_paths: Sorted, shape (n_valid,).
        valid_labels: int64 classes, shape (n_valid,).
        valid_bytes: int64 sizes of the files, shape (n_valid,).
        reading: Settings for reading the files.
    """

    renders: ClassVar[int] = 1

    root: Path
    classes: tuple[str, ...]
    train_paths: Paths
    train_labels: Labels
    train_bytes: npt.NDArray[np.int64]
    valid_paths: Paths
    valid_labels: Labels
    valid_bytes: npt.NDArray[np.int64]
    reading: Reading

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hexadecimal of the relative paths and sizes of all files; contents are not read."""
        digest = hashlib.sha256()
        for paths, sizes in ((self.train_paths, self.train_bytes), (self.valid_paths, self.valid_bytes)):
            lines = (b"%s\0%d\n" % entry for entry in zip(paths.tolist(), sizes.tolist(), strict=True))
            digest.update(b"".join(lines))
        return digest.hexdigest()

    def part(self, train: Order, scoring: Order | None) -> FileSplit:
        """Select training files by index, to train on and to score on; None scores on the validation files."""
        valid_paths, valid_labels = self.valid_paths, self.valid_labels
        if scoring is not None:
            valid_paths, valid_labels = self.train_paths[scoring], self.train_labels[scoring]
        return FileSplit(
            self.root,
            self.train_paths[train],
            self.train_labels[train],
            valid_paths,
            valid_labels,
            self.num_classes,
            self.reading,
        )


def load(
    root: str,
    *,
    image_size_px: int = 224,
    min_area: float = 0.08,
    policy: Policy = "none",
    num_workers: int = 0,
) -> ImageFolder:
    """List an image folder without opening the images.

    Args:
        root: Folder that contains `train` and `val`, each with one folder per class; the classes are those of `train`.
        image_size_px: Side of the model's input images in full training.
        min_area: Smallest share of the image's area in a random crop, in (0, 1].
        policy: Augmentation policy, as in `Reading`.
        num_workers: Number of reading processes, as in `Reading`.

    Raises:
        DataError: A folder is missing or contains other files; a class is empty or has no training images; or a value
            is out of range.
    """
    reading = Reading(
        view_px=image_size_px,
        image_size_px=image_size_px,
        min_area=min_area,
        policy=policy,
        num_workers=num_workers,
    )
    folder = Path(root).expanduser().absolute()
    train, valid = (_list_class_folders(folder, part) for part in (TRAIN, VALID))
    classes = tuple(sorted(train, key=os.fsencode))
    if len(classes) < 2:
        raise DataError(f"{folder / TRAIN} must contain at least 2 folders of classes, got {len(classes)}: add classes")
    unknown = sorted(set(valid) - set(train))
    if unknown:
        raise DataError(
            f"{folder / VALID} must contain only classes of {folder / TRAIN}, got {', '.join(unknown[:5])} too: add "
            f"training images of these classes, or remove the folders"
        )
    labels = {name: label for label, name in enumerate(classes)}
    return ImageFolder(
        folder, classes, *_list_files(folder, train, labels), *_list_files(folder, valid, labels), reading
    )


def _list_class_folders(root: Path, part: str) -> dict[str, Path]:
    folder = root / part
    if not folder.is_dir():
        raise DataError(f"data.loader.root must contain {LAYOUT}, got no folder {folder}: set data.loader.root")
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    stray_files = sorted(entry.name for entry in visible if not entry.is_dir())
    if stray_files:
        raise DataError(
            f"{folder} must contain only folders of classes, got the file {stray_files[0]}: move it into the folder of "
            f"its class, or remove it"
        )
    if not visible:
        raise DataError(f"{folder} must contain a folder for each class, got none: arrange the images as {LAYOUT}")
    return {entry.name: Path(entry.path) for entry in visible}


def _list_files(
    root: Path, folders: Mapping[str, Path], labels: Mapping[str, int]
) -> tuple[Paths, Labels, npt.NDArray[np.int64]]:
    """List paths, labels and sizes of the files of all classes, in the order of the labels."""
    paths: list[bytes] = []
    sizes: list[int] = []
    counts: list[int] = []
    classes = sorted(folders, key=labels.__getitem__)
    for name in classes:
        files = _list_images(folders[name])
        prefix = os.fsencode(folders[name].relative_to(root).as_posix()) + b"/"
        paths += [prefix + os.fsencode(file) for file, _ in files]
        sizes += [size for _, size in files]
        counts.append(len(files))
    numbers = np.array([labels[name] for name in classes], dtype=np.int64)
    return np.array(paths, dtype=np.bytes_), np.repeat(numbers, counts), np.array(sizes, dtype=np.int64)


def _list_images(folder: Path) -> list[tuple[str, int]]:
    """List names and sizes of the images of a class, sorted by name."""
    with os.scandir(folder) as entries:
        files = sorted((entry.name, entry.stat().st_size) for entry in entries if not entry.name.startswith("."))
    if not files:
        raise DataError(f"{folder} must contain at least 1 image, got none: add images, or remove the folder")
    for name, size in files:
        if name.rpartition(".")[2].lower() not in ENDINGS:
            raise DataError(
                f"{folder / name} must be an image ({', '.join(sorted(ENDINGS))}), got another extension: remove or "
                f"rename it"
            )
        if size == 0:
            raise DataError(f"{folder / name} must be an image, got an empty file: restore or remove it")
    return files


def _check(name: str, value: object, needed: str, is_right: bool) -> None:
    if not is_right:
        raise DataError(f"data.loader.{name} must be {needed}, got {value}")
