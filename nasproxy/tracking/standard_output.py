"""Rich's console on standard output."""

import rich.console


class StandardOutput(rich.console.Console):
    """Raises where nobody reads the output any more, as `print` does: Rich would end the program, with status 1."""

    def on_broken_pipe(self) -> None:
        """Raise the error that is being handled."""
        raise
