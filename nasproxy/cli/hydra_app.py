"""The Hydra application behind the command: compose a configuration from the arguments, and run its job."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nasproxy import torchvision_gap as torchvision_gap  # before anything imports torchvision
from nasproxy.config import schema
from nasproxy.config.compose import add_to_path
from nasproxy.config.composition_errors import Composition
from nasproxy.config.typed_task import keep_typed_name
from nasproxy.errors import NasproxyError

schema.register_schema()
composition = Composition()


class JobError(BaseException):
    """Carries an error out of a job past Hydra, which prints an `Exception` with its traceback."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def compose_and_run() -> None:
    """Compose a configuration from the arguments of this process, and run its job.

    Raises:
        NasproxyError: The configuration cannot be composed, or a job ended without a result.
        BrokenPipeError: Nobody reads the output of a job.
    """
    try:
        with composition:
            _run()
    except JobError as error:
        raise error.error from None


@hydra.main(version_base="1.3", config_path="pkg://nasproxy.conf", config_name="config")
def _run(config: DictConfig) -> None:
    composition.end()
    from nasproxy.jobs import job

    hydra_config = HydraConfig.get()
    add_to_path(hydra_config)
    try:
        read = keep_typed_name(schema.read_config(config), hydra_config)
        job.run_job(read, is_shared=hydra_config.mode is RunMode.MULTIRUN)
        sys.stdout.flush()  # Hydra flushes too, but ignores a closed pipe
    except (NasproxyError, BrokenPipeError) as error:
        raise JobError(error) from error
