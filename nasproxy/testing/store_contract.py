"""The contract suite for trial stores: inherit the test class and provide a `store` fixture."""

from dataclasses import replace

import pytest

from nasproxy.errors import StaleLeaseError
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.testing import synthetic
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Check, Request, RetryLink, State, Status, TrialPurpose, TrialRecord
from nasproxy.trials.spec import Split, TrialSpec

SPEC = TrialSpec(
    {"quality": 1, "fault": "none"}, ProxyTask(width=0.5), Split.SEARCH, 3, synthetic.make_recipe(noise=0.1)
)
CHECKS = (Check(10, 0.5, 1.0), Check(20, 0.25, 2.5))
FAILED = Status(State.FAILED, failures=1, wall_seconds=3.0, cause=Cause.OOM, message="no memory")
OTHERS = [replace(SPEC, seed=seed) for seed in (4, 5)]
FIRST, SECOND = (RetryLink(spec.key, Cause.OOM, f"seed {spec.seed}") for spec in OTHERS)


class StoreContract:
    """Behaviour of trial stores that controllers rely on."""

    def test_creating_twice_makes_one_trial(self, store: TrialStore) -> None:
        assert store.create(SPEC) == store.create(SPEC)
        assert store.keys() == [SPEC.key]

    def test_other_trials_have_other_digests_and_keys(self, store: TrialStore) -> None:
        specs = [TrialSpec(SPEC.architecture, SPEC.proxy_task, SPEC.split, seed, SPEC.recipe) for seed in range(5)]
        assert len({store.create(spec) for spec in specs}) == 5
        assert store.keys() == sorted(spec.key for spec in specs)

    def test_a_spec_comes_back(self, store: TrialStore) -> None:
        store.create(SPEC)
        found = store.spec(SPEC.key)
        assert found.key == SPEC.key
        assert dict(found.architecture) == SPEC.architecture
        assert (found.check_steps, found.seed, found.split) == (SPEC.check_steps, SPEC.seed, SPEC.split)

    def test_an_unknown_trial_is_pending_without_checks(self, store: TrialStore) -> None:
        record = store.read("unknown")
        assert (record.status.state, record.checks, record.score) == (State.PENDING, (), None)
        assert store.keys() == []

    def test_what_was_written_is_read(self, store: TrialStore) -> None:
        store.create(SPEC)
        assert store.read(SPEC.key) == TrialRecord()
        for record in (
            TrialRecord(Status(State.RUNNING, wall_seconds=1.5), CHECKS[:1]),
            TrialRecord(Status(State.FAILED, failures=2, cause=Cause.OOM, message="no <memory>"), CHECKS),
        ):
            store.write(SPEC.key, record, generation=1)
            assert store.read(SPEC.key) == record

    def test_what_has_not_changed_is_not_read_again(self, store: TrialStore) -> None:
        store.create(SPEC)
        store.write(SPEC.key, TrialRecord(Status(State.PAUSED), CHECKS), generation=1)
        assert store.read(SPEC.key) is store.read(SPEC.key)

    def test_asking_before_and_after_a_trial_is_known_leaves_its_record_alone(self, store: TrialStore) -> None:
        store.request(SPEC.key, Request(until_step=5))
        store.create(SPEC)
        store.write(SPEC.key, TrialRecord(Status(State.PAUSED), CHECKS), generation=1)
        store.request(SPEC.key, Request(stop=True))
        assert store.read(SPEC.key) == TrialRecord(Status(State.PAUSED), CHECKS)
        assert store.keys() == [SPEC.key]

    def test_a_failed_trial_is_read_with_its_retries(self, store: TrialStore) -> None:
        for spec in (SPEC, *OTHERS):
            store.create(spec)
        store.write(SPEC.key, TrialRecord(FAILED, CHECKS[:1]), generation=1)
        store.link_retries(SPEC.key, (FIRST,))
        assert store.read(SPEC.key) == TrialRecord(Status(wall_seconds=3.0), CHECKS[:1], (FIRST,))
        store.write(OTHERS[0].key, TrialRecord(FAILED), generation=1)
        store.link_retries(OTHERS[0].key, (SECOND,))
        assert store.read(SPEC.key).is_failed, "a trial is read with its own retries only"
        store.link_retries(SPEC.key, (FIRST, SECOND))
        rest = (Check(10, 0.75, 2.0), Check(20, 0.5, 4.0))
        store.write(OTHERS[1].key, TrialRecord(Status(State.DONE, wall_seconds=5.0), rest), generation=1)
        whole = TrialRecord(Status(State.DONE, wall_seconds=11.0), (CHECKS[0], Check(20, 0.5, 5.0)), (FIRST, SECOND))
        assert store.read(SPEC.key) == whole
        assert store.read(OTHERS[1].key) == store.read_alone(OTHERS[1].key), "the last retry has no retries of its own"

    def test_what_a_trial_did_itself_stays_as_it_was(self, store: TrialStore) -> None:
        store.write(SPEC.key, TrialRecord(FAILED, CHECKS[:1]), generation=1)
        assert store.read_alone(SPEC.key) == store.read(SPEC.key) == TrialRecord(FAILED, CHECKS[:1])
        store.link_retries(SPEC.key, (FIRST,))
        store.link_retries(SPEC.key, (FIRST,))
        assert store.read_alone(SPEC.key) == TrialRecord(FAILED, CHECKS[:1], (FIRST,))

    def test_another_retry_replaces_the_first(self, store: TrialStore) -> None:
        store.write(SPEC.key, TrialRecord(FAILED), generation=1)
        store.link_retries(SPEC.key, (FIRST,))
        store.link_retries(SPEC.key, (SECOND,))
        assert store.read(SPEC.key).retries == (SECOND,)

    def test_a_line_of_trials_that_has_not_changed_is_not_made_again(self, store: TrialStore) -> None:
        store.write(SPEC.key, TrialRecord(FAILED), generation=1)
        store.link_retries(SPEC.key, (FIRST,))
        assert store.read(SPEC.key) is store.read(SPEC.key)
        before = store.read(SPEC.key)
        store.write(OTHERS[0].key, TrialRecord(Status(State.PAUSED), CHECKS), generation=1)
        assert store.read(SPEC.key) != before

    def test_a_trial_keeps_the_purpose_that_it_was_first_created_for(self, store: TrialStore) -> None:
        first, second = TrialPurpose("proxy_search", "data50"), TrialPurpose("confirmation")
        store.create(SPEC, first)
        store.create(SPEC, second)
        store.create(OTHERS[0])
        assert store.purposes() == {SPEC.key: first, OTHERS[0].key: None}

    def test_a_request_replaces_the_one_before(self, store: TrialStore) -> None:
        store.create(SPEC)
        assert store.get_request(SPEC.key) == Request(), "without a request a trial runs to its end"
        store.request(SPEC.key, Request(until_step=5))
        store.request(SPEC.key, Request(stop=True))
        assert store.get_request(SPEC.key) == Request(stop=True)

    def test_news_are_the_trials_that_changed_since_the_last_look(self, store: TrialStore) -> None:
        for spec in (SPEC, *OTHERS):
            store.create(spec)
            store.write(spec.key, TrialRecord(Status(State.RUNNING)), generation=1)
        assert store.news() == set(), "a new reader reads the records themselves"
        assert store.news() == set()
        store.write(SPEC.key, TrialRecord(Status(State.RUNNING), CHECKS[:1]), generation=1)
        store.write(SPEC.key, TrialRecord(Status(State.RUNNING), CHECKS), generation=1)
        store.write(OTHERS[0].key, TrialRecord(FAILED), generation=1)
        assert store.news() == {SPEC.key, OTHERS[0].key}
        store.link_retries(OTHERS[0].key, (SECOND,))
        assert store.news() == {OTHERS[0].key}
        assert store.news() == set()

    def test_a_record_of_an_older_generation_is_refused(self, store: TrialStore) -> None:
        store.create(SPEC)
        store.write(SPEC.key, TrialRecord(Status(State.RUNNING), CHECKS[:1]), generation=1)
        store.write(SPEC.key, TrialRecord(Status(State.RUNNING), CHECKS), generation=2)
        with pytest.raises(StaleLeaseError, match=r"needs generation 2, got 1"):
            store.write(SPEC.key, TrialRecord(FAILED, CHECKS[:1]), generation=1)
        assert store.read(SPEC.key) == TrialRecord(Status(State.RUNNING), CHECKS)
        assert store.read(SPEC.key).status.generation == 2

    def test_a_trial_that_is_not_damaged_is_not_set_aside(self, store: TrialStore) -> None:
        store.create(SPEC)
        store.write(SPEC.key, TrialRecord(Status(State.DONE), CHECKS), generation=1)
        assert store.set_aside(SPEC.key) is None
        assert store.read(SPEC.key) == TrialRecord(Status(State.DONE), CHECKS)
