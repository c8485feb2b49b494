"""The smallest and the largest value of each numeric setting, as config.py bounds them."""

import math

from pipeline.config import Settings

Numbers = dict[str, int | float]


def numeric() -> set[str]:
    """Return the names of the settings that are numbers."""
    return {name for name, field in Settings.model_fields.items() if field.annotation in {int, float}}


def extremes() -> tuple[Numbers, Numbers]:
    """Return the smallest and the largest value of each setting that has one."""
    least, most = Numbers(), Numbers()
    for name in numeric():
        for bound in Settings.model_fields[name].metadata:
            if (value := getattr(bound, "ge", None)) is not None:
                least[name] = value
            if (value := getattr(bound, "gt", None)) is not None:
                least[name] = math.nextafter(value, math.inf)
            if (value := getattr(bound, "le", None)) is not None:
                most[name] = value
    return least, most
