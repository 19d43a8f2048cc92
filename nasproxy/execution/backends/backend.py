"""The protocol of all backends, which run trials by key and never read a metric."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.trials.spec import Architecture, TrialSpec


class Backend(Protocol):
    """Runs submitted trials on its slots; progress is in the trials' records.

    Only one thread, the controller's, calls it. The constructor takes keyword arguments: the options of the
    configuration group `backend`, and what `nasproxy.config.builder.StudyBuilder.open_backend` passes beside them:

    - `store` (`TrialStore`): Store of the study's trials.
    - `study` (`Path` or None): Folder of the study; None for trials that are timed for an estimate.
    - `device_type` (str): `cpu` or `cuda`.
    - `trusted_modules` (list of str): Top-level modules that a trial's config may name as targets.
    - `preload` (list of str): Modules of the configured targets, to import before the first trial starts.

    Workers read and write trial folders, and watch the controller's lease, which is a file in the study's folder. A
    backend with workers on other machines therefore needs a file system that these share with the controller, at the
    same path.

    Attributes:
        is_replay: Whether trials are replayed from recorded trainings, which cost nothing and can be repeated.
    """

    is_replay: ClassVar[bool]

    @property
    def poll_seconds(self) -> float | None:
        """Seconds of the backend's own virtual time between two polls; None for `controller.poll_seconds`."""
        ...

    @property
    def slots(self) -> int:
        """Trials that run at once."""
        ...

    def preflight(
        self, specs: Sequence[TrialSpec], *, architectures: Sequence[Architecture] = (), seconds: float = 0.0
    ) -> Sequence[str]:
        """Run the preflight of each kind of trials where they would train.

        Args:
            specs: One trial of each kind.
            architectures: Architectures of which the smallest and the largest model are tried with each kind, instead
                of those of the trials; none if the trials' own are tried.
            seconds: Time limit of programs that train; 0 runs none.

        Returns:
            Notes on settings that are valid, but perhaps not intended.

        Raises:
            ConfigError: A trial cannot be trained as configured.
        """
        ...

    def zero_costs(self, specs: Sequence[TrialSpec]) -> list[ZeroCost | None]:
        """Score the trials' models without training them.

        Returns:
            Scores in the order of `specs`; None if the backend does not build the model, or it cannot be built.

        Raises:
            ConfigError: The data cannot be loaded.
        """
        ...

    def submit(self, key: str, digest: str) -> None:
        """Submit a trial, which runs until its request is reached; does nothing if it runs or is queued.

        Args:
            key: Key of a trial in the store.
            digest: Digest of its config, from `TrialStore.create`.
        """
        ...

    def live(self) -> set[str]:
        """Return the keys of the trials that run or wait for a slot."""
        ...

    def running(self) -> set[str]:
        """Return the keys of the trials that run."""
        ...

    def wait(self, seconds: float) -> set[str]:
        """Wait until a trial ends, for at most so many seconds, and return the keys of all that ended."""
        ...

    def cancel(self, key: str) -> None:
        """Remove the trial from the queue, or end its worker now; work since its last checkpoint is lost."""
        ...

    def close(self) -> None:
        """Cancel all trials that run or wait, and release all resources."""
        ...
