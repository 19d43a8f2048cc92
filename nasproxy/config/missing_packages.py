"""Packages that provide Hydra's plugins, and how to install them."""

from nasproxy.errors import MissingExtraError, NasproxyError, advise_install

PACKAGES = {
    "hydra/launcher/ray": "hydra-ray-launcher",
    "hydra/launcher/ray_aws": "hydra-ray-launcher",
    "hydra/launcher/rq": "hydra-rq-launcher",
    "hydra/launcher/submitit_local": "hydra-submitit-launcher",
    "hydra/launcher/submitit_slurm": "hydra-submitit-launcher",
    "hydra/sweeper/ax": "hydra-ax-sweeper",
    "hydra/sweeper/nevergrad": "hydra-nevergrad-sweeper",
    "hydra/sweeper/optuna": "hydra-optuna-sweeper",
    "hydra/job_logging/colorlog": "hydra-colorlog",
    "hydra/hydra_logging/colorlog": "hydra-colorlog",
}
"""Packages of Hydra's plugins, by the choice that each provides."""


def find_missing_package(choice: str) -> NasproxyError | None:
    """Find the package that provides a choice, such as `hydra/launcher/joblib`; None if none is known.

    Returns:
        The error that says how to install it.
    """
    if choice == "hydra/launcher/joblib":
        install = advise_install("joblib")
    elif choice in PACKAGES:
        install = f"pip install {PACKAGES[choice]}"
    else:
        return None
    group, _, name = choice.rpartition("/")
    return MissingExtraError(f"{group}={name} needs a package that is not installed: {install}")
