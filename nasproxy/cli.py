"""The `nasproxy` command, which `run.py` and `python -m nasproxy` call too: compose the configuration, run the job."""

import sys
from importlib.metadata import version
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nasproxy import torchvision_gap as torchvision_gap  # before anything imports torchvision
from nasproxy.config import schema
from nasproxy.config.composition_errors import Composition
from nasproxy.config.typed_task import keep_typed_name
from nasproxy.errors import NasproxyError

schema.register_schema()
composition = Composition()


def main() -> None:
    """Run the command with the arguments of this process."""
    if sys.argv[1:] == ["--version"]:
        print(f"nasproxy {version('nasproxy')}")
        return
    try:
        with composition:
            _run()
    except NasproxyError as error:
        print(f"nasproxy: {error}", file=sys.stderr)
        sys.exit(2)


@hydra.main(version_base="1.3", config_path="pkg://nasproxy.conf", config_name="config")
def _run(config: DictConfig) -> None:
    composition.end()
    from nasproxy.jobs import job

    hydra_config = HydraConfig.get()
    add_to_path([Path(hydra_config.runtime.cwd), *config_folders(hydra_config)])
    try:
        read = keep_typed_name(schema.read_config(config), hydra_config)
        job.run_job(read, is_shared=hydra_config.mode is RunMode.MULTIRUN)
    except NasproxyError as error:
        print(f"nasproxy: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("nasproxy: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def config_folders(hydra_config: HydraConf) -> list[Path]:
    """List the parents of the folders of `--config-dir`: modules there can be named as targets."""
    sources = [source for source in hydra_config.runtime.config_sources if source.schema == "file"]
    return [Path(source.path).absolute().parent for source in sources]


def add_to_path(folders: list[Path]) -> None:
    """Let modules in these folders be imported here, and in every process that is started from here."""
    new = [str(folder) for folder in folders]
    sys.path[:] = [*dict.fromkeys(new), *(path for path in sys.path if path not in new)]
