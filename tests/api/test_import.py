"""The names that `import nasproxy` exports, and the packages that it does not load."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

import nasproxy

HEAVY = ("torch", "pandas", "hydra", "omegaconf", "numpy", "scipy", "pydantic", "matplotlib")


def test_importing_the_package_loads_no_large_package() -> None:
    program = f"import json, sys, nasproxy; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(shown.stdout) == []


def test_loading_a_study_loads_neither_torch_nor_pandas() -> None:
    program = "import sys, nasproxy; nasproxy.load_study; print('torch' in sys.modules, 'pandas' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.split() == ["False", "False"]


def test_every_exported_name_exists_and_is_completed_in_a_shell() -> None:
    assert set(nasproxy.__all__) <= set(dir(nasproxy))
    assert all(getattr(nasproxy, name).__doc__ for name in nasproxy.__all__ if name != "__version__")
    assert nasproxy.__version__ == version("nasproxy")


def test_an_unknown_name_raises_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nasproxy' has no attribute 'load'"):
        _ = nasproxy.load
