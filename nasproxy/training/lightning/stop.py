"""Stop requests of the controller, for Lightning trainings."""

import pytorch_lightning as pl

from nasproxy.errors import ConfigError
from nasproxy.training.hooks import ModelDir, get_stop_training


def is_stop_requested(model_dir: ModelDir, step: int, total_steps: int) -> bool:
    """Return whether to stop after `step` finished steps."""
    return get_stop_training(model_dir, step - 1, total_steps)


def check_can_stop(trainer: pl.Trainer) -> None:
    """Check that the Trainer can be stopped at any step.

    Raises:
        ConfigError: The Trainer has a minimum number of steps or epochs, before which it ignores stop requests.
    """
    for name, least in (("min_steps", trainer.min_steps), ("min_epochs", trainer.min_epochs)):
        if least:
            raise ConfigError(
                f"TrialCallback must be able to stop the Trainer at any check, got Trainer({name}={least}), "
                f"which cannot be stopped earlier: remove {name}"
            )
