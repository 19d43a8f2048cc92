"""The folder of a trial: the one place that knows the names of its files."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrialFolder:
    """Where a trial lives; the one place that knows the names of its files."""

    path: Path

    @property
    def config(self) -> Path:
        """All that decides the result."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One check a line."""
        return self.path / "metrics.jsonl"

    @property
    def request(self) -> Path:
        """From the controller."""
        return self.path / "request.json"

    @property
    def status(self) -> Path:
        """From the worker."""
        return self.path / "status.json"

    @property
    def heartbeat(self) -> Path:
        """Touched by the trainer while it trains; empty."""
        return self.path / "heartbeat"

    @property
    def retries(self) -> Path:
        """From the controller: the trials that stand in for this one, which has failed."""
        return self.path / "retries.json"

    @property
    def latency(self) -> Path:
        """Measured latency."""
        return self.path / "latency.json"

    @property
    def checkpoints(self) -> Path:
        """Where to continue from."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """What the last check scored, for `load_state_dict`; there once a training has reached its end."""
        return self.checkpoints / "weights.pt"

    @property
    def lock(self) -> Path:
        """Held by the living worker."""
        return self.path / "worker.lock"

    @property
    def log(self) -> Path:
        """What the worker printed."""
        return self.path / "worker.log"
