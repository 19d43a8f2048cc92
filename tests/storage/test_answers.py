"""Answers of preflights and measurements."""

from pathlib import Path

import pytest

from nasproxy.errors import CorruptFileError
from nasproxy.storage.answers import Answer, drop_answer, find_answer, take_answer, write_answer


def test_an_answer_is_taken_once(tmp_path: Path) -> None:
    write_answer(tmp_path, "preflight", Answer(("a note",)))
    assert take_answer(tmp_path, "preflight") == Answer(("a note",))
    assert take_answer(tmp_path, "preflight") is None
    assert not find_answer(tmp_path, "preflight").exists()


def test_an_answer_that_cannot_be_read_stays_as_its_error_says_until_the_order_is_repeated(tmp_path: Path) -> None:
    find_answer(tmp_path, "preflight").parent.mkdir()
    find_answer(tmp_path, "preflight").write_bytes(b'{"schema": 5, "no')
    with pytest.raises(CorruptFileError, match=r"preflight.json cannot be read: .* Nothing was changed"):
        take_answer(tmp_path, "preflight")
    assert find_answer(tmp_path, "preflight").read_bytes() == b'{"schema": 5, "no'
    drop_answer(tmp_path, "preflight")  # as the next command does before it repeats the order
    write_answer(tmp_path, "preflight", Answer())
    assert take_answer(tmp_path, "preflight") == Answer()
