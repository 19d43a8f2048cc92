"""How a CSV file of a table is written: its encoding, its separator, and where its header is."""

import codecs
import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from nasproxy.errors import DataError

SEPARATORS: Mapping[str, str] = MappingProxyType({",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"})
"""Separators of columns that are recognised, with their names; commas come first."""
ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and the encodings that they announce; other files are UTF-8, with or without a mark."""
OTHER_FORMATS = (
    (b"PK\x03\x04", "an Excel workbook or another ZIP file: save it as CSV"),
    (b"\x1f\x8b", "a gzip file: unpack it"),
    (b"PAR1", "a Parquet file: give it the ending .parquet"),
)
"""First bytes of files that are no text, and what to do about them."""
SEPARATOR_LINE = re.compile(r'"?sep=(?P<separator>.)"?\s*', re.IGNORECASE | re.DOTALL)
"""First line by which a spreadsheet program is told the separator."""


@dataclass(frozen=True)
class CsvFormat:
    """How a CSV file is written.

    Attributes:
        encoding: Name of its encoding.
        separator: Character between two columns.
        lines_before: Number of lines before the header.
        first_line: The line of the header, as text.
    """

    encoding: str
    separator: str
    lines_before: int
    first_line: str

    @property
    def has_decimal_commas(self) -> bool:
        """Whether a comma in a number separates its decimals, as where columns are separated by semicolons."""
        return self.separator == ";"

    @property
    def separator_name(self) -> str:
        """Name of the separator, in the plural."""
        return SEPARATORS.get(self.separator, f"{self.separator!r}")

    def are_separated_by_blanks(self, known: Collection[str]) -> bool:
        """Return whether the header has more of the known columns if it is split at blanks."""
        apart = self.first_line.split()
        return _count_known(apart, known) > _count_known(split_line(self.first_line, self.separator), known)


def find_format(path: Path, known: Collection[str]) -> CsvFormat:
    """Find out how a CSV file is written, by its first bytes and by the separator that gives most known columns.

    Args:
        path: The file.
        known: Names of columns, as from `normalize_name`.

    Raises:
        DataError: It is no text, or in an encoding that is not announced.
        OSError: It cannot be read.
        UnicodeDecodeError: It has bytes that its encoding does not have.
    """
    encoding = _find_encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        line, before = file.readline(), 0
        stated = SEPARATOR_LINE.fullmatch(line)
        while line and (not line.strip() or SEPARATOR_LINE.fullmatch(line)):
            line, before = file.readline(), before + 1
    separator = (
        stated["separator"]
        if stated
        else max(SEPARATORS, key=lambda separator: _count_known(split_line(line, separator), known))
    )
    return CsvFormat(encoding, separator, before if line else 0, line)


def normalize_name(name: str) -> str:
    """Return the name of a column in small letters, with underscores for blanks and hyphens.

    >>> normalize_name(" Train-Seconds")
    'train_seconds'
    """
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()


def split_line(line: str, separator: str) -> Sequence[str]:
    """Split one line of a CSV file."""
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _count_known(names: Sequence[str], known: Collection[str]) -> int:
    return len(set(map(normalize_name, names)) & set(known))


def _find_encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4096)
    for mark, encoding in ENCODINGS:
        if start.startswith(mark):
            return encoding
    for mark, description in OTHER_FORMATS:
        if start.startswith(mark):
            raise DataError(f"{path} must be text with one check per line, got {description}")
    if b"\0" in start:
        raise DataError(
            f"{path} must be UTF-8, or UTF-16 with a byte order mark, got text with null bytes, which is probably "
            f"UTF-16 without a mark: save it as UTF-8"
        )
    return "utf-8-sig"
