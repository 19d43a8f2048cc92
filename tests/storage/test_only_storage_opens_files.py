"""Only `nasproxy.storage` opens files of a study; every other call that opens a file is listed with what it opens."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2] / "nasproxy"
OPENING = {
    "open",
    "read_text",
    "write_text",
    "read_bytes",
    "write_bytes",
    "touch",
    "unlink",
    "mkdir",
    "rename",
    "rmtree",
}
FOREIGN = {
    "cli/__init__.py": "the null device",
    "cli/sweeps.py": "the folder of a sweep's records, outside of studies",
    "cost/timing.py": "the folder of an estimate, which is removed",
    "data/generated.py": "data",
    "execution/backends/replay/csv_format.py": "the user's table",
    "execution/backends/replay/curve_files.py": "the user's table",
    "execution/failure_causes.py": "/proc",
    "execution/host/cores.py": "/proc and control groups",
    "execution/process_groups.py": "/proc",
    "jobs/sweep.py": "the folder of a sweep's records, outside of studies",
    "execution/worker/preflight.py": "the log of a preflight, in a temporary folder",
    "testing/backend_contract.py": "a test",
    "testing/curves.py": "a table for a user",
    "testing/shared_place_contract.py": "a method of the place under test, which opens the study's store",
    "testing/synthetic.py": "a trainer's own files, as every trainer has",
    "tracking/lost_output.py": "the null device",
    "tracking/weights_and_biases.py": "a picture in memory",
    "training/reporting.py": "the folder of checkpoints, which belongs to the trainer",
}


def list_opened(path: Path) -> list[str]:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    methods = {call.attr for call in calls if isinstance(call, ast.Attribute)}
    functions = {call.id for call in calls if isinstance(call, ast.Name)}
    return sorted((methods & OPENING) | (functions & {"open"}))


def test_only_storage_opens_files_of_a_study() -> None:
    package = [path for path in ROOT.rglob("*.py") if not path.is_relative_to(ROOT / "storage")]
    opened = {str(path.relative_to(ROOT)): list_opened(path) for path in package if "trainers" not in path.parts}
    found = {path: calls for path, calls in opened.items() if calls}
    assert {path: calls for path, calls in found.items() if path not in FOREIGN} == {}
    assert set(FOREIGN) - set(found) == set(), "no longer needed"
