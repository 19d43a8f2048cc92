"""CSV files of tables as spreadsheets and programs write them: read where they are clear, else refused by name."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from nasproxy.errors import DataError
from nasproxy.execution.backends.replay.csv_format import normalize_name
from nasproxy.execution.backends.replay.curve_table import CurveTable, read_table

PLAIN = (
    "architecture,proxy,seed,step,score,train_seconds,status\n"
    "a,full,0,1,0.5,1.5,\n"
    "a,full,0,2,0.6,3,\n"
    "b b,full,0,1,0.4,1.25,\n"
    "b b,full,0,2,,,nan\n"
)
"""A table as programs write it; the variants below have the same content."""


def replace_lines(change: Callable[[str], str]) -> str:
    """Change each line of the table."""
    return "".join(f"{change(line)}\n" for line in PLAIN.splitlines())


def write_header(header: str) -> str:
    return PLAIN.replace(PLAIN.splitlines()[0], header)


SEMICOLONS = PLAIN.replace(",", ";")
VARIANTS = {
    "semicolons": SEMICOLONS,
    "semicolons and decimal commas": SEMICOLONS.replace(".", ","),
    "tabs": PLAIN.replace(",", "\t"),
    "vertical bars": PLAIN.replace(",", "|"),
    "a separator line": f"sep=;\n{SEMICOLONS}",
    "a quoted separator line, CRLF": f'"sep=;"\n{SEMICOLONS}'.replace("\n", "\r\n"),
    "capitals": write_header("Architecture,PROXY,Seed,Step,Score,Train Seconds,Status"),
    "hyphens": write_header("architecture,proxy,seed,step,score,train-seconds,status"),
    "blanks after commas": PLAIN.replace(",", ", "),
    "blanks on both sides": PLAIN.replace(",", " , "),
    "CR line ends": PLAIN.replace("\n", "\r"),
    "CRLF line ends": PLAIN.replace("\n", "\r\n"),
    "no last line end": PLAIN.rstrip("\n"),
    "everything quoted": replace_lines(lambda line: ",".join(f'"{value}"' for value in line.split(","))),
    "quotes after blanks": replace_lines(lambda line: ", ".join(f'"{value}"' for value in line.split(","))),
    "seeds as decimals": PLAIN.replace(",0,", ",0.0,"),
    "steps as decimals": PLAIN.replace(",1,0", ",1.0,0").replace(",2,", ",2.0,"),
    "empty columns at the end": replace_lines(lambda line: f"{line},,"),
    "empty columns in the rows only": PLAIN.replace(",\n", ",,,\n"),
    "empty rows at the end": f"{PLAIN}\n,,,,,,\n\n",
    "empty rows between": PLAIN.replace("a,full,0,2", "\n,,,,,,\na,full,0,2"),
    "empty lines before": f"\n\n{PLAIN}",
    "capital status": PLAIN.replace(",nan", ",NaN"),
}


def read(folder: Path, text: str, encoding: str = "utf-8", metric: str = "score") -> CurveTable:
    path = folder / "curves.csv"
    path.write_bytes(text.encode(encoding))
    return read_table(path, metric)


def list_curves(table: CurveTable) -> dict[str, object]:
    return {str(training): (curve.checks, curve.end_seconds, curve.cause) for training, curve in table.curves.items()}


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_a_table_is_read_however_it_is_written(tmp_path: Path, text: str) -> None:
    assert list_curves(read(tmp_path, text)) == list_curves(read(tmp_path, PLAIN))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le-mark", "utf-16-be-mark", "utf-32"])
def test_an_announced_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    text = PLAIN.replace("b b", "b\N{LATIN SMALL LETTER E WITH ACUTE}")
    marked = encoding.endswith("-mark")
    found = read(tmp_path, f"\ufeff{text}" if marked else text, encoding.removesuffix("-mark"))
    assert found.architectures(["full"]) == ("a", "b\N{LATIN SMALL LETTER E WITH ACUTE}")


REFUSED = {
    "UTF-16 without a mark": (
        PLAIN.encode("utf-16-le"),
        r"null bytes, .*probably UTF-16 without a mark: save it as UTF-8",
    ),
    "Latin-1": (
        PLAIN.replace("b b", "b\xe9").encode("latin-1"),
        r"got byte 0xe9 .*Windows-1252 or Latin-1: save it as",
    ),
    "an Excel workbook": (b"PK\x03\x04rest", r"must be text .*, got an Excel workbook .*: save it as CSV"),
    "gzip": (gzip.compress(PLAIN.encode()), r"got a gzip file: unpack it"),
    "Parquet": (b"PAR1rest", r"got a Parquet file: give it the ending \.parquet"),
    "blanks": (PLAIN.replace(",", " ").encode(), r"row 1: .*seem to be separated by blanks: separate them by commas"),
    "another separator": (
        PLAIN.replace(",", ";").replace(";0;1;", ",0,1,").encode(),
        r"row 2: a row needs 7 values, .*got 4: separate values by semicolons",
    ),
    "thousands": (
        PLAIN.replace(",3,", ',"3,000.5",').encode(),
        r"row 3: train_seconds must be a number, got '3,000\.5': write decimals with a point, and no separator of",
    ),
    "decimal commas in tabs": (
        PLAIN.replace(",", "\t").replace("1.25", "1,25").encode(),
        r"row 4: train_seconds must be a number, got '1,25': write decimals with a point",
    ),
    "thousands with decimal commas": (
        SEMICOLONS.replace("1.5;", "1,5;").replace(";3;", ";3.000;").encode(),
        r"row 3: train_seconds must have decimal points or .* commas, got '3\.000' .*: write all numbers as 1234\.5",
    ),
    "a value too many": (PLAIN.replace("1.5,", "1.5,done,5").encode(), r"row 2: a row needs 7 values, .* got 8"),
    "a separator line before a row that is wrong": (
        f"sep=,\n{PLAIN}".replace(",2,0.6", ",0,0.6").encode(),
        r"row 4: step must be a whole number of at least 1, got 0",
    ),
    "seed 0.5": (PLAIN.replace("a,full,0,", "a,full,0.5,").encode(), r"row 2: seed must be a whole number, got '0\.5'"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(path)


def test_columns_that_differ_in_capitals_only_are_refused_unless_one_has_the_exact_name(tmp_path: Path) -> None:
    twice = PLAIN.replace("status", "SCORE").replace("score,train", "Score,train").replace("nan", "")
    with pytest.raises(
        DataError, match=r"column names must be unique, got Score and SCORE twice: rename or remove one"
    ):
        read(tmp_path, twice)
    exact = twice.replace("Score,train", "score,train").replace("b b,full,0,2,,,", "b b,full,0,2,0.7,2,")
    assert len(read(tmp_path, exact).curves) == 2


def test_a_metric_is_found_whatever_its_capitals(tmp_path: Path) -> None:
    text = PLAIN.replace("status", "Val Loss").replace("1.5,\n", "1.5,9\n").replace("3,\n", "3,8\n")
    lines = text.replace("1.25,\n", "1.25,7\n").replace("b b,full,0,2,,,nan", "b b,full,0,2,0.1,2,6")
    table = read(tmp_path, lines, metric="val_loss")
    assert [curve.scores.tolist() for curve in table.curves.values()] == [[9, 8], [7, 6]]


def test_seeds_written_in_two_ways_are_the_same_seed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 3: .*got step 1 of architecture 'a' .*with seed 0 twice"):
        read(tmp_path, PLAIN.replace("a,full,0,2", "a,full,0.0,1"))


def test_names_of_columns_are_compared_without_capitals_and_blanks() -> None:
    assert {normalize_name(name) for name in ("Train Seconds", "train-seconds ", "TRAIN_SECONDS")} == {"train_seconds"}
