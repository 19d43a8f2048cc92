"""Rich's console on standard output."""

import rich.console


class StandardOutput(rich.console.Console):
    """Console that raises an error if nobody reads the output, as `print` does; Rich would exit with status 1."""

    def on_broken_pipe(self) -> None:
        """Raise the error that is being handled."""
        raise
