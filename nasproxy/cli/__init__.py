"""The `nasproxy` command, also behind `run.py` and `python -m nasproxy`: exit statuses, Ctrl-C and closed streams.

Slow imports are inside functions, so that Ctrl-C during an import ends the program with one line.
"""

import os
import signal
import sys
from typing import Any, NoReturn

REFUSED = 2
INTERRUPTED = 128 + signal.SIGINT
UNREAD = 128 + signal.SIGPIPE
"""Exit statuses; the last two are those that a shell reports for a program that a signal ended."""
INTERRUPTION = "nasproxy: interrupted; the same command goes on from here"
QUESTIONS = {"-h", "--help", "--hydra-help", "-c", "--cfg", "-i", "--info"}
"""Flags that run no job."""


def main() -> NoReturn:
    """Run the command with the arguments of this process, and end the process."""
    _on_interrupt(_end_at_once)
    _open_closed_streams()
    from nasproxy.errors import NasproxyError

    status: Any = None
    try:
        _run(sys.argv[1:])
    except SystemExit as end:  # Hydra's
        status = end.code
    except (NasproxyError, BrokenPipeError, KeyboardInterrupt) as error:
        status = _report(error)
    except OSError as error:  # of an answer that Hydra prints, such as --help
        from nasproxy.tracking.lost_output import discard_output, is_full

        if not is_full(error):
            raise
        discard_output(error)
    _on_interrupt(_end_at_once)
    lost = _flush()
    sys.exit(status or (None if lost is None else _report_lost(lost)))


def _run(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"nasproxy {version('nasproxy')}")
        return
    from nasproxy.cli.hydra_app import compose_and_run

    if not QUESTIONS & set(arguments):
        # Imported while Ctrl-C still ends the program at once: a KeyboardInterrupt can get lost in an import.
        from nasproxy.jobs import job as job
    _on_interrupt(signal.default_int_handler)
    compose_and_run()


def _report(error: BaseException) -> int:
    """Print in one line why the program ends, unless nobody reads it, and return the exit status."""
    if isinstance(error, BrokenPipeError):
        if not any(map(_is_unread, (sys.stdout, sys.stderr))):
            raise error  # another pipe: a bug in nasproxy
        return UNREAD
    from nasproxy.tracking.lost_output import print_error

    is_interrupted = isinstance(error, KeyboardInterrupt)
    print_error(INTERRUPTION if is_interrupted else f"nasproxy: {error}")
    return INTERRUPTED if is_interrupted else REFUSED


def _flush() -> OSError | None:
    """Flush stdout and stderr, and return the error if one of them could not be written, now or before."""
    from nasproxy.tracking.lost_output import find_lost_output

    lost = find_lost_output()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            lost = lost or error
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # the interpreter flushes again at its end
    return lost


def _report_lost(error: OSError) -> int:
    """Print in one line why output is missing, unless its reader has left, and return the exit status."""
    if isinstance(error, BrokenPipeError):
        return UNREAD
    from nasproxy.tracking.lost_output import print_error

    print_error(
        f"nasproxy: standard output needs a place that can be written to, got an error ({error.strerror or error}): "
        f"free space for it; what a job has done since is in its study's folder, in events.jsonl"
    )
    return REFUSED


def _is_unread(stream: Any) -> bool:
    """Return whether a stream is a pipe that nobody reads."""
    import select

    poll = select.poll()
    poll.register(stream, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _open_closed_streams() -> None:
    """Open the null device for streams closed by the caller (`2>&-`), so that no other file gets their numbers."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w"))


def _on_interrupt(handler: Any) -> None:
    """Set the handler of Ctrl-C, unless the parent process had it ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def _end_at_once(*_: object) -> None:
    """End the program during an import or at its end: no resource is held, and no exception can get lost."""
    try:
        os.write(2, f"{INTERRUPTION}\n".encode())
    finally:
        os._exit(INTERRUPTED)
