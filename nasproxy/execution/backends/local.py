"""The local backend: each order runs in a fresh process on this machine."""

from nasproxy.errors import ConfigError
from nasproxy.execution.attempts import Ended
from nasproxy.execution.backends.backend import BackendContext, Capabilities
from nasproxy.execution.host.cores import count_cores
from nasproxy.execution.host.devices import CorePool, GpuPool, find_lease_folder, find_uuids, list_gpus
from nasproxy.execution.host.host import Host
from nasproxy.execution.work_order import WorkOrder

MAX_MEMORY_GIB = 2.0**20
"""A limit beyond every machine that still fits the kernel's numbers."""


class LocalBackend:
    """Runs work orders on this machine's cores and GPUs, through a host in this process."""

    def __init__(
        self,
        *,
        context: BackendContext,
        slots: int | None = None,
        gpus: int | None = None,
        gpus_per_trial: float = 1.0,
        hang_seconds: float | None = 1800.0,
        memory_gib: float | None = None,
    ) -> None:
        """Configure slots, devices and limits.

        Args:
            context: The study.
            slots: Trials that run at once; None for one per core, or as many as fit on the GPUs.
            gpus: Number of visible GPUs to use; None for all.
            gpus_per_trial: GPUs of one trial, a whole number or a fraction.
            hang_seconds: Heartbeat timeout in seconds: a worker without a check, output or call of
                `trial.report_alive` for so long is killed; None for no timeout.
            memory_gib: CPU memory limit of a worker in GiB; None for no limit.

        Raises:
            ConfigError: A number is out of range, there are fewer GPUs than asked for, or the study has no folder.
        """
        if context.study is None:
            raise ConfigError(
                "backend=local trains in the study's folder, got trials in memory: take the folder, or a backend that "
                "shows trials from a table"
            )
        if slots is not None and slots < 1:
            raise ConfigError(f"backend.slots must be at least 1, got {slots}")
        if hang_seconds is not None and not hang_seconds > 0:
            raise ConfigError(f"backend.hang_seconds must be above 0, got {hang_seconds:g}: use null to wait for ever")
        if memory_gib is not None and not 0 < memory_gib < MAX_MEMORY_GIB:
            raise ConfigError(f"backend.memory_gib must be above 0, got {memory_gib:g}: use null for no limit")
        if not gpus_per_trial > 0 or (gpus is not None and gpus < 1):
            raise ConfigError(
                f"backend needs gpus of at least 1 and gpus_per_trial above 0, got {gpus} and {gpus_per_trial:g}: "
                f"gpus=null uses all visible GPUs"
            )
        cores = count_cores()
        gpu_pool = _make_gpu_pool(gpus, gpus_per_trial) if context.device_type == "cuda" else None
        chosen_slots = slots or (gpu_pool.slots if gpu_pool else cores)
        self._host = Host(
            # The locks are in the study's folder, so that the controllers of a sweep share the slots.
            gpu_pool or CorePool(chosen_slots, context.study / "locks"),
            slots=chosen_slots,
            cores=cores,
            preload=context.preload,
            hang_seconds=hang_seconds,
            memory_gib=memory_gib,
        )

    @property
    def capabilities(self) -> Capabilities:
        """The slots of this machine."""
        return Capabilities(slots=self._host.slots)

    def submit(self, order: WorkOrder) -> None:
        """Queue an order; if a worker of an earlier controller still trains its trial, this worker is adopted."""
        self._host.submit(order)

    def poll(self, seconds: float) -> list[Ended]:
        """Return the orders that ended; if there are none, wait for one, for at most so many seconds."""
        return self._host.poll(seconds)

    def cancel(self, key: str) -> None:
        """Remove an order from the queue, or kill its worker with all processes that it started."""
        self._host.cancel(key)

    def close(self) -> None:
        """Cancel all orders."""
        self._host.close()


def _make_gpu_pool(count: int | None, per_trial: float) -> GpuPool:
    visible = list_gpus()
    if count is not None and count > len(visible):
        raise ConfigError(f"backend.gpus must be at most the visible GPUs, {len(visible)}, got {count}: lower it")
    gpus = visible if count is None else visible[:count]
    return GpuPool(gpus, per_trial, find_lease_folder(), find_uuids(gpus))
