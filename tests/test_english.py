"""Code, configuration and docs are in plain technical English, without the words that the rules exclude."""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from helpers.cli import ROOT

EXCLUDED = re.compile(
    r"\b(workshops?|showpieces?|errands?|called.up|stands? in for|stand.ins?|lineage|dearer|flatters?|hangs on"
    r"|mend(s|ed|ing)?)\b",
    re.IGNORECASE,
)
NOT_READ = ("LICENSE", "tests/golden/", "tests/test_english.py")


def list_texts() -> list[Path]:
    """List the tracked text files, without links, whose targets are listed too."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name and not name.startswith(NOT_READ)]
    return [path for path in paths if path.is_file() and not path.is_symlink() and b"\0" not in path.read_bytes()]


def find_excluded(paths: Iterable[Path]) -> list[str]:
    """Find excluded words, each as `file:line: word`."""
    return [
        f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}:{number}: {word[0]}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for word in EXCLUDED.finditer(line)
    ]


def test_no_text_has_an_excluded_word() -> None:
    found = find_excluded(list_texts())
    assert not found, "rewrite with the field's term (CONTRIBUTING.md, English):\n" + "\n".join(found)


def test_code_configuration_and_docs_are_read() -> None:
    names = {str(path.relative_to(ROOT)) for path in list_texts()}
    assert {
        "README.md",
        "Makefile",
        "conf/config.yaml",
        "docs/replay.md",
        "nasproxy/cli/__init__.py",
        "trainers/command.py",
    } <= names
    assert not {name for name in names if name.startswith(("nasproxy/conf/", "nasproxy/trainers/"))}


def test_an_excluded_word_is_reported_with_its_file_and_line(tmp_path: Path) -> None:
    text = tmp_path / "advice.md"
    text.write_text("A mended trainer\nis amended, recommended,\nand Stands in for another.\n")
    assert find_excluded([text]) == ["advice.md:1: mended", "advice.md:3: Stands in for"]
