"""Where a Lightning training continues from: one whole checkpoint, replaced as one act."""

import pickle
from pathlib import Path

import torch

from nasproxy.errors import CorruptFileError
from nasproxy.training.hooks import ModelDir, get_checkpoint_dir

CHECKPOINT_NAME = "last.ckpt"


def get_checkpoint_path(model_dir: ModelDir) -> Path:
    """The checkpoint's place, whether there is one or not."""
    return get_checkpoint_dir(model_dir) / CHECKPOINT_NAME


def resume_path(model_dir: ModelDir) -> Path | None:
    """What to continue from: `trainer.fit(module, ckpt_path=resume_path(model_dir), weights_only=True)`.

    Returns:
        The checkpoint, or None for a fresh trial.

    Raises:
        CorruptFileError: The checkpoint cannot be read, or holds more than numbers and plain values.
    """
    path = get_checkpoint_path(model_dir)
    if not path.exists():
        return None
    try:
        torch.load(path, weights_only=True, mmap=True)  # reads the table of contents, not the weights
    except (pickle.UnpicklingError, RuntimeError, ValueError, OSError, EOFError, KeyError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CorruptFileError(
            f"{path} must be a checkpoint that loads weights-only, got: {reason}. Nothing was changed; remove "
            f"it to train the trial again from its start, its known checks stay"
        ) from error
    return path


def name_temporary(path: Path) -> Path:
    """Where to write what then takes the checkpoint's place as one act: a kill leaves the old one or the new."""
    return path.with_name(f".{path.name}.tmp")
