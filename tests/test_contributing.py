"""CONTRIBUTING.md agrees with the configuration of the tools."""

import re

from helpers.cli import ROOT


def read_documented_layers() -> list[str]:
    """Read the list of layers in CONTRIBUTING.md, from top to bottom."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.search(r"^## Layers$.*?^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found, "CONTRIBUTING.md has no block of layers"
    return found[1].splitlines()


def read_checked_layers() -> list[str]:
    """Read the layers that `lint-imports` checks; tomllib is missing in Python 3.10."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r"^layers = \[\n(.*?)^\]$", text, re.DOTALL | re.MULTILINE)
    assert found, "pyproject.toml has no contract with layers"
    return re.findall(r'"(.*?)"', found[1])


def test_the_layers_are_those_of_the_import_contract() -> None:
    assert read_documented_layers() == read_checked_layers()
