"""Tables of learning curves: reading valid tables and refusing invalid ones."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasproxy.errors import DataError
from nasproxy.execution.backends.replay.curve_table import TableTraining, read_table
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
