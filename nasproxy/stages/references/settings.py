"""Settings of the number of reference models."""

from dataclasses import dataclass, replace
from typing import Any

from nasproxy.errors import ConfigError
from nasproxy.statistics.reference_count import FEWEST

AUTO = "auto"
"""Value of a number that follows from what the search will cost."""
USUAL_MAXIMUM = 30
"""Maximum before one is chosen, and with a criterion whose error is not known."""


@dataclass
class ReferencesSettings:
    """Number of reference models, initially and after inconclusive verdicts.

    Attributes:
        initial: Reference models that are selected and trained fully before the proxy search; `auto`: the number that
            minimises the expected cost of study and search.
        max: Maximum number of reference models for a proxy task; at most `initial` adds none; `auto` as for `initial`.
        step: Models that are added at a time.
    """

    initial: Any = AUTO
    max: Any = AUTO
    step: int = 5

    @property
    def is_auto(self) -> bool:
        """Whether a number is to be chosen."""
        return AUTO in (self.initial, self.max)

    @property
    def given_initial(self) -> int | None:
        """The given initial number; None if it is to be chosen."""
        return None if self.initial == AUTO else int(self.initial)

    @property
    def given_max(self) -> int | None:
        """The given maximum; None if it is to be chosen."""
        return None if self.max == AUTO else int(self.max)

    def resolve(self, initial: int, maximum: int) -> "ReferencesSettings":
        """Return the settings with chosen numbers in place of `auto`."""
        return replace(
            self,
            initial=initial if self.given_initial is None else self.given_initial,
            max=maximum if self.given_max is None else self.given_max,
        )

    def begin(self, least: int, most: int) -> "ReferencesSettings":
        """Return the numbers to begin with, before the chosen ones are known.

        Args:
            least: Fewest reference models that a verdict needs.
            most: Number of architectures in the search space.
        """
        first = min(max(FEWEST, least), most)
        return self.resolve(first, max(first, USUAL_MAXIMUM))

    def check(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A value is out of range.
        """
        for name in ("initial", "max"):
            value = getattr(self, name)
            if value != AUTO and (isinstance(value, bool) or not isinstance(value, int)):
                raise ConfigError(
                    f"references.{name} must be a whole number or auto, got {value!r}: give one such as 10"
                )
        if self.step < 1 or (self.given_max or 0) < 0:
            raise ConfigError(
                f"references needs step of at least 1 and max of at least 0, got {self.step} and {self.max}: "
                f"use references.max=0 to add none"
            )
