"""Stopwatch and checkpoint timer on a virtual clock."""

from nasproxy.trials.clock import SavingTimer, Stopwatch, VirtualClock


def test_a_checkpoint_is_due_after_the_configured_seconds() -> None:
    clock = VirtualClock()
    timer = SavingTimer(30.0, clock)
    clock.sleep(29.0)
    assert not timer.is_due()
    clock.sleep(1.0)
    assert timer.is_due()
    timer.restart()
    assert not timer.is_due()


def test_checkpoints_that_are_slow_to_save_are_saved_less_often() -> None:
    clock = VirtualClock()
    timer = SavingTimer(30.0, clock)
    with timer.saving():
        clock.sleep(10.0)
    clock.sleep(499.0)
    assert not timer.is_due()
    clock.sleep(1.0)
    assert timer.is_due(), "saving takes a fiftieth of the time"


def test_a_stopwatch_continues_from_added_seconds() -> None:
    clock = VirtualClock()
    watch = Stopwatch(clock)
    watch.add(5.0)
    watch.start()
    clock.sleep(2.0)
    assert watch.seconds == 7.0
    watch.pause()
    clock.sleep(9.0)
    assert (watch.seconds, watch.lap(), watch.seconds) == (7.0, 7.0, 0.0)
