import io
from dataclasses import replace
from pathlib import Path

import pytest
import rich.console

from nasproxy.statistics.acceptance import Grade
from nasproxy.tracking.console import Console, StepRate
from nasproxy.tracking.events import (
    AcceptedTask,
    DecisionTaken,
    Noted,
    Progress,
    ReportWritten,
    StageProgressed,
    TrackerFailed,
)
from nasproxy.trials.clock import VirtualClock

START = Progress("proxy_search", "data50 (1 of 2)", trials_done=0, trials_total=20, steps_done=1000, steps_total=5000)
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(500.0)


@pytest.fixture
def file() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def plain(file: io.StringIO, clock: VirtualClock) -> Console:
    return Console(console=rich.console.Console(file=file, width=60), clock=clock)


@pytest.fixture
def live(file: io.StringIO, clock: VirtualClock) -> Console:
    terminal = rich.console.Console(file=file, force_terminal=True, width=120, height=30)
    return Console(console=terminal, live=True, clock=clock)


def test_the_step_rate_ignores_steps_done_before_this_process(clock: VirtualClock) -> None:
    pace = StepRate(clock)
    pace.see(START)
    assert pace.seconds_left is None
    clock.sleep(10)
    pace.see(replace(START, steps_done=1200))
    assert pace.elapsed_seconds == 10
    assert pace.seconds_left == pytest.approx(3800 / 20)


def test_the_step_rate_ignores_jumps_between_proxy_tasks_but_keeps_observed_steps(clock: VirtualClock) -> None:
    pace = StepRate(clock)
    pace.see(START)
    clock.sleep(10)
    pace.see(replace(START, steps_done=1200))
    pace.see(replace(START, detail="data75 (2 of 2)", steps_done=4000))
    clock.sleep(10)
    pace.see(replace(START, detail="data75 (2 of 2)", steps_done=4200))
    assert pace.seconds_left == pytest.approx(800 / (400 / 20))


def test_the_step_rate_is_reset_by_a_new_stage(clock: VirtualClock) -> None:
    pace = StepRate(clock)
    pace.see(START)
    clock.sleep(10)
    pace.see(replace(START, steps_done=2000))
    pace.see(Progress("report"))
    assert pace.seconds_left is None
    assert pace.elapsed_seconds == 0


def test_decreasing_steps_and_a_total_of_zero_are_accepted(
    plain: Console, file: io.StringIO, clock: VirtualClock
) -> None:
    plain.receive(StageProgressed(START))
    clock.sleep(60)
    plain.receive(StageProgressed(replace(START, steps_done=0, steps_total=0)))
    plain.close()
    assert "0/0 steps" in " ".join(file.getvalue().split())


def test_plain_output_prints_a_line_at_every_change_of_stage_or_detail_and_every_ten_seconds(
    plain: Console, file: io.StringIO, clock: VirtualClock
) -> None:
    for step in range(100):  # 25 seconds
        plain.receive(StageProgressed(replace(START, steps_done=1000 + step, tau=0.456), 2))
        clock.sleep(0.25)
    plain.receive(StageProgressed(replace(START, detail="data75 (2 of 2)"), 1))
    assert file.getvalue().splitlines() == [
        "proxy_search: data50 (1 of 2), 0/20 trials, 2 running, tau 0.46, 1000/5000 steps, 0:00 elapsed",
        "proxy_search: data50 (1 of 2), 0/20 trials, 2 running, tau 0.46, 1040/5000 steps, 0:10 elapsed, "
        "at most 16:30 left",
        "proxy_search: data50 (1 of 2), 0/20 trials, 2 running, tau 0.46, 1080/5000 steps, 0:20 elapsed, "
        "at most 16:20 left",
        "proxy_search: data75 (2 of 2), 0/20 trials, 1 running, 1000/5000 steps, 0:25 elapsed, at most 16:50 left",
    ]


def test_plain_output_is_silent_while_nothing_changes(plain: Console, file: io.StringIO, clock: VirtualClock) -> None:
    for _ in range(10):
        plain.receive(StageProgressed(START, 1))
        clock.sleep(30)
    assert len(file.getvalue().splitlines()) == 1
    plain.receive(StageProgressed(START, 2))
    assert len(file.getvalue().splitlines()) == 2


@pytest.mark.parametrize("message", ["got [red]50[/red], [/nothing] open", "a long line " * 20, ":smile: 0.5"])
def test_messages_are_printed_unchanged(plain: Console, file: io.StringIO, message: str) -> None:
    plain.receive(Noted(message))
    assert file.getvalue() == message + "\n"


WEAK = AcceptedTask("data50", Grade.WEAK, tau=0.9, bound=0.3, raced_tau=0.9, is_confirmed=False)


def test_the_grade_has_a_colour_on_a_terminal(clock: VirtualClock) -> None:
    file = io.StringIO()
    terminal = rich.console.Console(file=file, force_terminal=True, color_system="standard", width=200)
    console = Console(console=terminal, live=False, clock=clock)
    console.receive(ReportWritten(Path("index.html"), "Accepted: weak, grade weak, stopped early.", accepted=WEAK))
    assert "Accepted: weak, grade \x1b[1;31mweak\x1b[0m, stopped early." in file.getvalue()


def test_decisions_reports_and_failed_trackers_are_lines(plain: Console, file: io.StringIO) -> None:
    plain.receive(DecisionTaken("proxy_search", "data50: Met desired correlation"))
    plain.receive(DecisionTaken("proxy_search"))
    plain.receive(TrackerFailed("csv", "tracker csv stopped"))
    plain.receive(ReportWritten(Path("report") / "index.html", "Accepted: data50, grade weak, stopped.", accepted=WEAK))
    assert file.getvalue().splitlines() == [
        "data50: Met desired correlation",
        "tracker csv stopped",
        "Accepted: data50, grade weak, stopped.",
        "report: report/index.html",
    ]


def test_every_plain_line_is_flushed(clock: VirtualClock) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="utf-8", write_through=False)
    console = Console(console=rich.console.Console(file=file), clock=clock)
    console.receive(Noted("accepted"))
    assert raw.getvalue() == b"accepted\n"
    console.receive(StageProgressed(START))
    assert raw.getvalue().count(b"\n") == 2


def test_live_output_shows_progress_with_messages_above(live: Console, file: io.StringIO, clock: VirtualClock) -> None:
    live.receive(StageProgressed(START, 1))
    clock.sleep(1)
    live.receive(StageProgressed(replace(START, steps_done=2000, trials_done=3, tau=-0.2), 2))
    live.receive(Noted("data50 [dropped]: tau 0.1"))
    shown = file.getvalue()
    assert "proxy_search: data50 (1 of 2)  3/20 trials, 2 running, tau -0.20" in shown
    assert "40%  0:01 elapsed, at most 0:03 left" in shown
    assert shown.index("data50 [dropped]: tau 0.1") < shown.rindex("3/20 trials")
    live.close()


def test_live_output_redraws_at_most_four_times_a_second(live: Console, file: io.StringIO, clock: VirtualClock) -> None:
    live.receive(StageProgressed(START))
    before = len(file.getvalue())
    for _ in range(20):
        clock.sleep(0.01)
        live.receive(StageProgressed(replace(START, steps_done=1500)))
    assert len(file.getvalue()) == before
    clock.sleep(0.1)
    live.receive(StageProgressed(replace(START, steps_done=1500)))
    assert len(file.getvalue()) > before
    live.close()


def test_closing_repeatedly_restores_the_cursor_once(live: Console, file: io.StringIO) -> None:
    live.receive(StageProgressed(START))
    assert file.getvalue().count(HIDE_CURSOR) == 1
    assert SHOW_CURSOR not in file.getvalue()
    live.close()
    live.close()
    assert file.getvalue().count(SHOW_CURSOR) == 1


def test_forced_colours_do_not_make_a_file_a_terminal(
    file: io.StringIO, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = Console(console=rich.console.Console(file=file), clock=clock)
    console.receive(StageProgressed(START))
    console.receive(Noted("accepted"))
    assert "\x1b" not in file.getvalue()
