import os
from pathlib import Path

import pytest

from nasproxy.execution.host.cores import count_cores

MACHINE = len(os.sched_getaffinity(0))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def count(tmp_path: Path, own: str = "", **environment: str) -> int:
    (tmp_path / "own").write_text(own)
    return count_cores(environment, tmp_path / "cgroup", tmp_path / "own")


def test_without_limits_all_cores_of_the_process_count(tmp_path: Path) -> None:
    assert count(tmp_path, "0::/\n") == MACHINE
    assert count_cores({}, tmp_path, tmp_path / "missing") == MACHINE


def test_a_slurm_job_has_the_cores_it_was_given(tmp_path: Path) -> None:
    assert count(tmp_path, SLURM_CPUS_ON_NODE="1") == 1
    assert count(tmp_path, SLURM_CPUS_ON_NODE="100000") == MACHINE


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", MACHINE)])
def test_the_quota_of_a_cgroup_counts_also_that_of_one_above(tmp_path: Path, quota: str, cores: int) -> None:
    write(tmp_path / "cgroup" / "job" / "cpu.max", quota)
    write(tmp_path / "cgroup" / "job" / "step" / "cpu.max", "max 100000")
    assert count(tmp_path, "0::/job/step\n") == cores


def test_the_quota_of_a_first_version_cgroup_counts(tmp_path: Path) -> None:
    folder = tmp_path / "cgroup" / "cpu,cpuacct" / "job"
    write(folder / "cpu.cfs_quota_us", "100000")
    write(folder / "cpu.cfs_period_us", "100000")
    own = "4:memory:/job\n2:cpu,cpuacct:/job\n0::/\n"
    assert count(tmp_path, own) == 1
    write(folder / "cpu.cfs_quota_us", "-1")
    assert count(tmp_path, own) == MACHINE
