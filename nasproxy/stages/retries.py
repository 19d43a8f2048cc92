"""A trial that was asked for, and those that stand in for it: each is made when the one before it has failed."""

from collections.abc import Callable, Sequence

from nasproxy.storage.trial_stores import TrialStore
from nasproxy.trials.records import Cause, RetryLink, TrialRecord, merge_records
from nasproxy.trials.retry import Retry
from nasproxy.trials.spec import TrialSpec

RetryPolicy = Callable[[TrialSpec, Sequence[Cause]], Retry | None]
"""What stands in for a trial that failed for so many causes; None where its last failure is final."""


def retry_nothing(spec: TrialSpec, causes: Sequence[Cause]) -> Retry | None:
    """Nothing stands in for any trial."""
    return None


class RetryChain:
    """Knows under which key a trial trains now, and what came of it under all of them."""

    def __init__(self, spec: TrialSpec) -> None:
        """Begin with the trial that was asked for."""
        self.specs = [spec]
        self._records = [TrialRecord()]
        self._links: list[RetryLink] = []

    @property
    def current(self) -> TrialSpec:
        """The trial that trains, or is to train."""
        return self.specs[-1]

    @property
    def record(self) -> TrialRecord:
        """What is known of all of them, as one."""
        return merge_records(self._records)

    def follow(self, store: TrialStore, retry_policy: RetryPolicy) -> list[str]:
        """Read anew, and have another trial stand in for each that has failed; returns the new ones in words.

        A kill between making a trial and linking it leaves one that the next call makes again, under the same key.
        A trial may stand in for another one and be asked for itself: fewer failures count for it then, so that more
        may follow. So each has a line of its own, and what was asked for is read along its own line alone.
        """
        self._records[-1] = store.read_alone(self.current.key)
        news = []
        while (retry := self._next_retry(retry_policy)) is not None:
            key, cause = self.current.key, self._causes[-1]
            by = RetryLink(retry.spec.key, cause, retry.change)
            if self._records[-1].retries[:1] != (by,):
                store.create(retry.spec)
                news.append(f"trial {key} failed by {cause.value}: {by.key} stands in for it, with {by.change}")
            self.specs.append(retry.spec)
            self._links.append(by)
            self._link(store)
            self._records = [store.read_alone(spec.key) for spec in self.specs]
        return news

    def _link(self, store: TrialStore) -> None:
        for place, spec in enumerate(self.specs[:-1]):
            links = tuple(self._links[place:])
            if store.read_alone(spec.key).retries[: len(links)] != links:
                store.link_retries(spec.key, links)

    @property
    def _causes(self) -> list[Cause]:
        return [record.status.cause for record in self._records if record.is_failed and record.status.cause]

    def _next_retry(self, retry_policy: RetryPolicy) -> Retry | None:
        last = self._records[-1]
        if not last.is_failed or last.reached(self.current.total_steps):
            return None
        return retry_policy(self.specs[0], self._causes)
