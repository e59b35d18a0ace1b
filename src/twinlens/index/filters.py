"""Filters on attributes: `category = "Shoes" and year >= 2012`."""

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyparsing as pp

from twinlens.errors import InputError

COMPARISONS: dict[str, Callable] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
SHAPE = (
    'Compare attributes with =, !=, <, <=, >, >= or in: category = "Shoes" and '
    "(year >= 2012 or not season in ('Fall', 'Winter')). Text stands in quotes; a "
    "name with spaces in `backticks`."
)


@dataclass(frozen=True)
class Comparison:
    """One attribute against a value, or against several (`in`)."""

    column: str
    sign: str
    values: tuple[Any, ...]

    def mask(self, items: pd.DataFrame) -> np.ndarray:
        """`(n,)` bool: which items it lets through; those without a value never."""
        column = items[self.column]
        if self.sign == "in":
            found = column.isin(self.values)
        else:
            found = COMPARISONS[self.sign](column, self.values[0])
        return (found.fillna(False) & column.notna()).to_numpy(bool)

    def parts(self) -> list["Comparison"]:
        """All comparisons of a filter."""
        return [self]


@dataclass(frozen=True)
class Combination:
    """`and`, `or` or `not` of filters."""

    word: str
    inner: tuple[Any, ...]

    def mask(self, items: pd.DataFrame) -> np.ndarray:
        """`(n,)` bool: which items it lets through."""
        masks = [each.mask(items) for each in self.inner]
        if self.word == "not":
            return ~masks[0]
        join = np.logical_and if self.word == "and" else np.logical_or
        return functools.reduce(join, masks)

    def parts(self) -> list[Comparison]:
        """All comparisons of a filter."""
        return [part for each in self.inner for part in each.parts()]


Filter = Comparison | Combination


@dataclass(frozen=True)
class Selection:
    """The items that may be found: those that are there and pass a filter.

    Attributes:
        items: one row a vector.
        removed: `(n,)` bool, those that are not there any more.
        filter: that the others pass; none by default.
    """

    items: pd.DataFrame
    removed: np.ndarray
    filter: Filter | None = None

    @functools.cached_property
    def mask(self) -> np.ndarray | None:
        """`(n,)` bool: which they are; `None` for all."""
        mask = ~self.removed
        if self.filter is not None:
            mask &= self.filter.mask(self.items)
        return None if mask.all() else mask


def parse_filter(text: str, items: pd.DataFrame) -> Filter:
    """A filter from its words.

    Args:
        text: comparisons joined by `and`, `or`, `not` and parentheses.
        items: whose attributes it names.

    Raises:
        InputError: it cannot be read, names an attribute that is not there, or
            compares text with a number.
    """
    try:
        (found,) = _grammar().parse_string(text, parse_all=True)
    except pp.ParseBaseException as error:
        raise InputError(
            f"The filter {text!r} cannot be read at {text[error.loc :]!r} "
            f"(column {error.loc + 1}). {SHAPE}"
        ) from None
    finally:  # where another library turned its cache on, as Matplotlib does, it holds
        pp.ParserElement.reset_cache()  # frames, and `items` in them
    for part in found.parts():
        _check(part, items, text)
    return found


def _check(part: Comparison, items: pd.DataFrame, text: str) -> None:
    if part.column not in items:
        raise InputError(
            f"The filter {text!r} names {part.column!r}, which these items do not "
            f"have. Their attributes: {', '.join(items.columns)}."
        )
    is_number = pd.api.types.is_numeric_dtype(items[part.column])
    for value in part.values:
        if isinstance(value, str) == is_number:
            holds, given = ("numbers", "text") if is_number else ("text", "a number")
            example = next(iter(items[part.column].dropna()), "")
            example = example if is_number else f'"{example}"'
            raise InputError(
                f"The filter {text!r} compares {part.column}, which holds {holds}, "
                f"with {given}. Write for example {part.column} = {example}."
            )


@functools.cache
def _grammar() -> pp.ParserElement:
    keyword = {
        w: pp.CaselessKeyword(w) for w in ("and", "or", "not", "in", "true", "false")
    }
    reserved = pp.MatchFirst(list(keyword.values()))
    plain = ~reserved + pp.Word(pp.alphas + "_", pp.alphanums + "_.")
    column = plain | pp.QuotedString("`")
    number = pp.common.number
    word = pp.QuotedString('"', esc_char="\\") | pp.QuotedString("'", esc_char="\\")
    truth = (keyword["true"] | keyword["false"]).set_parse_action(
        lambda found: found[0] == "true"
    )
    value = word | truth | number
    signs = sorted(COMPARISONS, key=len, reverse=True)
    simple = (column + pp.one_of(signs) - value).set_parse_action(
        lambda found: Comparison(found[0], found[1], (found[2],))
    )
    several = pp.Suppress("(") + pp.DelimitedList(value) + pp.Suppress(")")
    member = (column + pp.Suppress(keyword["in"]) + several).set_parse_action(
        lambda found: Comparison(found[0], "in", tuple(found[1:]))
    )
    return pp.infix_notation(
        member | simple,
        [
            (keyword["not"], 1, pp.OpAssoc.RIGHT, _combined),
            (keyword["and"], 2, pp.OpAssoc.LEFT, _combined),
            (keyword["or"], 2, pp.OpAssoc.LEFT, _combined),
        ],
    )


def _combined(found: pp.ParseResults) -> Combination:
    """What pyparsing gives as `["not", x]`, or `[x, "and", y, "and", z]`."""
    tokens = found[0]
    if len(tokens) == 2:
        return Combination("not", (tokens[1],))
    return Combination(tokens[1], tuple(tokens[::2]))
