"""The cores that this process may use: a job often has fewer than the machine."""

import os
from collections.abc import Mapping
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
"""Lines `number:controllers:path`, one per hierarchy; number 0 and no controllers for cgroup v2."""


def count_cores(
    environment: Mapping[str, str] = os.environ, cgroups: Path = CGROUPS, own_cgroups: Path = OWN_CGROUPS
) -> int:
    """Count the cores of this process: the least of its affinity, its SLURM job's share and its cgroups' CPU quotas.

    Args:
        environment: Environment variables.
        cgroups: Where the cgroup file systems are mounted.
        own_cgroups: File that names the cgroups of this process.
    """
    counts = [len(os.sched_getaffinity(0)), *_list_quotas(cgroups, own_cgroups)]
    slurm = environment.get("SLURM_CPUS_ON_NODE", "")
    if slurm.isdecimal():
        counts.append(int(slurm))
    return max(1, min(counts))


def _list_quotas(cgroups: Path, own_cgroups: Path) -> list[int]:
    """List the CPU quotas of this process's cgroups and those above them, in whole cores."""
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:
        return []
    quotas: list[float | None] = []
    for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
        if number == "0":
            quotas += map(_read_v2, _list_folders(cgroups, path))
        elif "cpu" in controllers.split(","):
            quotas += [
                _read_v1(folder) for name in (controllers, "cpu") for folder in _list_folders(cgroups / name, path)
            ]
    return [max(1, int(quota)) for quota in quotas if quota is not None]


def _list_folders(root: Path, path: str) -> list[Path]:
    """List a cgroup's folder and those above it; in a container its path may be relative to another root."""
    folder = root / path.lstrip("/")
    return [folder, *(above for above in folder.parents if above == root or root in above.parents)]


def _read_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else float(quota) / float(period)
    except (OSError, ValueError):
        return None


def _read_v1(folder: Path) -> float | None:
    try:
        quota, period = (float((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError):
        return None
