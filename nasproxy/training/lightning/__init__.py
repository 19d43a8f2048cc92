"""The API for Lightning users: a callback and the path of the checkpoint to resume from."""

from nasproxy import torchvision_gap as torchvision_gap  # before Lightning, which imports torchvision
from nasproxy.training.lightning.checkpoint import resume_path
from nasproxy.training.lightning.trial_callback import TrialCallback

__all__ = ["TrialCallback", "resume_path"]
