from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nasproxy.backends.local import LocalBackend
from nasproxy.storage import FolderTrialStore
from nasproxy.testing.backend_contract import BackendContract


class TestLocalBackend(BackendContract):
    @pytest.fixture
    def make_backend(self) -> Iterator[Callable[..., LocalBackend]]:
        made: list[LocalBackend] = []

        def make(store: FolderTrialStore, **settings: Any) -> LocalBackend:
            made.append(LocalBackend(store, **settings))
            return made[-1]

        yield make
        for backend in made:
            backend.close()
