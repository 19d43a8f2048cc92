"""Retries for out-of-memory and diverged trials: the chain of an original trial and its retries."""

from collections.abc import Callable, Sequence

from nasproxy.errors import SetupFailedError
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.trials.records import Cause, RetryLink, TrialPurpose, TrialRecord, merge_records
from nasproxy.trials.retry import Retry
from nasproxy.trials.spec import TrialSpec

RetryPolicy = Callable[[TrialSpec, Sequence[Cause]], Retry | None]
"""Function of the original trial and all causes of failure that returns the next retry; None if there is none."""


def retry_nothing(spec: TrialSpec, causes: Sequence[Cause]) -> Retry | None:
    """Return None: no trial is retried."""
    return None


class RetryChain:
    """The original trial and its retries, each created when the trial before it failed."""

    def __init__(self, spec: TrialSpec, purpose: TrialPurpose) -> None:
        """Start with the original trial, and what it and its retries are created for."""
        self.purpose = purpose
        self.specs = [spec]
        self._records = [TrialRecord()]
        self._links: list[RetryLink] = []

    @property
    def current(self) -> TrialSpec:
        """The trial that trains now: the last retry, or the original trial."""
        return self.specs[-1]

    @property
    def record(self) -> TrialRecord:
        """The merged record of the original trial and all retries."""
        return merge_records(self._records)

    def follow(self, store: TrialStore, retry_policy: RetryPolicy) -> list[str]:
        """Read the current record and create a retry for each failed trial.

        A kill between creating and linking a retry is harmless: the next call creates it again, under the same key.
        A retry may also be an original trial of its own; it then has fewer failures and may have more retries. So each
        original trial has a chain of its own and is read along this chain only.

        Args:
            store: Store of the trials.
            retry_policy: Finds the next retry.

        Returns:
            Log messages, one per new retry.
        """
        self._records[-1] = store.read_alone(self.current.key)
        messages = []
        while (retry := self._find_next_retry(retry_policy)) is not None:
            key, cause = self.current.key, self._causes[-1]
            link = RetryLink(retry.spec.key, cause, retry.change)
            if self._records[-1].retries[:1] != (link,):
                store.create(retry.spec, self.purpose)
                messages.append(
                    f"trial {key} failed ({cause.value}): retrying it as trial {link.key} with {link.change}"
                )
            self.specs.append(retry.spec)
            self._links.append(link)
            self._store_links(store)
            self._records = [store.read_alone(spec.key) for spec in self.specs]
        return messages

    def _store_links(self, store: TrialStore) -> None:
        for index, spec in enumerate(self.specs[:-1]):
            links = tuple(self._links[index:])
            if store.read_alone(spec.key).retries[: len(links)] != links:
                store.link_retries(spec.key, links)

    @property
    def _causes(self) -> list[Cause]:
        return [record.status.cause for record in self._records if record.is_failed and record.status.cause]

    def _find_next_retry(self, retry_policy: RetryPolicy) -> Retry | None:
        last = self._records[-1]
        if not last.is_failed or last.reached(self.current.total_steps):
            return None
        return retry_policy(self.specs[0], self._causes)


def refuse_setup_failure(key: str | None, record: TrialRecord) -> None:
    """Stop at a trial that failed by what all models share, before others fail in the same way.

    Args:
        key: Key of the original trial; None for a trial that only an estimate trains.
        record: Its merged record.

    Raises:
        SetupFailedError: The trial failed so.
    """
    status = record.status
    if record.is_failed and status.cause is Cause.SETUP:
        where, kept = "", ""
        if key is not None:
            where = f" (trial {record.trained_as(key)})"
            kept = (
                ": finished trials are kept, and this one gets new attempts. If the fix changes scores, raise "
                "trainer.version and use another study=NAME"
            )
        raise SetupFailedError(
            f"a trial of any model would fail, so the study stops: {status.message}{where}. Fix the cause and run the "
            f"command again{kept}"
        )
