"""Collective operations of a training on several devices; without effect in a single process."""

import inspect
import os
import socket
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from nasproxy.execution.worker.context import TrialContext


def join_group(trial: TrialContext) -> None:
    """Initialize the process group of the trial's ranks, at the port that the worker has set."""
    if trial.world_size > 1:
        stay_on_this_machine()
        distributed.init_process_group("nccl" if trial.device.startswith("cuda") else "gloo")


def leave_group() -> None:
    """Destroy the process group."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def stay_on_this_machine() -> None:
    """Use the loopback interface for gloo, which otherwise requires that the host name can be resolved."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)


def get_ddp_options() -> dict[str, Any]:
    """Return options of DDP that disable its broadcast of buffers; `share_statistics` does it at checks instead.

    By default, DDP broadcasts them before each forward pass, and ranks differ in the number of passes in validation.
    """
    known = inspect.signature(DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


def sum_over_ranks(value: Tensor) -> Tensor:
    """Sum a value over all ranks, in place."""
    if distributed.is_initialized():
        distributed.all_reduce(value)
    return value


def broadcast_decision(decision: bool, device: torch.device) -> bool:
    """Return rank 0's decision on all ranks."""
    if not distributed.is_initialized():
        return decision
    word = torch.tensor(int(decision), device=device)
    distributed.broadcast(word, 0)
    return bool(word)


def share_statistics(*models: nn.Module) -> None:
    """Broadcast rank 0's buffers, such as batch-norm statistics; parameters are equal on all ranks already."""
    if distributed.is_initialized():
        for model in models:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)
