"""A newcomer follows a training from the command to the trainer's first line through few files."""

import pytest

from helpers import cli
from helpers.executed_files import list_executed_files


@pytest.mark.slow
def test_the_call_path_from_composition_to_the_trainer_has_at_most_20_files() -> None:
    path, every = list_executed_files(*cli.SMALL, "job=measure_variance")
    assert path[:1] == ["nasproxy/cli/__init__.py"]
    assert "nasproxy/execution/worker/main.py" in path
    assert len(path) <= 20, path
    assert set(path) - set(every) <= {"nasproxy/trainers/arguments.py"}
