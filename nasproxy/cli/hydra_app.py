"""The Hydra application behind the command: compose a configuration from the arguments, and run its job."""

import sys
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nasproxy import torchvision_gap as torchvision_gap  # before anything imports torchvision
from nasproxy.cli.sweeps import JobError, remove_records, run_sweep_job
from nasproxy.config import schema
from nasproxy.config.compose import add_to_path
from nasproxy.config.composition_errors import Composition
from nasproxy.config.typed_task import keep_typed_name
from nasproxy.errors import NasproxyError, SweepFailedError
from nasproxy.tracking.lost_output import discard_output, is_full

if TYPE_CHECKING:
    from nasproxy.jobs.sweep import SweepJob

schema.register_schema()
composition = Composition()


def compose_and_run() -> None:
    """Compose a configuration from the arguments of this process, and run its job.

    Raises:
        NasproxyError: The configuration cannot be composed, or a job ended without a result.
        BrokenPipeError: Nobody reads the output of a job.
    """
    try:
        with composition:
            run()
    except JobError as error:
        raise error.error from None
    except BrokenExecutor as error:
        raise SweepFailedError(
            "the worker processes of a sweep must live until it ends, and one was killed, perhaps because memory ran "
            "out: free memory or lower hydra.launcher.n_jobs, and run the same command again; finished trials are kept"
        ) from error
    finally:
        remove_records()


@hydra.main(version_base="1.3", config_path="pkg://nasproxy.conf", config_name="config")
def run(config: DictConfig) -> None:
    """Run the job of a composed configuration, alone or as one of a sweep."""
    composition.end()
    from nasproxy.jobs import job

    hydra_config = HydraConfig.get()
    add_to_path(hydra_config)

    def run_job(sweep: "SweepJob | None" = None) -> None:
        job.run_job(keep_typed_name(schema.read_config(config), hydra_config), sweep=sweep)
        try:
            sys.stdout.flush()  # Hydra flushes too, but ignores a closed pipe
        except OSError as error:
            discard_output(error)  # the job has ended, and the other jobs of a sweep go on

    try:
        if hydra_config.mode is RunMode.MULTIRUN:
            run_sweep_job(run_job, config.study, hydra_config)
        else:
            run_job()
    except (NasproxyError, BrokenPipeError) as error:
        raise JobError(error) from error
    except OSError as error:
        if not is_full(error):
            raise
        discard_output(error)
