"""The checkpoint of a Lightning training, a single file that is replaced atomically."""

import pickle
from pathlib import Path

import torch

from nasproxy.errors import CorruptFileError
from nasproxy.training.lightning.trial import Trial

CHECKPOINT_NAME = "last.ckpt"


def get_checkpoint_path(trial: Trial) -> Path:
    """Return the path of the checkpoint, which may not exist."""
    return trial.checkpoint_dir / CHECKPOINT_NAME


def resume_path(trial: Trial) -> Path | None:
    """Return the checkpoint to resume from: `trainer.fit(module, ckpt_path=resume_path(trial), weights_only=True)`.

    Returns:
        Path of the checkpoint, or None for a new trial.

    Raises:
        CorruptFileError: The checkpoint cannot be loaded weights-only.
    """
    path = get_checkpoint_path(trial)
    if not path.exists():
        return None
    try:
        torch.load(path, weights_only=True, mmap=True)  # reads the index, not the weights
    except (pickle.UnpicklingError, RuntimeError, ValueError, OSError, EOFError, KeyError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CorruptFileError(
            f"{path} must be a checkpoint that torch can load with weights_only=True, got: {reason}. Nothing was "
            f"changed; remove the file to train the trial from the start; recorded checks are kept"
        ) from error
    return path


def name_temporary(path: Path) -> Path:
    """Return the temporary path that is written before it atomically replaces the checkpoint."""
    return path.with_name(f".{path.name}.tmp")
