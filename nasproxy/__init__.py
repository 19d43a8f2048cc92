"""Find the cheap training setting that ranks neural architectures the way full training would.

The Python interface: `run` takes the command's overrides, `load_study` reads a study's folder.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nasproxy.errors import NasproxyError

if TYPE_CHECKING:
    from nasproxy.api.run import Result, run
    from nasproxy.api.study import LoadedStudy, load_study

__version__ = "0.1.0"

__all__ = ["LoadedStudy", "NasproxyError", "Result", "__version__", "load_study", "run"]

_MODULES = {
    "run": "nasproxy.api.run",
    "Result": "nasproxy.api.run",
    "load_study": "nasproxy.api.study",
    "LoadedStudy": "nasproxy.api.study",
}
"""Names that are imported when they are first used: every worker imports this package, and needs none of them."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
