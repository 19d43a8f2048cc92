"""Design a proxy task: `python run.py --help` shows what can be chosen."""

import sys

import hydra
from omegaconf import DictConfig

from nasproxy import schema

schema.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    """Compose the configuration, and hand it on."""
    from nasproxy import app

    app.main(config)


if __name__ == "__main__":
    sys.exit(main())
