"""Decisions of whole runs, and composed configurations, equal those stored in tests/golden.

Moving and renaming code changes none of them. After an intended change, write the files again and read `git diff`:

    GOLDEN=write python -m pytest tests/test_golden.py

`-k debug`, `-k replay`, `-k config` or `-k NAME` writes a part of them.
"""

import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers import cli
from helpers.debug_study import DebugStudy
from nasproxy.testing import curves

GOLDEN = cli.ROOT / "tests" / "golden"
CONFIGS = GOLDEN / "config"
HOW = "GOLDEN=write python -m pytest tests/test_golden.py"
TOLERANCE = 1e-9
"""Tolerance of numbers, which are stored with one decimal more."""
SHOWN = 20
"""Maximum number of differences in the message of a failure."""

Decisions = dict[str, dict[str, Any]]
"""Decisions of a study: sections, each with named entries."""


def read_decisions(folder: Path, output: str, listing: str) -> Decisions:
    """Read the decisions of a study, without trial keys, paths and wall-clock times.

    Args:
        folder: The study's folder.
        output: Output of the run.
        listing: Output of `job=list_trials`, because trials of a replay have no files.
    """
    variance = _json(folder / "variance" / "state.json")
    selection = _json(folder / "references" / "state.json")
    tasks = {state["name"]: state for state in map(_json, (folder / "proxy_search" / "tasks").glob("*.json"))}
    tasks = dict(sorted(tasks.items(), key=lambda item: item[1]["number"]))
    confirmations = [_json(path) for path in sorted((folder / "confirmation").glob("*.json"))]
    page = html.unescape(re.sub(r"<[^>]*>", "", (folder / "report" / "index.html").read_text(encoding="utf-8")))
    lines = output.splitlines()
    ceiling = re.search("Noise ceiling: .*", page)
    verdict = lines[next(place for place, line in enumerate(lines) if line.startswith("report: ")) - 1]
    best = _json(folder / "proxy_search" / "SEARCH_CONTROLLER_STATE.json")["best_proxy_task_name"]
    measured = {name: value for name, value in variance["result"].items() if name != "keys"}
    return {
        "verdict": {"winner": best, "in words": verdict, "noise ceiling": ceiling[0] if ceiling else None},
        "variance": {"trainable": variance["trainable"], "architecture": variance["architecture"], **measured},
        "selection": {
            "candidates": [_words(architecture) for architecture in selection["architectures"]],
            "iterations": selection["iterations"],
        },
        "references": {
            "number": len(selection["references"]),
            **{f"place {place}": _reference(model) for place, model in enumerate(selection["references"], 1)},
            "baseline": selection["baseline"] and _reference(selection["baseline"]),
        },
        "proxy tasks": {name: _task(state) for name, state in tasks.items()},
        "looks": {f"{name} step {look['step']}": look for name, state in tasks.items() for look in state["checks"]},
        "confirmations": {
            f"{state['task']} step {state['final_step']}": {
                "models": len(state["keys"]),
                "outcome": state["outcome"],
                "result": state["result"],
            }
            for state in confirmations
        },
        "trials": _named(_trials(folder / "trials")),
        "listed": _named(_listed(listing)),
    }


def _task(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outcome of a proxy task, without its looks, which have a section of their own."""
    kept = ("number", "proxy_task", "total_steps", "requested", "completed", "stopping_state", "final_step")
    return {
        **{name: state[name] for name in (*kept, "final_train_seconds", "beaten_by")},
        "accepted": str(state["stopping_state"]).startswith("Met "),
        "models": len(state["keys"]),
        "added": [_reference(model) for model in state["added"]],
        "verdict": {name: value for name, value in (state["verdict"] or {}).items() if name != "reason"},
    }


def _reference(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reference model without the key of its trial."""
    return {
        **{name: value for name, value in model.items() if name != "key"},
        "architecture": _words(model["architecture"]),
    }


def _trials(folder: Path) -> Iterator[tuple[str, Any]]:
    """List the trials that have a folder, named by architecture, setting, split, seed and total steps."""
    for path in folder.glob("*/config.yaml"):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        reduced = {k: v for k, v in spec["proxy_task"].items() if isinstance(v, float) and v != 1.0}
        steps = f"{spec['recipe']['total_steps']} steps"
        words = (_words(spec["architecture"]), _words(reduced) or "full", spec["split"], f"seed {spec['seed']}", steps)
        checks = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        metric = spec["recipe"]["objective"]["name"]
        yield (
            ", ".join(words),
            {
                "state": _json(path.parent / "status.json")["state"],
                "train_seconds": checks[-1]["train_seconds"],
                "curve": [[check["step"], check["metrics"][metric]] for check in checks],
            },
        )


def _listed(listing: str) -> Iterator[tuple[str, Any]]:
    """List the trials of `job=list_trials`, named by stage, proxy task, architecture and seed, without wall time."""
    lines = [line.split("\t") for line in listing.splitlines() if "\t" in line]
    for row in (dict(zip(lines[0], line, strict=True)) for line in lines[1:]):
        words = (row["stage"], row["proxy task"] or "full", row["architecture"], f"seed {row['seed']}")
        columns = {"score": "accuracy", "training": "training time"}
        shown = ("state", "steps", "score", "training", "cause")
        yield ", ".join(words), {name: row[columns.get(name, name)] for name in shown}


def _named(entries: Iterator[tuple[str, Any]]) -> dict[str, Any]:
    """Sort entries by their names, which must differ."""
    listed = sorted(entries, key=lambda entry: entry[0])
    named = dict(listed)
    assert len(named) == len(listed), "two trials have the same name"
    return named


def _words(choices: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in choices.items())


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def decide_replay(folder: Path) -> Decisions:
    """Replay a table with three seeds of each training, failures, and proxies of three kinds."""
    table = folder / "curves.csv"
    rows = curves.generate_rows(
        architectures=60,
        checks=12,
        proxies={"fast": "steady", "late": "crossing", "never": "hopeless"},
        costs={"fast": 0.2, "late": 0.1, "never": 0.4},
        seeds=3,
        noise=curves.Noise(early=0.5, late=0.02),
        failures=0.08,
    )
    curves.write_table(table, rows)
    overrides = ("experiment=replay", f"backend.table={table}")
    status, output = cli.run(*overrides, folder=folder)
    assert status == 0, output
    return _read_study("curves", folder, output, *overrides)


def _read_study(name: str, folder: Path, output: str, *overrides: str) -> Decisions:
    status, listing = cli.run(*overrides, "job=list_trials", folder=folder)
    assert status == 0, listing
    return rounded(read_decisions(folder / name, output, listing))


EXPERIMENTS = ("default", *sorted(path.stem for path in (cli.ROOT / "conf" / "experiment").glob("*.yaml")))


@pytest.mark.gate
def test_a_debug_study_decides_what_it_decided_before(debug_study: DebugStudy) -> None:
    compare_with_golden("debug", _read_study("debug", debug_study.folder, debug_study.output, "experiment=debug"))


@pytest.mark.gate
def test_a_replay_decides_what_it_decided_before(tmp_path: Path) -> None:
    compare_with_golden("replay", decide_replay(tmp_path))


def compare_with_golden(name: str, decisions: Decisions) -> None:
    path = GOLDEN / f"{name}.json"
    write_or_find(path, as_lines(decisions))
    found = list_differences(_json(path), decisions)
    assert not found, describe_differences(path, found)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_config_composes_to_what_it_did_before(name: str) -> None:
    process = cli.start_plain("--cfg", "job", *([] if name == "default" else [f"experiment={name}"]))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    path = CONFIGS / f"{name}.yaml"
    write_or_find(path, output)
    found = list_differences(yaml.safe_load(path.read_text(encoding="utf-8")), yaml.safe_load(output))
    assert not found, describe_differences(path, found)


def test_every_golden_config_has_its_experiment() -> None:
    kept = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert kept <= set(EXPERIMENTS), "delete the files of removed experiments"


@pytest.mark.parametrize(
    ("got", "named"),
    [
        ({"a": {"b": [1.0, 2.5]}}, ["a.b.1: expected 2.0, got 2.5"]),
        ({"a": {"b": [1.0 + 1e-12, 2.0]}}, []),
        ({"a": {"b": [1.0]}}, ["a.b.1: expected 2.0, got nothing"]),
        ({"a": {"b": [1.0, 2.0], "c": {}}}, ["a.c: expected nothing, got {}"]),
        ({"a": {"b": [True, 2]}}, ["a.b.0: expected 1.0, got True", "a.b.1: expected 2.0, got 2"]),
    ],
)
def test_a_difference_is_named_by_its_path(got: Any, named: list[str]) -> None:
    assert list_differences({"a": {"b": [1.0, 2.0]}}, got) == named


def write_or_find(path: Path, text: str) -> None:
    """Write a golden file and skip the test if GOLDEN=write is set; else check that the file exists."""
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        pytest.skip(f"wrote {path.relative_to(cli.ROOT)}")
    assert path.exists(), f"{path.relative_to(cli.ROOT)} is missing: write it with `{HOW}`, and read it"


def describe_differences(path: Path, found: list[str]) -> str:
    """Describe the differences from a golden file, and how to accept them."""
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    head = f"{len(found)} values differ from {path.relative_to(cli.ROOT)}; if this is intended: {HOW}"
    return "\n".join([head, *found[:SHOWN], *more])


def list_differences(expected: Any, got: Any) -> list[str]:
    """List the dotted paths at which two trees differ, with both values; numbers may differ by the tolerance."""
    before, now = dict(leaves(expected)), dict(leaves(got))
    missing = object()
    found = []
    for path in {**before, **now}:
        old, new = before.get(path, missing), now.get(path, missing)
        if type(old) is type(new) and (old == new or (isinstance(old, float) and abs(old - new) <= TOLERANCE)):
            continue
        words = ["nothing" if value is missing else repr(value) for value in (old, new)]
        found.append(f"{path}: expected {words[0]}, got {words[1]}")
    return found


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """List the values of a tree by dotted path; an empty mapping or list is a value."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    if not entries or not tree:
        yield path, tree
    for key, value in entries:
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def rounded(tree: Any) -> Any:
    """Round the numbers of a tree as they are stored."""
    if isinstance(tree, dict):
        return {key: rounded(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [rounded(value) for value in tree]
    return round(tree, 10) if isinstance(tree, float) else tree


def as_lines(decisions: Decisions) -> str:
    """Format decisions as JSON with one entry per line, so that a diff shows which one changed."""
    sections = []
    for name, entries in decisions.items():
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
        sections.append(f" {json.dumps(name)}: {{\n{lines}\n }}" if entries else f" {json.dumps(name)}: {{}}")
    return "{\n" + ",\n".join(sections) + "\n}\n"
