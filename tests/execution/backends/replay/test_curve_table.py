"""Tables of learning curves: reading valid tables and refusing invalid ones."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasproxy.errors import DataError
from nasproxy.execution.backends.replay.curve_table import CurveTable, TableTraining, read_table
from nasproxy.trials.records import Cause

HEADER = "architecture,proxy,seed,step,score,train_seconds"
GOOD = ("a,full,0,1,0.5,1.0", "a,full,0,2,0.6,2.0", "b,full,0,1,0.4,1.0", "b,full,0,2,0.7,2.5")


def write(folder: Path, *lines: str, header: str = HEADER, name: str = "curves.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def replace_row(row: int, line: str) -> list[str]:
    """Replace one row of the valid table; row 2 is the first below the header."""
    return [line if place == row - 2 else text for place, text in enumerate(GOOD)]


def test_curves_are_sorted_for_any_order_of_rows(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, *reversed(GOOD)))
    curve = table.curves[TableTraining("b", "full", 0)]
    assert [(check.step, check.score, check.train_seconds) for check in curve.checks] == [(1, 0.4, 1.0), (2, 0.7, 2.5)]
    assert table.check_steps == {"full": (1, 2)}
    assert table.architectures(["full"]) == ("b", "a")


def test_other_columns_are_ignored_and_latency_and_status_are_used(tmp_path: Path) -> None:
    header = f"note,{HEADER},latency_ms,status"
    lines = ["x,a,full,0,1,0.5,1.0,3,", "x,a,full,0,2,0.6,2.0,5,done", "x,b,full,0,1,0.4,1.0,,", "x,b,full,0,,,,,nan"]
    table = read_table(write(tmp_path, *lines, header=header))
    good, failed = table.curves[TableTraining("a", "full", 0)], table.curves[TableTraining("b", "full", 0)]
    assert (good.latency_ms, good.cause) == (4.0, None)
    assert (failed.latency_ms, failed.cause, len(failed.checks)) == (None, Cause.NAN, 1)


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    csv, parquet = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")

    path = write(tmp_path, *GOOD)
    parquet.write_table(csv.read_csv(path), tmp_path / "curves.parquet")
    first, second = read_table(path), read_table(tmp_path / "curves.parquet")
    assert {key: curve.checks for key, curve in first.curves.items()} == {
        key: curve.checks for key, curve in second.curves.items()
    }
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            replace_row(3, "a,full,0,1,0.6,2.0"),
            r"row 3: .*one check per step, got step 1 of architecture 'a'.*remove one",
        ),
        (
            replace_row(4, "b,full,0,1,nan,1.0"),
            r"row 4: score must be a number, got nothing or NaN: remove the row",
        ),
        (replace_row(4, "b,full,0,1,,1.0"), r"row 4: score must be a number, got nothing or NaN"),
        (replace_row(5, "b,full,0,3,0.7,2.5"), r"row 5: .*need the same steps, got step 3 instead of 2"),
        (list(GOOD[:3]), r"row 4: .*need the same steps, got 1 checks instead of 2.*: set `status`"),
        (replace_row(2, "a,full,0,1,good,1.0"), r"row 2: score must be a number, got 'good': remove the text"),
        (replace_row(2, "a,full,0,0,0.5,1.0"), r"row 2: step must be a whole number of at least 1, got 0: count"),
        (replace_row(2, "a,full,0,1.5,0.5,1.0"), r"row 2: step must be a whole number of at least 1, got 1.5"),
        (replace_row(2, "a,full,0,1,inf,1.0"), r"row 2: score must be finite, got infinity: remove the row"),
        (
            replace_row(2, "a,full,0,1,0.5,0"),
            r"row 2: train_seconds must be above 0, got 0: use the cumulative",
        ),
        (
            replace_row(3, "a,full,0,2,0.6,0.5"),
            r"row 3: train_seconds must not decrease, got 0.5 .*not the time of each",
        ),
        (
            replace_row(2, "a,full,first,1,0.5,1.0"),
            r"row 2: seed must be a whole number, got 'first': use numbers",
        ),
        (replace_row(2, ",full,0,1,0.5,1.0"), r"row 2: architecture must not be empty, got nothing: fill it in"),
        (replace_row(2, "a,full,0,1,0.5"), r"row 2: a row needs 6 values, as many as the header, got 5: separate"),
        ([], r"needs a row for each check of each training, got none below its header: add rows"),
    ],
)
def test_an_invalid_row_is_refused_with_its_number_and_advice(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, *lines))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("architecture,proxy,seed,step,score", r"row 1: a table needs the columns .*: add train_seconds"),
        (f"{HEADER},score", r"row 1: column names must be unique, got score twice: rename or remove one"),
        ("", r"row 1: a table needs the columns .*, got none: add architecture, proxy"),
    ],
)
def test_an_invalid_header_is_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, header=header))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match=r"row 1: a table needs the columns .*, got none"):
        read_table(tmp_path / "empty.csv")


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"backend.table needs a file .*nowhere.csv \(No such file.*set the path"):
        read_table(tmp_path / "nowhere.csv")


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=r"cannot be read as Parquet .*: write it again, or use a CSV file"):
        read_table(write(tmp_path, *GOOD, name="curves.parquet"))


def test_an_unknown_status_and_rows_after_a_failure_are_refused(tmp_path: Path) -> None:
    header = f"{HEADER},status"
    with pytest.raises(DataError, match=r"row 2: status must be one of done, oom, nan, crash, lost or empty, got 'ok'"):
        read_table(write(tmp_path, "a,full,0,1,0.5,1.0,ok", header=header))
    lines = ["a,full,0,1,0.5,1.0,oom", "a,full,0,2,0.5,2.0,"]
    with pytest.raises(DataError, match=r"row 2: only the last row .* may have a failure as status.*remove the rows"):
        read_table(write(tmp_path, *lines, header=header))


@settings(max_examples=25)
@given(
    scores=st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_written_scores_are_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, scores: list[list[float]], order: random.Random
) -> None:
    lines = [f"m{m},full,0,{i + 1},{value!r},{i + 1}" for m, row in enumerate(scores) for i, value in enumerate(row)]
    order.shuffle(lines)
    table = read_table(write(tmp_path_factory.mktemp("table"), *lines))
    assert {key.architecture: curve.scores.tolist() for key, curve in table.curves.items()} == {
        f"m{m}": row for m, row in enumerate(scores)
    }


SCHEDULED = (
    *(f"a,full,0,{step},0.{step},{step}," for step in (1, 2, 3, 4)),
    "a,full,0,1,0.5,1,2.0",
    "a,full,0,2.0,0.7,2,2",
    "a,full,1,2,0.8,2,2",
    "b,full,0,2,0.9,2.5,2",
    *(f"b,full,0,{step},0.{step},{step},4" for step in (1, 2, 3, 4)),
)
"""Whole trainings of 4 steps, with and without their schedule, and compressed ones of 2 steps, with other checks."""


class TestSchedules:
    header = f"{HEADER},schedule"

    def read(self, folder: Path, *lines: str) -> CurveTable:
        return read_table(write(folder, *lines, header=self.header))

    def test_trainings_on_compressed_schedules_are_kept_apart(self, tmp_path: Path) -> None:
        table = self.read(tmp_path, *SCHEDULED)
        assert [str(training) for training in table.curves] == [
            "architecture 'a' under proxy 'full' with seed 0",
            "architecture 'b' under proxy 'full' with seed 0",
        ]
        assert table.check_steps == {"full": (1, 2, 3, 4)}
        assert table.schedules == {"full": (2,)}
        assert [curve.scores.tolist() for curve in table.find_compressed("a", "full", 2)] == [[0.5, 0.7], [0.8]]
        assert [curve.scores.tolist() for curve in table.find_compressed("b", "full", 2)] == [[0.9]]
        assert table.find_compressed("b", "full", 3) == ()

    def test_the_longest_schedule_is_that_of_whole_trainings_if_all_have_one(self, tmp_path: Path) -> None:
        table = self.read(tmp_path, "a,full,0,1,0.5,1,1", "a,full,0,1,0.4,1,3", "a,full,0,3,0.6,3,3.0")
        assert (table.check_steps, table.schedules) == ({"full": (1, 3)}, {"full": (1,)})

    def test_a_table_without_the_column_or_values_has_no_compressed_schedules(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, *(f"{line}," for line in GOOD)).schedules == {}
        assert read_table(write(tmp_path, *GOOD, name="other.csv")).schedules == {}

    def test_a_compressed_training_may_fail(self, tmp_path: Path) -> None:
        header = f"{self.header},status"
        lines = [*(f"{line},," for line in GOOD), "a,full,0,,,,1,oom"]
        curves = read_table(write(tmp_path, *lines, header=header)).find_compressed("a", "full", 1)
        assert [curve.cause for curve in curves] == [Cause.OOM]

    def test_a_failure_after_the_last_check_makes_no_training_longer(self, tmp_path: Path) -> None:
        lines = [*(f"{line}," for line in GOOD), "b,full,0,3,,3,lost"]
        table = read_table(write(tmp_path, *lines, header=f"{HEADER},status"))
        assert (table.check_steps, table.schedules) == ({"full": (1, 2)}, {})

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("b,full,0,1,0.5,1,1.5", r"row 6: schedule must be a whole number of at least 1, got 1.5: give the step"),
            ("b,full,0,1,0.5,1,0", r"row 6: schedule must be a whole number of at least 1, got 0"),
            ("b,full,0,2,0.5,1,1", r"row 6: a training must end with its schedule, got step 2 after .* schedule 1"),
            (
                "b,full,0,3,0.5,1,3",
                r"row 6: schedule must be at most 2, the steps of a whole .*, got 3: leave",
            ),
            ("b,full,0,2,0.5,3,2", r"row 6: .*one check per step, got step 2 of architecture 'b'"),
        ],
    )
    def test_an_invalid_schedule_is_refused(self, tmp_path: Path, line: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            self.read(tmp_path, *(f"{good}," for good in GOOD), line)

    def test_a_training_that_ends_before_its_schedule_is_refused(self, tmp_path: Path) -> None:
        lines = [f"a,full,0,{step},0.5,{step},{schedule}" for schedule in (3, 9) for step in (1, 2, schedule)]
        assert self.read(tmp_path, *lines).schedules == {"full": (3,)}
        message = r"row 3: a training must have a check at the end .*, got step 2 as the last one of schedule 3 \(arch"
        with pytest.raises(DataError, match=message):
            self.read(tmp_path, *lines[:2], *lines[3:])


class TestTimes:
    def test_times_of_each_check_are_refused_where_they_are_all_equal(self, tmp_path: Path) -> None:
        lines = [f"{name},full,0,{step},0.{step},10" for name in "abc" for step in (1, 2, 3)]
        message = r"row 4: train_seconds must rise .*, got 3 of 3 trainings under proxy 'full' .*: use the time since"
        with pytest.raises(DataError, match=message):
            read_table(write(tmp_path, *lines))
        cumulative = [f"{name},full,0,{step},0.{step},{10 * step}" for name in "abc" for step in (1, 2, 3)]
        assert not read_table(write(tmp_path, *cumulative)).has_flat_times("full")
        steps = [f"{name},full,0,{step},0.{step},{step}" for name in "abc" for step in (1, 2, 3)]
        assert read_table(write(tmp_path, *steps)).curves, "the step is the time, if time was not logged"

    def test_times_that_hardly_rise_are_questioned(self, tmp_path: Path) -> None:
        lines = [f"{name},full,0,{step},0.{step},{10 + 0.1 * step}" for name in "abc" for step in (1, 2, 3)]
        assert read_table(write(tmp_path, *lines)).has_flat_times("full")

    def test_one_quick_training_and_single_checks_say_nothing(self, tmp_path: Path) -> None:
        lines = [f"{name},full,0,{step},0.{step},{step}" for name in "ab" for step in (1, 2, 3)]
        quick = [f"c,full,0,{step},0.{step},1" for step in (1, 2, 3)]
        table = read_table(write(tmp_path, *lines, *quick))
        assert not table.has_flat_times("full")
        single = read_table(write(tmp_path, "a,full,0,2,0.5,5", "b,full,0,2,0.5,5", name="single.csv"))
        assert not single.has_flat_times("full")
