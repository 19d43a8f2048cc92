"""A minimal controller that trains trials until a step and makes no decisions."""

from collections.abc import Sequence

from nasproxy.stages.runner import Decide, Records, Train
from nasproxy.tracking.events import Progress
from nasproxy.trials.records import TrialPurpose
from nasproxy.trials.spec import TrialSpec


class TrainUntil:
    """Waits for trials and keeps their records."""

    name = "train_until"

    def __init__(self, specs: Sequence[TrialSpec], until: int) -> None:
        self._specs = list(specs)
        self._until = until
        self.records: Records = {}

    def load(self) -> None:
        return None

    def save(self, state: None) -> None:
        return state

    def specs(self, state: None) -> list[TrialSpec]:
        return self._specs

    def purpose(self, spec: TrialSpec) -> TrialPurpose:
        return TrialPurpose(self.name)

    def next_action(self, state: None, records: Records) -> Train | Decide[None] | None:
        self.records = records
        waiting = {
            spec.key: self._until
            for spec in self._specs
            if not (records[spec.key].is_failed or records[spec.key].reached(self._until))
        }
        return Train(waiting) if waiting else None

    def progress(self, state: None, records: Records) -> Progress:
        return Progress(self.name)
