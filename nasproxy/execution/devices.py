"""What a trial runs on: cores and GPUs, leased so that processes of ours never crowd each other out."""

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
from nasproxy.storage.leases import Lease

POLL_SECONDS = 0.1
"""Between two looks whether a share has become free."""


def list_gpus() -> tuple[str, ...]:
    """Names of the GPUs this process may use, without starting CUDA; empty where there are none."""
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


def find_lease_folder() -> Path:
    """Where this machine's leases lie: one folder a user, shared by all studies."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"nasproxy-gpus-{os.getuid()}"


class Pool(Protocol):
    """Something that several trials share, each on a lease of its own."""

    @property
    def slots(self) -> int:
        """Trials that fit at once."""
        ...

    @property
    def most(self) -> int:
        """Devices that one trial can be spread over at most."""
        ...

    def slots_of(self, devices: int) -> float:
        """Slots that a trial on so many devices takes up."""
        ...

    def lease(self, devices: int = 1) -> AbstractContextManager[str]:
        """Hold the shares of a trial on so many devices, waiting for them; gives Torch's name of the device.

        Raises:
            ConfigError: There are not so many.
        """
        ...


def check_fits(pool: Pool, devices: int) -> None:
    """Make sure that a trial can have its devices.

    Raises:
        ConfigError: There are not so many.
    """
    if devices > pool.most:
        raise ConfigError(
            f"a trial asks for {devices} devices, and the backend has {pool.most}: lower training.devices or "
            f"proxy.devices, or raise backend.slots on cores, backend.gpus on GPUs"
        )


@contextmanager
def _turn(folder: Path, among: Sequence[str]) -> Iterator[None]:
    """The right to choose among devices, which a process keeps until it has what it needs.

    Two that each took half of what they need would both go without; and one that needs several devices would wait for
    ever while others, of another study, pass it by with one each. Who chooses among other devices is not held up.
    """
    with ExitStack() as turns:
        for name in sorted(among):  # in one order, so that no two wait for each other
            turns.enter_context(Lease(folder / f"{name}.turn.lock").hold(name, wait_seconds=None))
        yield


@dataclass(frozen=True)
class CorePool:
    """The cores of this machine, in as many slots as trials may run at once.

    Attributes:
        slots: Trials at once.
        folder: Where the leases lie; all who share it share the slots.
    """

    slots: int
    folder: Path

    @property
    def most(self) -> int:
        """Every slot can be a device of one trial."""
        return self.slots

    def slots_of(self, devices: int) -> float:
        """One for each device."""
        return devices

    @contextmanager
    def lease(self, devices: int = 1) -> Iterator[str]:
        """Hold a slot for each device, waiting for them."""
        check_fits(self, devices)
        with _turn(self.folder, ["slots"]):
            while (held := self._try(devices)) is None:
                time.sleep(POLL_SECONDS)
        with held:
            yield "cpu"

    def _try(self, devices: int) -> ExitStack | None:
        with ExitStack() as taken:
            for slot in range(self.slots):
                lease = Lease(self.folder / f"slot{slot}.lock")
                if lease.acquire():
                    taken.callback(lease.release)
                    devices -= 1
                if devices == 0:
                    return taken.pop_all()
        return None


def count_gpus(devices: int, per_trial: float) -> float:
    """GPUs that a trial holds: its share, and of several devices each is a whole GPU."""
    return per_trial if devices == 1 else max(devices, per_trial)


UNITS = 24
"""Parts a GPU is handed out in: enough for halves, thirds, quarters, sixths, eighths and twelfths to live together."""


@dataclass(frozen=True)
class GpuPool:
    """GPUs to hand out, whole or in shares.

    Attributes:
        gpus: Names as CUDA_VISIBLE_DEVICES takes them.
        per_trial: GPUs a trial gets: a whole number, or a fraction that divides one.
        folder: Where the leases lie.
    """

    gpus: tuple[str, ...]
    per_trial: float
    folder: Path

    def __post_init__(self) -> None:
        units = self.per_trial * (UNITS if self.per_trial < 1 else 1)
        if not (units > 0 and abs(units - round(units)) < 1e-3 and (units >= 1)):
            raise ConfigError(
                f"backend.gpus_per_trial must be a whole number or a fraction that divides one GPU into at most "
                f"{UNITS}, got {self.per_trial:g}: give 1, 2, 0.5, 0.25 or 0.125"
            )
        if self.per_trial > len(self.gpus):
            raise ConfigError(
                f"backend.gpus_per_trial asks for {self.per_trial:g} GPUs, got {len(self.gpus)}: ask for fewer"
            )

    @property
    def slots(self) -> int:
        """Trials that fit at once."""
        return int(len(self.gpus) / self.per_trial + 1e-3)

    @property
    def most(self) -> int:
        """Every GPU can be a device of one trial."""
        return len(self.gpus)

    def slots_of(self, devices: int) -> float:
        """One for each share of GPUs that it holds."""
        return count_gpus(devices, self.per_trial) / self.per_trial

    @contextmanager
    def lease(self, devices: int = 1) -> Iterator[str]:
        """Hold a trial's share, or a whole GPU for each of several devices, waiting for it.

        Sets CUDA_VISIBLE_DEVICES, so CUDA must not have started.
        """
        check_fits(self, devices)
        share = count_gpus(devices, self.per_trial)
        with _turn(self.folder, [f"gpu{gpu}" for gpu in self.gpus]):
            while (held := self._try(share)) is None:
                time.sleep(POLL_SECONDS)
        names, leases = held
        with leases:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
            yield "cuda"

    def _try(self, share: float) -> tuple[list[str], ExitStack] | None:
        units = UNITS if share >= 1 else round(UNITS * share)
        names: list[str] = []
        with ExitStack() as taken:
            for gpu in self.gpus:
                with ExitStack() as part:
                    if self._take(gpu, units, part):
                        names.append(gpu)
                        taken.push(part.pop_all())
                if len(names) >= share:
                    return names, taken.pop_all()
        return None

    def _take(self, gpu: str, units: int, part: ExitStack) -> bool:
        for unit in range(UNITS):
            lease = Lease(self.folder / f"gpu{gpu}.unit{unit}.lock")
            if lease.acquire():
                part.callback(lease.release)
                units -= 1
                if units == 0:
                    return True
        return False
