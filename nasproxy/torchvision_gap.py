"""Lets `import torchvision` work beside a torch that it was not built for.

The torchvision of the package index is built for CUDA. Beside a CPU-only torch its compiled half, `_C`, does
not load, and `import torchvision` fails over two operators that `_C` would have declared; timm, torchmetrics
and Lightning fail with it. Declared beforehand, all of torchvision's Python half works; only the compiled
operators and the image decoders stay missing.

Importing this module is enough: it installs a finder, which does its work when torchvision is first imported. The
command, the warm server of worker processes and the packages that import torchvision's users import it first. It is
not a `.pth` file in site-packages: that would run in every program of the environment.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import ModuleType

MISSING_OPERATORS = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_declared: list[object] = []  # a torch Library takes its operators with it when it is collected


class GapFinder:
    """Finds torchvision as the other finders do, and closes the gap before it is executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders give for torchvision; None for every other module."""
        if name != "torchvision":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ClosingLoader(spec.loader)  # type: ignore[assignment]  # a duck of a loader
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
        spec.loader = module.__loader__ = self._loader  # whoever asks the module later sees nothing of us
        close_gap(spec.submodule_search_locations or ())
        self._loader.exec_module(module)


def install() -> None:
    """Have the gap closed when torchvision is first imported; safe to call again."""
    is_installed = any(isinstance(finder, GapFinder) for finder in sys.meta_path)
    if not is_installed and "torchvision" not in sys.modules:
        sys.meta_path.insert(0, GapFinder())


def close_gap(folders: Sequence[str], load: Callable[[str], object] | None = None) -> bool:
    """Declare what torchvision's `_C` would have declared, if it does not load.

    Args:
        folders: Where torchvision's files are.
        load: Loads a library, raising OSError where it cannot; torch's own loader by default.

    Returns:
        Whether operators were declared; False where torchvision's own are in place.
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
    """Whether the compiled half in one of the folders is there and loads."""
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
