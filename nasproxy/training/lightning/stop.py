"""Whether a Lightning Trainer can be stopped by its controller."""

import pytorch_lightning as pl

from nasproxy.errors import ConfigError


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
