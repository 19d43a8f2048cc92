"""Names of the files in a trial's folder."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrialFolder:
    """Paths of a trial's files; no other module spells their names."""

    path: Path

    @property
    def config(self) -> Path:
        """The trial's specification: all that decides its result."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Checks, one per line."""
        return self.path / "metrics.jsonl"

    @property
    def request(self) -> Path:
        """The controller's request."""
        return self.path / "request.json"

    @property
    def status(self) -> Path:
        """Status, written by the worker."""
        return self.path / "status.json"

    @property
    def heartbeat(self) -> Path:
        """File that changes while the trial trains; programs may touch it."""
        return self.path / "heartbeat"

    @property
    def check_count(self) -> Path:
        """Number of the trial's checks, written after each."""
        return self.path / "check_count"

    @property
    def retries(self) -> Path:
        """Links to the retries of this failed trial, written by the controller."""
        return self.path / "retries.json"

    @property
    def latency(self) -> Path:
        """Measured latency of the model."""
        return self.path / "latency.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """Weights of the last check, for `load_state_dict`; exists once the training has ended."""
        return self.checkpoints / "weights.pt"

    @property
    def lock(self) -> Path:
        """Lease of the running worker."""
        return self.path / "worker.lock"

    @property
    def lease(self) -> Path:
        """Generation of the worker's lease, beside its lock."""
        return self.lock.with_suffix(".lease")

    @property
    def guard(self) -> Path:
        """Lock of the moments in which the lease changes hands or a write that carries its generation happens."""
        return self.lock.with_suffix(".guard")

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the trial besides its checkpoints."""
        records = (self.config, self.metrics, self.request, self.status, self.retries, self.latency)
        return (*records, self.check_count, self.heartbeat, self.lock, self.lease, self.guard, self.log)

    @property
    def log(self) -> Path:
        """Output of the worker."""
        return self.path / "worker.log"
