"""`job=describe_space` on the command line."""

from pathlib import Path

import pytest
import yaml

from helpers import cli, search_spaces

JOB = "job=describe_space"
SPACE = {"name": "mine", "model": {"_target_": "nasproxy.models.small_cnn.build"}, "choices": search_spaces.FEATURES}


def described(*overrides: str, folder: Path, space: object = None) -> tuple[int, str]:
    """Describe a space of the configuration or a given one, and check that no study is created."""
    flags: tuple[str, ...] = ()
    if space is not None:
        path = folder / "conf" / "search_space" / "mine.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(space, sort_keys=False))
        flags = (f"--config-dir={folder / 'conf'}", "search_space=mine")
    code, output = cli.run(*flags, *overrides, JOB, folder=folder / "studies")
    assert not (folder / "studies").exists(), "no study is created"
    assert "Traceback" not in output
    return code, output


@pytest.mark.gate
def test_a_description_counts_the_space_and_builds_some_of_its_models(tmp_path: Path) -> None:
    code, output = described("backend=inline", "data.loader.train_size=200", "job.samples=2", folder=tmp_path)
    assert code == 0, output
    for line in ("digits_cnn: 9 decisions", "points: 2,592", "│   ├── channels: 8 | 16 | 32"):
        assert line in output.splitlines()
    rows = [line.split("\t") for line in output.splitlines() if "\t" in line]
    assert [row[0] for row in rows] == ["", "baseline", "0", "1"]
    assert rows[0][2:] == ["parameters", "MFLOPs"]
    assert int(rows[1][2].replace(",", "")) > 1000
    assert 0 < float(rows[1][3]) < 10
    assert "sizes are for the images and classes of nasproxy.data.digits.load" in output


def test_sizes_are_unknown_if_the_trainer_loads_its_own_data(tmp_path: Path) -> None:
    code, output = described("experiment=debug", folder=tmp_path)
    assert code == 0, output
    rows = [line.split("\t") for line in output.splitlines() if "\t" in line]
    assert rows[0] == ["", "architecture"]
    assert len(rows) == 1 + 1 + 5
    assert "advice: with more than 10 values of a choice, each is sampled too rarely: quality (50), twin (40)" in output


def test_a_space_without_models_gives_no_error_about_sizes(tmp_path: Path) -> None:
    code, output = described("search_space=synthetic", folder=tmp_path)
    assert code == 0, output
    assert "could not be built" not in output


def test_a_space_with_every_feature_can_be_configured(tmp_path: Path) -> None:
    baseline = {"activation": "silu", "stem": {"kernel": 3}, "inputs": [1, 4], "order": [3, 2, 3]}
    blocks = {0: {"op": "conv"}, 1: {"op": "conv", "expand": 6}}
    space = {**SPACE, "baseline": {**baseline, "blocks": blocks}}
    code, output = described("experiment=debug", "job.samples=0", folder=tmp_path, space=space)
    assert code == 0, output
    assert "baseline\tactivation=silu; stem: kernel=3; blocks.0: op=conv; blocks.1: op=conv expand=6" in output
    assert "mine: 16 decisions" in output


@pytest.mark.gate
def test_models_that_cannot_be_built_are_reported(tmp_path: Path) -> None:
    small = ("backend=inline", "data.loader.train_size=200", "job.samples=1")
    code, output = described(*small, folder=tmp_path, space=SPACE)
    assert code == 0, output
    assert "a model could not be built: " in output


@pytest.mark.parametrize(
    ("overrides", "space", "message"),
    [
        (["job.samples=-1"], None, "job.samples must be at least 0, got -1"),
        (["dry_run=true"], None, "dry_run needs a job that trains, got job=describe_space"),
        ([], {**SPACE, "choices": {"a": {"oneof": [1, 2], "when": {"b": 1}}, "b": [1, 2]}}, "on something later, 'b'"),
        ([], {**SPACE, "choices": {"a": [1, 2], "b": []}}, "choice 'b' of 'mine' needs a list of values, got []"),
        ([], {**SPACE, "baseline": {"activation": "gelu"}}, "choice 'activation' of 'mine' must be one of"),
    ],
)
def test_invalid_descriptions_are_refused(tmp_path: Path, overrides: list[str], space: object, message: str) -> None:
    code, output = described("experiment=debug", *overrides, folder=tmp_path, space=space)
    assert code == 2, output
    assert message in output
