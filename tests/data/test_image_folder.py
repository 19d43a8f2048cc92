"""Image folders: listing without opening files, splits as of images in memory, error messages."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasproxy.data import image_folder
from nasproxy.data.dataset import ImageDataset, take_split
from nasproxy.data.image_folder import FileSplit, ImageFolder
from nasproxy.errors import DataError
from nasproxy.trials.spec import Split


def write(root: Path, part: str, counts: dict[str, int], content: bytes = b"no image") -> None:
    for name, count in counts.items():
        (root / part / name).mkdir(parents=True)
        for number in range(count):
            (root / part / name / f"{number:04d}.jpg").write_bytes(content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "train", {"dog": 6, "cat": 4, "eel": 10})
    write(tmp_path, "val", {"eel": 1, "cat": 2})
    return tmp_path


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    """Provide 1,000 files in classes of 100 and 300."""
    root = tmp_path_factory.mktemp("thousand")
    write(root, "train", {"a": 100, "b": 300, "c": 300, "d": 300})
    write(root, "val", {"a": 3, "b": 3, "c": 3, "d": 3})
    return image_folder.load(str(root))


def taken(dataset: ImageFolder, **settings: Any) -> FileSplit:
    defaults = {"split": Split.FULL, "data_fraction": 1.0, "holdout_fraction": 0.1, "order_seed": 0}
    return take_split(dataset, **{**defaults, **settings})


def test_classes_are_sorted_by_name_and_files_within_them(root: Path) -> None:
    dataset = image_folder.load(str(root))
    assert dataset.classes == ("cat", "dog", "eel")
    assert np.bincount(dataset.train_labels).tolist() == [4, 6, 10]
    assert dataset.train_paths.tolist() == sorted(dataset.train_paths.tolist())
    assert dataset.valid_paths.tolist() == [b"val/cat/0000.jpg", b"val/cat/0001.jpg", b"val/eel/0000.jpg"]
    assert dataset.valid_labels.tolist() == [0, 0, 2]
    assert (dataset.num_classes, dataset.reading.image_size_px) == (3, 224)


def test_no_file_is_opened_to_list_and_split_them(root: Path) -> None:
    for path in root.rglob("*.jpg"):
        path.chmod(0)  # the content of the files is not an image
    assert len(taken(image_folder.load(str(root))).train_paths) == 20


def test_names_with_special_characters_are_kept(tmp_path: Path) -> None:
    write(tmp_path, "train", {"chêne d'été": 1, "犬": 1})
    write(tmp_path, "val", {"犬": 1})
    dataset = image_folder.load(str(tmp_path))
    assert [path.decode() for path in dataset.valid_paths.tolist()] == ["val/犬/0000.jpg"]


def test_a_quarter_of_a_thousand_files_is_250_in_proportion_to_the_classes(thousand: ImageFolder) -> None:
    sizes = {fraction: len(taken(thousand, data_fraction=fraction).train_paths) for fraction in (0.25, 0.5, 0.75, 0.95)}
    assert sizes == {0.25: 250, 0.5: 500, 0.75: 750, 0.95: 950}
    assert np.bincount(taken(thousand, data_fraction=0.25).train_labels).tolist() == [25, 75, 75, 75]
    equal = taken(thousand, data_fraction=0.25, balance="equal")
    assert sorted(np.bincount(equal.train_labels).tolist()) == [62, 62, 63, 63]


@pytest.mark.parametrize("split", list(Split))
def test_a_smaller_fraction_is_a_prefix_of_a_larger_one_and_validation_never_shrinks(
    thousand: ImageFolder, split: Split
) -> None:
    parts = [taken(thousand, split=split, data_fraction=fraction) for fraction in (0.25, 0.5, 0.75, 0.95, 1.0)]
    for smaller, larger in pairwise(parts):
        kept = smaller.train_paths.tolist()
        assert kept == larger.train_paths.tolist()[: len(kept)]
        assert smaller.valid_paths.tolist() == larger.valid_paths.tolist()


def test_a_search_trains_and_scores_on_disjoint_training_files(thousand: ImageFolder) -> None:
    split = taken(thousand, split=Split.SEARCH)
    train, scoring = set(split.train_paths.tolist()), set(split.valid_paths.tolist())
    assert (len(train), len(scoring)) == (900, 100)
    assert train.isdisjoint(scoring)
    assert train | scoring == set(thousand.train_paths.tolist())
    assert np.bincount(split.valid_labels).tolist() == [10, 30, 30, 30]


def test_a_full_training_is_scored_on_the_validation_files(thousand: ImageFolder) -> None:
    split = taken(thousand)
    assert sorted(split.train_paths.tolist()) == thousand.train_paths.tolist()
    assert split.valid_paths.tolist() == thousand.valid_paths.tolist()


def test_labels_stay_with_their_files(thousand: ImageFolder) -> None:
    split = taken(thousand, split=Split.SEARCH, data_fraction=0.5)
    for paths, labels in ((split.train_paths, split.train_labels), (split.valid_paths, split.valid_labels)):
        assert [thousand.classes[label] for label in labels] == [path.split(b"/")[1].decode() for path in paths]


def test_files_are_split_as_images_in_memory_are(thousand: ImageFolder) -> None:
    numbers = np.arange(1000, dtype=np.float32)[:, None, None, None]
    arrays = ImageDataset(numbers, thousand.train_labels, numbers[:10], thousand.train_labels[:10])
    settings: dict[str, Any] = {"split": Split.SEARCH, "data_fraction": 0.3, "holdout_fraction": 0.2, "order_seed": 5}
    images, files = take_split(arrays, **settings), take_split(thousand, **settings)
    kept, scoring = (part[:, 0, 0, 0].astype(int) for part in (images.train_images, images.valid_images))
    assert thousand.train_paths[kept].tolist() == files.train_paths.tolist()
    assert thousand.train_paths[scoring].tolist() == files.valid_paths.tolist()


@pytest.mark.parametrize(
    ("mode", "scale", "expected"),
    [
        ("resize", 0.5, (112, 112)),
        ("resize", 0.75, (168, 168)),
        ("resize", 0.001, (1, 1)),
        ("crop", 0.5, (224, 112)),
        ("crop", 0.001, (224, 1)),
    ],
)
def test_a_proxy_task_scales_the_image(
    thousand: ImageFolder, mode: Any, scale: float, expected: tuple[int, int]
) -> None:
    split = taken(thousand).resized(scale, mode)
    assert (split.reading.view_px, split.reading.image_size_px) == expected
    assert split.image_shape == (3, expected[1], expected[1])


def test_the_fingerprint_depends_on_names_and_sizes_and_not_on_the_root(root: Path, tmp_path: Path) -> None:
    before = image_folder.load(str(root)).fingerprint
    moved = root.rename(tmp_path.with_name("moved"))
    assert image_folder.load(str(moved), image_size_px=32).fingerprint == before
    image = moved / "train" / "dog" / "0003.jpg"
    image.write_bytes(b"ho image")
    assert image_folder.load(str(moved)).fingerprint == before, "content is not read"
    image.write_bytes(b"longer image")
    longer = image_folder.load(str(moved)).fingerprint
    image.rename(image.with_name("9.jpg"))
    assert len({before, longer, image_folder.load(str(moved)).fingerprint}) == 3


def test_hidden_files_are_left_out(root: Path) -> None:
    before = image_folder.load(str(root)).fingerprint
    (root / "train" / ".DS_Store").write_bytes(b"x")
    (root / "train" / "dog" / "._0001.jpg").write_bytes(b"x")
    assert image_folder.load(str(root)).fingerprint == before


def break_root(root: Path, how: str) -> None:
    if how == "no val":
        (root / "val").rename(root / "valid")
    elif how == "empty class":
        (root / "train" / "ant").mkdir()
    elif how == "unknown class":
        write(root, "val", {"fox": 1})
    elif how == "flat val":
        (root / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x")
    elif how == "no image":
        (root / "train" / "cat" / "labels.csv").write_bytes(b"x")
    elif how == "empty file":
        (root / "train" / "cat" / "0001.jpg").write_bytes(b"")
    elif how == "no class":
        (root / "train").rename(root / "old")
        (root / "train").mkdir()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no val", r"got no folder .*val: set data\.loader\.root"),
        ("empty class", r"ant must contain at least 1 image, got none"),
        ("unknown class", r"val must contain only classes of .*train, got fox too"),
        ("flat val", r"must contain only folders of classes, got the file ILSVRC2012_val_00000001\.JPEG"),
        ("no image", r"labels\.csv must be an image"),
        ("empty file", r"0001\.jpg must be an image, got an empty file"),
        ("no class", r"train must contain a folder for each class, got none"),
    ],
)
def test_a_folder_of_another_layout_is_refused(root: Path, how: str, message: str) -> None:
    break_root(root, how)
    with pytest.raises(DataError, match=message):
        image_folder.load(str(root))


def test_one_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", {"cat": 2})
    write(tmp_path, "val", {"cat": 2})
    with pytest.raises(DataError, match=r"at least 2 folders of classes, got 1"):
        image_folder.load(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("image_size_px", 0, "at least 1"),
        ("min_area", 0.0, r"in \(0, 1\]"),
        ("policy", "auto", "none or trivial or rand"),
        ("num_workers", -1, "at least 0"),
    ],
)
def test_a_value_out_of_range_is_refused(root: Path, name: str, value: Any, needed: str) -> None:
    with pytest.raises(DataError, match=f"data.loader.{name} must be {needed}, got {value}"):
        image_folder.load(str(root), **{name: value})
