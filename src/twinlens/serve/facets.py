"""Attributes of items as filters on the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

FEW = 60  # values that a list may have
FIRST_ATTRIBUTE = 3  # columns of items before: id, title, split
STEPS = 100  # of a range of fractions

Chosen = list | Mapping[str, float] | None


@dataclass(frozen=True)
class Facet:
    """One attribute to choose by.

    Attributes:
        name: of the attribute.
        values: to choose some of; empty for numbers.
        low, high, step: of numbers.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float = 1

    def where(self, chosen: Chosen) -> str:
        """The filter of what was chosen; empty if nothing is."""
        column = f"`{self.name}`"
        if self.values:
            if not chosen:
                return ""
            return f"{column} in ({', '.join(map(_literal, chosen))})"
        if not chosen or (chosen["min"], chosen["max"]) == (self.low, self.high):
            return ""
        low, high = number(chosen["min"]), number(chosen["max"])
        return f"{column} >= {low} and {column} <= {high}"


def find_facets(items: pd.DataFrame) -> list[Facet]:
    """The attributes that help to choose: few values, or numbers.

    Args:
        items: `id`, `title`, `split`, then attributes.
    """
    names = [name for name in items.columns[FIRST_ATTRIBUTE:] if "`" not in str(name)]
    found = (_facet(str(name), items[name].dropna()) for name in names)
    return [facet for facet in found if facet is not None]


def number(value: float) -> str:
    """All digits of a number, and a whole one without a point."""
    return repr(int(value) if float(value).is_integer() else float(value))


def joined(parts: list[str]) -> str:
    """One filter of several."""
    return " and ".join(part for part in parts if part)


def _facet(name: str, values: pd.Series) -> Facet | None:
    distinct = values.unique()
    if len(distinct) < 2:
        return None
    is_number = pd.api.types.is_numeric_dtype(values)
    if is_number and not pd.api.types.is_bool_dtype(values):
        return _range(name, values.to_numpy(float))
    if len(distinct) > FEW:
        return None
    return Facet(name, tuple(sorted(distinct.tolist())))


def _range(name: str, values: np.ndarray) -> Facet | None:
    values = values[np.isfinite(values)]
    if not len(values) or values.min() == values.max():
        return None
    whole = (values == np.round(values)).all()
    low, high = values.min(), values.max()
    if whole:
        return Facet(name, low=int(low), high=int(high))
    step = float(f"{(high - low) / STEPS:.1g}")
    low, high = np.floor(low / step) * step, np.ceil(high / step) * step
    return Facet(name, low=round(low, 12), high=round(high, 12), step=step)


def _literal(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
