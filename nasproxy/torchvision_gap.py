"""Make `import torchvision` work with a torch build that it was not compiled for.

The torchvision wheel of the package index is built for CUDA. With a CPU-only torch its extension module `_C` does not
load, and `import torchvision` fails on two operators that `_C` would have declared; timm, torchmetrics and Lightning
fail with it. If the operators are declared beforehand, all Python code of torchvision works; only the compiled
operators and the image decoders are missing.

Importing this module is sufficient: it installs an import finder that acts when torchvision is first imported. The
command, the fork server of the workers and all packages that import torchvision indirectly import this module first.
A `.pth` file in site-packages would do the same, but in every program of the environment.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import ModuleType

MISSING_OPERATORS = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_declared: list[object] = []  # operators are removed when their torch Library is garbage-collected


class GapFinder:
    """Import finder that declares the missing operators before torchvision is executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders give for torchvision; None for every other module."""
        if name != "torchvision":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ClosingLoader(spec.loader)  # type: ignore[assignment]  # has the methods of a loader
                return spec
        return None


class _ClosingLoader:
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self._loader  # later inspection sees the original loader
        close_gap(spec.submodule_search_locations or ())
        self._loader.exec_module(module)


def install() -> None:
    """Install the finder, unless it is installed or torchvision is imported already."""
    is_installed = any(isinstance(finder, GapFinder) for finder in sys.meta_path)
    if not is_installed and "torchvision" not in sys.modules:
        sys.meta_path.insert(0, GapFinder())


def close_gap(folders: Sequence[str], load: Callable[[str], object] | None = None) -> bool:
    """Declare the operators of torchvision's `_C` if it does not load.

    Args:
        folders: Folders of torchvision's files.
        load: Loads a shared library and raises OSError if it cannot; `torch.ops.load_library` by default.

    Returns:
        Whether operators were declared; False if torchvision's own operators are available.
    """
    import torch

    if loads(folders, load or torch.ops.load_library):
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in MISSING_OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + SCHEMA)  # type: ignore[no-untyped-call]
    _declared.append(library)
    return True


def loads(folders: Sequence[str], load: Callable[[str], object]) -> bool:
    """Return whether the extension module `_C` exists in one of the folders and loads."""
    paths = [Path(folder) / f"_C{suffix}" for folder in folders for suffix in EXTENSION_SUFFIXES]
    library = next((path for path in paths if path.exists()), None)
    if library is None:
        return False
    try:
        load(str(library))
    except OSError:
        return False
    return True


install()
