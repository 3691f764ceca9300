"""Parameters of rules: each is declared with the rule that takes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Legal:
    """Which values make sense."""

    low: float
    """The lowest."""
    below: float
    """The first one that is too large."""
    words: str
    """The same, as errors say it."""
    whole: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` is one of them; NaN never is."""
        return self.low <= value < self.below and (not self.whole or value == math.floor(value))


POSITIVE = Legal(math.ulp(0.0), math.inf, "a number > 0")
NOT_NEGATIVE = Legal(0.0, math.inf, "a number >= 0")
SHARE = Legal(0.0, 1.0, "from 0 to below 1")
FRACTION = Legal(0.0, math.nextafter(1.0, 2.0), "from 0 to 1")
SWITCH = Legal(0.0, 2.0, "0 or 1", whole=True)
SEED = Legal(0.0, 2.0**31, "a whole number from 0 to 2147483647", whole=True)


@dataclass(frozen=True)
class Search:
    """Where `tune-baseline` looks for better values."""

    low: float
    high: float
    by: str = "log"
    """How it draws: even, log, log or 0 (which is 0 every other time), or one of the two ends."""

    def draw(self, rng: np.random.Generator) -> float:
        """A random value with three significant digits."""
        uniform, coin = rng.random(), rng.random()
        if self.by == "even":
            value = self.low + (self.high - self.low) * uniform
        elif self.by == "ends":
            value = self.low if coin < 0.5 else self.high
        else:
            value = math.exp(math.log(self.low) + math.log(self.high / self.low) * uniform)
            value = 0.0 if self.by == "log or 0" and coin < 0.5 else value
        return float(f"{value:.3g}")

    def between(self, better: float, other: float) -> float:
        """What lies halfway between two values, on the scale on which they are drawn."""
        if self.by == "ends" or better == other:
            return better
        if self.by == "even":
            value = (better + other) / 2.0
        else:  # of two numbers above 0, or none
            value = math.sqrt(better * other)
            value = better if value == 0.0 else value
        return float(f"{value:.3g}")


@dataclass(frozen=True)
class Param:
    """A number that a rule takes."""

    default: float
    legal: Legal = NOT_NEGATIVE
    search: Search | None = None
    """None: it is not for tuning."""
