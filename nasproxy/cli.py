"""The `nasproxy` command, which `run.py` and `python -m nasproxy` call too: compose the configuration, run the job."""

import sys
from importlib.metadata import version

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nasproxy import torchvision_gap as torchvision_gap  # before anything imports torchvision
from nasproxy.config import schema
from nasproxy.config.compose import add_to_path
from nasproxy.errors import NasproxyError

schema.register_schema()


def main() -> None:
    """Run the command with the arguments of this process."""
    if sys.argv[1:] == ["--version"]:
        print(f"nasproxy {version('nasproxy')}")
        return
    _run()


@hydra.main(version_base="1.3", config_path="pkg://nasproxy.conf", config_name="config")
def _run(config: DictConfig) -> None:
    from nasproxy.jobs import job

    hydra_config = HydraConfig.get()
    add_to_path(hydra_config)
    try:
        job.run_job(schema.read_config(config), is_shared=hydra_config.mode is RunMode.MULTIRUN)
    except NasproxyError as error:
        print(f"nasproxy: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("nasproxy: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
