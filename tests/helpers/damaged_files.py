"""Ways to damage a file of a study."""

import os
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path], object]
DEEP = 100_000


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("target"))
    path.symlink_to(path.with_name("target"))


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


CONTENTS: dict[str, Damage] = {
    "no text": lambda path: path.write_bytes(b"\xff\xfe{}\n"),
    "zeros": lambda path: path.write_bytes(b"\0" * 40 + b"\n"),
    "deep": lambda path: path.write_text("[" * DEEP + "\n"),
    "another kind": lambda path: path.write_text('{"a": [1]}\n'),
}
PLACES: dict[str, Damage] = {"folder": replace_by_folder, "link": replace_by_link, "pipe": replace_by_pipe}
