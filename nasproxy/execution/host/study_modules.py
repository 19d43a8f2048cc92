"""Import the modules that a study names; the warm fork server imports this module first.

The server itself skips modules that cannot be found, but any other error of an import would end it. Here such a module
is skipped too; the process that needs it reports the error.
"""

import importlib
import os
from contextlib import suppress

VARIABLE = "NASPROXY_STUDY_MODULES"
"""Environment variable with the modules' names, separated by spaces."""

for _name in os.environ.pop(VARIABLE, "").split():
    with suppress(BaseException):
        importlib.import_module(_name)
