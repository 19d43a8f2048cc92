"""The protocol of trackers: they receive a study's events and are never queried."""

from pathlib import Path
from typing import Protocol, runtime_checkable

from nasproxy.tracking.events import Event


class Tracker(Protocol):
    """Receives a study's events.

    The constructor of a configured tracker takes keyword arguments: the options of the configuration group `tracking`,
    and `study` (`Path`), the study's folder, which `nasproxy.jobs.job.Job` passes beside them. It checks the options:
    an error there stops the job before its first trial. A later error ends the tracker only, with a warning.
    """

    def receive(self, event: Event) -> None:
        """Receive an event; kinds of events that a tracker does not render are ignored.

        Called in one thread for each tracker, beside the controller, in the order of the events. The file that an event
        is derived from is stored before, and may be newer.
        """
        ...

    def close(self) -> None:
        """Release resources; called in the same thread after the last event."""
        ...


@runtime_checkable
class SteppedTracker(Tracker, Protocol):
    """Tracker to which an event may leave much work, such as an upload for each of many trials, done step by step.

    At the end of a command a tracker is abandoned once it has finished nothing for a while: each step counts as
    progress, so that the whole work may take longer.
    """

    def send_next(self) -> bool:
        """Do one step of the work that the events so far have left; return whether there was one.

        Called after each event, in the same thread, until it returns False.
        """
        ...


class NullTracker:
    """Discards all events."""

    def __init__(self, *, study: Path) -> None:
        """Accept the study's folder, as every configured tracker does; nothing is written to it."""

    def receive(self, event: Event) -> None:
        """Discard the event."""

    def close(self) -> None:
        """Do nothing."""
