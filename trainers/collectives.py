"""What the processes of one training on several devices tell each other; each call is nothing where there is one."""

import inspect
import os
import socket
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from nasproxy.execution.worker.context import TrialContext


def join_group(trial: TrialContext) -> None:
    """Meet the other ranks at the port that the worker has set."""
    if trial.world_size > 1:
        stay_on_this_machine()
        distributed.init_process_group("nccl" if trial.device.startswith("cuda") else "gloo")


def leave_group() -> None:
    """Part, once all have come so far."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def stay_on_this_machine() -> None:
    """Have ranks speak over the loopback interface: else gloo wants the host's name to be known to the network."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)


def get_ddp_options() -> dict[str, Any]:
    """Options of DDP: norms' statistics are rank 0's, and given to the others where they are read, at a check.

    Left to itself it sends them before each forward pass, of which ranks have not all as many at a check.
    """
    known = inspect.signature(DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum over all ranks."""
    if distributed.is_initialized():
        distributed.all_reduce(value)
    return value


def broadcast_decision(decision: bool, device: torch.device) -> bool:
    """What rank 0 has decided."""
    if not distributed.is_initialized():
        return decision
    word = torch.tensor(int(decision), device=device)
    distributed.broadcast(word, 0)
    return bool(word)


def share_statistics(*models: nn.Module) -> None:
    """Give all ranks what rank 0's norms have counted; weights are the same on all."""
    if distributed.is_initialized():
        for model in models:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)
