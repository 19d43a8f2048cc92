"""Pools of cores and GPUs, leased so that trials of all studies on a machine never use the same ones at once."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nasproxy.errors import ConfigError
from nasproxy.storage.files import make_private_folder
from nasproxy.storage.locks import FileLock

POLL_SECONDS = 0.1
"""Seconds between two attempts to lease a device."""

UUID_PREFIXES = ("GPU-", "MIG-")
"""Beginnings of the UUIDs of GPUs and of parts of them."""


def list_gpus() -> tuple[str, ...]:
    """List the GPUs that this process may use, without initialising CUDA; empty if there are none."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1"))
    if shutil.which("nvidia-smi") is None:
        return ()
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tuple(listed.stdout.split()) if listed.returncode == 0 else ()


def find_uuids(gpus: Sequence[str]) -> tuple[str, ...]:
    """Find the UUIDs of GPUs, which name them alike in all processes of a machine, whatever each one may see.

    Args:
        gpus: Names as in CUDA_VISIBLE_DEVICES: an index, or a UUID.

    Returns:
        UUIDs in the same order; the name itself where it is one, or the UUID cannot be found.
    """
    if all(gpu.startswith(UUID_PREFIXES) for gpu in gpus) or shutil.which("nvidia-smi") is None:
        return tuple(gpus)
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    pairs = [line.split(",") for line in listed.stdout.splitlines() if line.count(",") == 1]
    uuids = {index.strip(): uuid.strip() for index, uuid in pairs} if listed.returncode == 0 else {}
    return tuple(uuids.get(gpu, gpu) for gpu in gpus)


def find_lease_folder() -> Path:
    """Return the folder of the GPU leases on this machine, creating it: one per user, shared by all studies.

    Raises:
        ConfigError: There is a link, a file or the folder of another user in its place.
    """
    shared = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    return make_private_folder(shared / f"nasproxy-gpus-{os.getuid()}", "XDG_RUNTIME_DIR")


class Pool(Protocol):
    """Devices of a machine, which trials lease."""

    @property
    def slots(self) -> int:
        """Trials that run at once."""
        ...

    @property
    def max_devices(self) -> int:
        """Maximum number of devices for one trial."""
        ...

    def slots_of(self, devices: int) -> float:
        """Return the number of slots that a trial on so many devices occupies."""
        ...

    def lease(self, devices: int = 1) -> AbstractContextManager[str]:
        """Wait for the devices of a trial and hold them during a block, which gets Torch's name of the device.

        Args:
            devices: Devices that the trial uses.

        Raises:
            ConfigError: The pool has fewer devices.
        """
        ...


def check_fits(pool: Pool, devices: int) -> None:
    """Check that the pool has enough devices for a trial.

    Raises:
        ConfigError: The pool has fewer devices.
    """
    if devices > pool.max_devices:
        raise ConfigError(
            f"a trial needs {devices} devices, and the backend has {pool.max_devices}: lower training.devices or "
            f"proxy.devices, or raise backend.slots on cores, backend.gpus on GPUs"
        )


@contextmanager
def _hold_turn(folder: Path, among: Sequence[str]) -> Iterator[None]:
    """Hold the exclusive right to lease from a set of devices until a trial has all it needs.

    Without it, two trials could deadlock with half of their devices each, and a trial on several devices could wait
    without limit while trials on one device overtake it. Trials that lease from other devices are not blocked.
    """
    with ExitStack() as turns:
        for name in sorted(among):  # sorted, so that two processes never wait for each other
            turns.enter_context(FileLock(folder / f"{name}.turn.lock").hold(name, wait_seconds=None))
        yield


@dataclass(frozen=True)
class CorePool:
    """The cores of this machine, divided into slots for trials.

    Attributes:
        slots: Trials that run at once.
        folder: Folder of the leases; processes of this machine with the same folder share the slots.
    """

    slots: int
    folder: Path

    @property
    def _prefix(self) -> str:
        """Beginning of the leases' names, because machines may share the folder."""
        return f"{os.uname().nodename}-slot"

    @property
    def max_devices(self) -> int:
        """Maximum number of devices for one trial: each slot can be one."""
        return self.slots

    def slots_of(self, devices: int) -> float:
        """Return one slot per device."""
        return devices

    @contextmanager
    def lease(self, devices: int = 1) -> Iterator[str]:
        """Wait for one slot per device and hold them during a block."""
        check_fits(self, devices)
        with _hold_turn(self.folder, [f"{self._prefix}s"]):
            while (held := self._try_lease(devices)) is None:
                time.sleep(POLL_SECONDS)
        with held:
            yield "cpu"

    def _try_lease(self, devices: int) -> ExitStack | None:
        with ExitStack() as leases:
            for slot in range(self.slots):
                lease = FileLock(self.folder / f"{self._prefix}{slot}.lock")
                if lease.acquire():
                    leases.callback(lease.release)
                    devices -= 1
                if devices == 0:
                    return leases.pop_all()
        return None


def count_gpus(devices: int, per_trial: float) -> float:
    """Return the GPUs that a trial holds: its share, but a whole GPU per device for several devices."""
    return per_trial if devices == 1 else max(devices, per_trial)


UNITS = 24
"""Units of a GPU that can be leased; halves, thirds, quarters, sixths, eighths and twelfths are whole units."""


@dataclass(frozen=True)
class GpuPool:
    """GPUs of this machine, leased whole or in shares.

    Attributes:
        gpus: Names as in CUDA_VISIBLE_DEVICES.
        per_trial: GPUs of one trial: a whole number, or a fraction that divides one GPU.
        folder: Folder of the leases.
        uuids: Names of their leases: the UUIDs of the GPUs; None for `gpus`.
    """

    gpus: tuple[str, ...]
    per_trial: float
    folder: Path
    uuids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        units = self.per_trial * (UNITS if self.per_trial < 1 else 1)
        if not (units > 0 and abs(units - round(units)) < 1e-3 and (units >= 1)):
            raise ConfigError(
                f"backend.gpus_per_trial must be a whole number or a fraction that divides one GPU into at most "
                f"{UNITS}, got {self.per_trial:g}: give 1, 2, 0.5, 0.25 or 0.125"
            )
        if self.per_trial > len(self.gpus):
            raise ConfigError(f"backend.gpus_per_trial needs {self.per_trial:g} GPUs, got {len(self.gpus)}: lower it")

    @property
    def slots(self) -> int:
        """Trials that run at once."""
        return int(len(self.gpus) / self.per_trial + 1e-3)

    @property
    def max_devices(self) -> int:
        """Maximum number of devices for one trial: each GPU can be one."""
        return len(self.gpus)

    def slots_of(self, devices: int) -> float:
        """Return the number of `per_trial` shares that a trial on so many devices holds."""
        return count_gpus(devices, self.per_trial) / self.per_trial

    @contextmanager
    def lease(self, devices: int = 1) -> Iterator[str]:
        """Wait for a trial's share, or for one whole GPU per device, and hold it during a block.

        Sets CUDA_VISIBLE_DEVICES, so CUDA must not be initialised before.
        """
        check_fits(self, devices)
        share = count_gpus(devices, self.per_trial)
        with _hold_turn(self.folder, [f"gpu{uuid}" for uuid in self.uuids or self.gpus]):
            while (held := self._try_lease(share)) is None:
                time.sleep(POLL_SECONDS)
        names, leases = held
        with leases:
            if self.uuids not in (None, self.gpus):
                os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the indices are those of nvidia-smi
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
            yield "cuda"

    def _try_lease(self, share: float) -> tuple[list[str], ExitStack] | None:
        units = UNITS if share >= 1 else round(UNITS * share)
        names: list[str] = []
        with ExitStack() as leases:
            for gpu, uuid in zip(self.gpus, self.uuids or self.gpus, strict=True):
                with ExitStack() as part:
                    if self._lease_units(uuid, units, part):
                        names.append(gpu)
                        leases.push(part.pop_all())
                if len(names) >= share:
                    return names, leases.pop_all()
        return None

    def _lease_units(self, uuid: str, units: int, part: ExitStack) -> bool:
        for unit in range(UNITS):
            lease = FileLock(self.folder / f"gpu{uuid}.unit{unit}.lock")
            if lease.acquire():
                part.callback(lease.release)
                units -= 1
                if units == 0:
                    return True
        return False
