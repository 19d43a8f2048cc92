"""`report.json` holds everything that the page shows, as valid JSON."""

import json
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nasproxy.errors import CorruptFileError
from nasproxy.report.content import encode_content, make_plain, read_content
from nasproxy.report.page import Page

FRAME = {"Proxy task report: which cheap training setting ranks models as full training does?", "Verdict"}
"""Texts of the page that say nothing about a study."""
VERDICT_FRAME = {
    "Evidence",
    *(
        "Overrides for a search with this proxy task",
        "Use the study's search space, trainer and data with these overrides:",
    ),
    *("Next steps", "Limits of this verdict"),
}
SILENT = ("style", "title")


class Texts(HTMLParser):
    """Collects the texts that a page shows."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self._silent = 0
        self.texts: list[str] = []
        self.feed(page.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in SILENT
        self.texts += [value for name, value in attrs if name == "alt" and value]

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in SILENT

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.texts.append(_normalise(data))


def _normalise(text: str) -> str:
    return " ".join(unescape(text).split())


def list_strings(value: Any) -> Iterator[str]:
    """List all strings in nested JSON."""
    if isinstance(value, str):
        yield _normalise(value)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield _normalise(name)
            yield from list_strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from list_strings(each)


def read_json(page: Page) -> Any:
    def refuse(text: str) -> float:
        raise AssertionError(f"{text} is not valid JSON")

    return json.loads((page.path.parent / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("name", ["page", "grown_page", "vertex_page"])
def test_every_text_of_the_page_is_in_the_json(name: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(name)
    known = set(list_strings(read_json(page)))
    shown = set(Texts(page).texts)
    assert len(shown) > 100
    assert shown - known - FRAME - VERDICT_FRAME == set()


def test_every_table_is_in_the_json_with_the_values_and_texts_of_the_page(page: Page) -> None:
    found = read_json(page)["tables"]
    assert set(found) == set(page.shown) - {"trials"}, "all trials are in the store, and no part of the page"
    for name, table in found.items():
        assert table["cells"] == page.shown[name].cells
        assert len(table["rows"]) == len(page.tables[name])
    (best,) = [row for row in found["proxy_tasks"]["rows"] if row["is_best"]]
    assert best["tau"] == next(row["tau"] for row in page.tables["proxy_tasks"] if row["is_best"])


def test_the_fields_of_a_table_are_the_values_of_its_rows(page: Page, grown_page: Page, vertex_page: Page) -> None:
    for each in (page, grown_page, vertex_page):
        for table in each.shown.values():
            assert {tuple(row) for row in table.rows} <= {table.fields}


def test_the_verdict_has_its_text_and_overrides(page: Page) -> None:
    content = read_json(page)
    assert content["schema"] == 1
    assert content["verdict"]["text"] == page.verdict
    assert content["verdict"]["overrides"][0] == "proxy=full"
    assert content["pictures"].keys() == {path.name for path in page.pictures}


def test_the_content_is_read_as_it_was_written(page: Page, tmp_path: Path) -> None:
    content = read_content(page.path.parent / "report.json")
    (tmp_path / "report.json").write_bytes(encode_content(content))
    assert read_content(tmp_path / "report.json") == content
    assert (tmp_path / "report.json").read_bytes() == (page.path.parent / "report.json").read_bytes()


def test_values_that_json_has_not_are_converted() -> None:
    assert make_plain([float("inf"), float("nan"), {1: Path("a")}, None]) == [None, None, {"1": "a"}, None]


DEEP = f"{'[' * 5000}{']' * 5000}"


@pytest.mark.parametrize(
    "text",
    ["no json", "[]", "{}", '{"schema": 99}', '{"schema": 1}', "[" * 100_000, f'{{"schema": 1, "sections": {DEEP}}}'],
    ids=["no_json", "list", "empty", "other_schema", "no_fields", "nested_deeply", "nested_deeply_in_a_field"],
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(CorruptFileError, match=r"report.json cannot be read: .*restore the file"):
        read_content(tmp_path / "report.json")


def test_a_missing_file_and_a_link_are_refused(page: Page, tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"report.json cannot be read: it does not exist"):
        read_content(tmp_path / "report.json")
    (tmp_path / "report.json").symlink_to(page.path.parent / "report.json")
    with pytest.raises(CorruptFileError, match=r"it is a symbolic link, which is not followed"):
        read_content(tmp_path / "report.json")
