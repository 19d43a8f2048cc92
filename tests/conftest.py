"""Fixtures of several tests, and the order of tests."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from helpers.debug_study import debug_study
from helpers.s3_server import make_bucket, s3_endpoint
from helpers.written_studies import (
    full_study,
    grown_page,
    grown_study,
    new_study,
    page,
    tasks,
    vertex_page,
    vertex_study,
)
from nasproxy import torchvision_gap as torchvision_gap  # before a test imports torchvision
from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.integrations.vertex.state_files import VertexStateFiles
from nasproxy.stages.runner import Runtime
from nasproxy.storage.trial_stores import FolderTrialStore

__all__ = [
    "debug_study",
    "full_study",
    "grown_page",
    "grown_study",
    "make_bucket",
    "make_runtime",
    "new_study",
    "page",
    "s3_endpoint",
    "tasks",
    "vertex_page",
    "vertex_study",
]

settings.register_profile("no stopwatch", deadline=None)
settings.load_profile("no stopwatch")

MakeRuntime = Callable[..., Runtime]


@pytest.fixture
def make_runtime() -> Iterator[MakeRuntime]:
    """Make runtimes on real folders with a real local backend."""
    made: list[LocalBackend] = []

    def make(
        folder: Path, *, max_attempts: int = 2, trusted_modules: Sequence[str] = ("nasproxy",), **options: Any
    ) -> Runtime:
        store = FolderTrialStore(folder / "trials")
        made.append(LocalBackend(context=BackendContext(store, folder), **{"slots": 2, **options}))
        orders = OrderTemplate(folder, tuple(trusted_modules), max_attempts=max_attempts)
        return Runtime(store, made[-1], VertexStateFiles(study=folder), orders, poll_seconds=0.1, grace_seconds=5.0)

    yield make
    for backend in made:
        backend.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests first, so that all workers finish at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("gate") is None)
