"""What every section of the settings is made of: strict, frozen, explained below each field."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from marl_sched.quantities import LONGEST_S, MOST_COUNT, MOST_SEED


def between(least: float, most: float, unit: str = "") -> AfterValidator:
    """Refuses numbers that are so small or large that nothing would come to an end."""

    def check(value: float) -> float:
        if not least <= value <= most:
            unit_ = f" {unit}" if unit else ""
            raise ValueError(f"must be from {least:g} to {most:g}{unit_}")
        return value

    return AfterValidator(check)


Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1, le=MOST_COUNT)]
Seconds = Annotated[Positive, between(1e-3, LONGEST_S, "s")]
Hours = Annotated[Positive, between(1e-3, 1e9, "h")]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]


class Section(BaseModel):
    """A group of settings: an unknown key is an error, and nothing changes once it is made."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )
