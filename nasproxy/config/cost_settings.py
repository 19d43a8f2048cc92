"""Settings of cost estimates."""

import math
from dataclasses import dataclass

from nasproxy.errors import ConfigError


@dataclass
class CostSettings:
    """Settings of cost estimates.

    Attributes:
        price_per_hour: Price of an hour of one device: a GPU, or the machine if trials run on its cores; None for no
            price.
        estimate_first: Time a few steps before a new study begins, and store the cost estimate with it.
    """

    price_per_hour: float | None = None
    estimate_first: bool = True

    def check(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A number is out of range.
        """
        price = self.price_per_hour
        if price is not None and not (math.isfinite(price) and price >= 0):
            raise ConfigError(f"cost.price_per_hour must be at least 0, got {price:g}: give null for no price")
