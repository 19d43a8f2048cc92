"""The contract suite for leases: inherit the test class and provide a `make_lease` fixture."""

from typing import Protocol

import pytest

from nasproxy.errors import StaleLeaseError, StudyBusyError
from nasproxy.storage.leases import Lease, hold_lease
from nasproxy.trials.clock import Clock, VirtualClock

TTL_SECONDS = 10.0


class MakeLease(Protocol):
    """Makes the same lease as another process, on another machine if the nodes differ, would make it."""

    def __call__(self, node: str, *, ttl_seconds: float = TTL_SECONDS, clock: Clock | None = None) -> Lease:
        """Make the lease for a process of a machine."""
        ...


class LeaseContract:
    """Behaviour of leases that owners and observers on several machines rely on."""

    def test_a_lease_has_one_owner_at_a_time(self, make_lease: MakeLease) -> None:
        first, second = make_lease("a"), make_lease("b")
        assert first.acquire()
        assert not second.acquire()
        first.release()
        assert second.acquire()
        assert not first.acquire()

    def test_each_owner_has_a_higher_generation(self, make_lease: MakeLease) -> None:
        generations = []
        for node in "abab":
            lease = make_lease(node)
            assert lease.generation == 0
            assert lease.acquire()
            generations.append(lease.generation)
            lease.renew()
            assert lease.generation == generations[-1], "a renewal is no take-over"
            lease.release()
        assert generations == [1, 2, 3, 4]

    def test_the_owner_is_named_where_a_lease_is_busy(self, make_lease: MakeLease) -> None:
        assert make_lease("a").acquire()
        with (
            pytest.raises(StudyBusyError, match=r"stage x is being worked on by process \d+ on .*: wait until it is"),
            hold_lease(make_lease("b"), "stage x"),
        ):
            pass

    def test_a_lease_is_free_after_a_block_that_held_it(self, make_lease: MakeLease) -> None:
        with hold_lease(make_lease("a"), "stage x"):
            pass
        assert make_lease("b").acquire()

    def test_a_silent_owner_on_another_machine_is_taken_over_after_its_time(self, make_lease: MakeLease) -> None:
        clock = VirtualClock(1000.0)
        silent, observer = make_lease("a"), make_lease("b", clock=clock)
        assert silent.acquire()
        assert not observer.acquire(), "it may have renewed just now: an observer waits by its own clock"
        clock.sleep(TTL_SECONDS - 1)
        assert not observer.acquire()
        clock.sleep(1)
        assert observer.acquire()
        assert observer.generation == silent.generation + 1

    def test_an_observer_that_waits_takes_over_by_itself(self, make_lease: MakeLease) -> None:
        clock = VirtualClock()
        assert make_lease("a").acquire()
        assert make_lease("b", clock=clock).acquire(wait_seconds=TTL_SECONDS + 1)
        assert TTL_SECONDS <= clock.now() < TTL_SECONDS + 1

    def test_an_owner_that_renews_is_not_taken_over(self, make_lease: MakeLease) -> None:
        clock = VirtualClock()
        owner, observer = make_lease("a"), make_lease("b", clock=clock)
        assert owner.acquire()
        for _ in range(5):
            assert not observer.acquire()
            clock.sleep(0.75 * TTL_SECONDS)
            owner.renew()

    def test_an_owner_that_was_taken_over_learns_it_and_leaves_the_lease_alone(self, make_lease: MakeLease) -> None:
        first, second = make_lease("a"), make_lease("b", ttl_seconds=0.0)
        assert first.acquire()
        assert second.acquire()
        with pytest.raises(StaleLeaseError, match=r"needs generation 2, got 1: process .* has taken over"):
            first.renew()
        first.release()
        second.renew()
        assert not make_lease("c").acquire()

    def test_releasing_twice_or_without_owning_it_does_nothing(self, make_lease: MakeLease) -> None:
        lease, other = make_lease("a"), make_lease("b")
        lease.release()
        assert other.acquire()
        lease.release()
        assert not make_lease("c").acquire()
        other.release()
        other.release()
        assert make_lease("c").acquire()
