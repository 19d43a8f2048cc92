"""Imports the modules that a study names: the warm fork server lists this one among those that it imports first.

The server itself passes over modules that cannot be found, and would die of any other error of theirs. Here such a
module is left to the process that needs it, which says what is wrong.
"""

import importlib
import os
from contextlib import suppress

VARIABLE = "NASPROXY_STUDY_MODULES"
"""Environment variable with the modules' names, parted by spaces."""

for _name in os.environ.pop(VARIABLE, "").split():
    with suppress(BaseException):
        importlib.import_module(_name)
