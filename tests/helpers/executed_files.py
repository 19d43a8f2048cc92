"""Print the files of nasproxy from the composed configuration to the first line of a trainer.

First the call path, the files whose functions call each other down to the trainer, in controller and worker; then all
files whose functions run before it, which check, prepare and store what the trainer needs:

    python tests/helpers/executed_files.py proxy=data50
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROFILER = """
import inspect, os, sys, threading

folder, root = os.environ["EXECUTED_FILES"], os.environ["EXECUTED_ROOT"]
begun, seen = os.path.join(folder, "training_has_begun"), set()
TRAINERS = (os.path.join(root, "trainers") + os.sep, os.path.join(root, "nasproxy", "trainers") + os.sep)


def list_callers(frame):
    names = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(os.path.join(root, "nasproxy") + os.sep):
            names.append(frame.f_code.co_filename)
        frame = frame.f_back
    return list(dict.fromkeys(reversed(names)))


def write(kind, names):
    with open(os.path.join(folder, kind), "w") as file:
        file.writelines(name + "\\n" for name in names)


def note(frame, event, argument):
    name = frame.f_code.co_filename
    is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED  # bodies of modules and classes are not
    if event != "call" or not is_function or not name.startswith(root):
        return
    if name.startswith(TRAINERS):
        if frame.f_code.co_name in ("train", "train_with"):
            sys.setprofile(None)
            write("worker.path", list_callers(frame))
            open(begun, "w").close()
        return
    if os.path.exists(begun):
        sys.setprofile(None)
        return
    if frame.f_code.co_name == "start" and name.endswith("fork_server.py"):
        write("controller.path", list_callers(frame))
    if name.startswith(os.path.join(root, "nasproxy") + os.sep) and name not in seen:
        seen.add(name)
        with open(os.path.join(folder, f"{os.getpid()}.txt"), "a") as file:
            file.write(name + "\\n")


sys.setprofile(note)
threading.setprofile(note)
"""


def list_executed_files(*overrides: str, root: Path = ROOT) -> tuple[list[str], list[str]]:
    """List the files, relative to the checkout, that run for these overrides.

    Args:
        *overrides: As on the command line.
        root: The checkout to run.

    Returns:
        The call path from the composed configuration to the trainer, in order, and all files that run before it,
        sorted; both of the controller and of all its processes together.
    """
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "sitecustomize.py").write_text(PROFILER)
        path = os.pathsep.join([str(folder), str(root), str(root / "tests")])
        environment = {"PYTHONPATH": path, "EXECUTED_FILES": text, "EXECUTED_ROOT": str(root)}
        command = [
            sys.executable,
            "run.py",
            f"studies_dir={folder / 'studies'}",
            "cost.estimate_first=false",
            *overrides,
        ]
        subprocess.run(command, cwd=root, env={**os.environ, **environment}, check=True, capture_output=True)
        names = {line for file in folder.glob("*.txt") for line in file.read_text().splitlines()}
        path = [
            line for kind in ("controller", "worker") for line in (folder / f"{kind}.path").read_text().splitlines()
        ]
    return (
        [str(Path(name).relative_to(root)) for name in dict.fromkeys(path)],
        sorted(str(Path(name).relative_to(root)) for name in names),
    )


if __name__ == "__main__":
    for title, files in zip(
        ("call path", "all"), list_executed_files(*(sys.argv[1:] or ["proxy=data50"])), strict=True
    ):
        print("\n".join([f"{title}: {len(files)} files", *files]), end="\n\n")
