"""How items' attributes and filters on them are written in Milvus."""

import hashlib
import math
import re
from typing import Any

import pandas as pd

from twinlens.errors import InputError
from twinlens.index.filters import COMPARISONS, Comparison, Filter

LARGEST = 2**63 - 1  # whole number
WORDS = {
    "VARCHAR": "text",
    "INT64": "whole numbers",
    "DOUBLE": "numbers",
    "BOOL": "true or false",
}
CONVERT = {"VARCHAR": str, "INT64": int, "DOUBLE": float, "BOOL": bool}
SIGNS = {"=": "==", "<>": "!="}  # that Milvus spells otherwise
ESCAPES = str.maketrans(
    {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
)
NEVER = "row < 0"


def field_name(column: str) -> str:
    """The field of an attribute: letters, digits and `_`, and no word of Milvus."""
    plain = re.sub(r"\W", "_", column, flags=re.ASCII)[:200]  # of 255 that may be
    if plain == column:
        return f"a_{column}"
    digest = hashlib.blake2b(column.encode(), digest_size=4).hexdigest()
    return f"a_{plain}_{digest}"


# === Values ===


def kind_of(column: pd.Series) -> str:
    """The type of an attribute's field: INT64, DOUBLE, BOOL or VARCHAR."""
    if pd.api.types.is_bool_dtype(column):
        return "BOOL"
    if pd.api.types.is_integer_dtype(column):
        return "INT64"
    return "DOUBLE" if pd.api.types.is_numeric_dtype(column) else "VARCHAR"


def values_of(column: pd.Series, kind: str) -> list[Any]:
    """Values for a field, `None` where there is none.

    Raises:
        InputError: a value is not of the field's type.
    """
    there = column.notna().to_numpy(bool)
    fits = there.copy()
    if kind == "VARCHAR":
        fits &= column.map(lambda value: isinstance(value, str)).to_numpy(bool)
    elif not pd.api.types.is_numeric_dtype(column):
        fits[:] = False
    elif kind == "INT64":
        fits &= (column % 1 == 0).fillna(False).to_numpy(bool)
    elif kind == "BOOL":
        fits &= column.isin([0, 1]).to_numpy(bool)
    if (fits != there).any():
        wrong = column[there & ~fits].iloc[0]
        raise InputError(
            f"The attribute {column.name!r} is {wrong} for an item, but in Milvus it "
            f"holds {WORDS[kind]}. Correct the items, or build the index anew."
        )
    convert = CONVERT[kind]
    pairs = zip(column, there, strict=True)
    return [convert(value) if known else None for value, known in pairs]


# === Filters ===


def expression(chosen: Filter, kinds: dict[str, str], negated: bool = False) -> str:
    """A filter in Milvus' language; it lets through what `Filter.mask` does.

    `not` moves inwards to the comparisons, each of which says what happens to a
    missing value, so that no rule about unknown truth is relied on.

    Args:
        chosen: of `parse_filter`.
        kinds: type of each field.
        negated: whether its opposite is wanted.

    Reference:
        https://milvus.io/docs/boolean.md
    """
    if isinstance(chosen, Comparison):
        name = field_name(chosen.column)
        test = _test(name, kinds[name], chosen)
        if negated:
            return f"({name} is null or not ({test}))"
        return f"({name} is not null and {test})"
    if chosen.word == "not":
        return expression(chosen.inner[0], kinds, not negated)
    word = "and" if (chosen.word == "and") != negated else "or"
    parts = [expression(each, kinds, negated) for each in chosen.inner]
    return "(" + f" {word} ".join(parts) + ")"


def _test(name: str, kind: str, part: Comparison) -> str:
    """A comparison of values that are there."""
    if kind == "BOOL":
        return _truth(name, part)
    if kind == "INT64":
        return _whole(name, part)
    write = _text if kind == "VARCHAR" else _number
    values = [write(value) for value in part.values]
    if part.sign == "in":
        return f"{name} in [{', '.join(values)}]"
    return f"{name} {SIGNS.get(part.sign, part.sign)} {values[0]}"


def _text(value: str) -> str:
    return f'"{value.translate(ESCAPES)}"'


def _number(value: float) -> str:
    largest = 1.7976931348623157e308  # Milvus has no word for infinity
    return repr(min(max(float(value), -largest), largest))


def _truth(name: str, part: Comparison) -> str:
    if part.sign == "in":
        passing = [each for each in (False, True) if each in part.values]
    else:
        compare = COMPARISONS[part.sign]
        passing = [each for each in (False, True) if compare(each, part.values[0])]
    words = [f"{name} == {str(each).lower()}" for each in passing]
    return f"({' or '.join(words)})" if words else NEVER


def _whole(name: str, part: Comparison) -> str:
    """Milvus compares whole numbers with whole numbers only."""
    value = min(max(part.values[0], -LARGEST), LARGEST)
    if part.sign in ("<", ">="):
        return f"{name} {part.sign} {math.ceil(value)}"
    if part.sign in ("<=", ">"):
        return f"{name} {part.sign} {math.floor(value)}"
    whole = [int(each) for each in part.values if abs(each) < LARGEST and each % 1 == 0]
    test = f"{name} in {whole}" if whole else NEVER
    return f"not ({test})" if part.sign in ("!=", "<>") else test
