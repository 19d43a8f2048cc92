"""The protocol of all backends: they run trials by key and never read a metric."""

from collections.abc import Sequence
from typing import Protocol

from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.trials.spec import TrialSpec


class Backend(Protocol):
    """Runs submitted trials on its slots; a trial's own files say how far it came.

    One thread, the controller's, calls it.
    """

    @property
    def slots(self) -> int:
        """Trials that run at once."""
        ...

    def preflight(self, specs: Sequence[TrialSpec]) -> Sequence[str]:
        """Put trials together without training them, where they would run.

        Returns:
            Sentences on what can be trained, but is perhaps not meant.

        Raises:
            ConfigError: One cannot be trained as it is configured.
        """
        ...

    def zero_costs(self, specs: Sequence[TrialSpec]) -> list[ZeroCost | None]:
        """Score the trials' models without training them, in their order.

        Returns:
            Scores; None for a trial whose model is not built here, or cannot be.

        Raises:
            ConfigError: The data cannot be loaded.
        """
        ...

    def submit(self, key: str, digest: str) -> None:
        """Have the trial run as far as its request says; nothing happens if it runs or waits already.

        Args:
            key: A trial of the store.
            digest: Digest of its config, from `TrialStore.create`.
        """
        ...

    def live(self) -> set[str]:
        """Keys of the trials that run or wait for a slot."""
        ...

    def running(self) -> set[str]:
        """Keys of the trials that run."""
        ...

    def wait(self, seconds: float) -> set[str]:
        """Let trials run until one ends, or for so many seconds at most; returns the keys that ended."""
        ...

    def cancel(self, key: str) -> None:
        """Take the trial from the queue, or end its worker now; what it did since its last checkpoint is lost."""
        ...

    def close(self) -> None:
        """Cancel what still runs and give everything back."""
        ...
