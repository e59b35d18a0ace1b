"""Filters let through what they say, and name what does not fit."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlens.errors import InputError
from twinlens.index import parse_filter

ITEMS = pd.DataFrame(
    {
        "category": ["Shoes", "Bags", None, "Shoes"],
        "year": pd.array([2012, 2010, 2015, None], "Int64"),
        "price": [9.5, 20.0, 3.25, 1.0],
        "base colour": ["red", "it's", 'a "b"', "blue"],
    }
)


def kept(text):
    return parse_filter(text, ITEMS).mask(ITEMS).nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('category = "Shoes"', [0, 3]),
        ("category == 'Shoes' and year >= 2012", [0]),
        ('category != "Shoes"', [1]),  # without a value nothing holds
        ('not category = "Shoes"', [1, 2]),
        ('category in ("Bags", "Hats") or price < 2', [1, 3]),
        ("year in (2010, 2015)", [1, 2]),
        ("year <> 2010", [0, 2]),
        ("price > 3.2 AND price <= 9.5", [0, 2]),
        ('`base colour` = "it\'s"', [1]),
        ("`base colour` = 'a \"b\"'", [2]),
        ('category = "Shoes" or category = "Bags" and year > 2010', [0, 3]),
        ('(category = "Shoes" or category = "Bags") and year > 2010', [0]),
        ("not (year < 2013 or price < 2)", [2]),
        ("year >= -1", [0, 1, 2]),
    ],
)
def test_a_filter_lets_through_what_it_says(text, rows):
    assert kept(text) == rows


@given(st.integers(2009, 2016), st.sampled_from(["<", "<=", "=", "!=", ">", ">="]))
def test_comparisons_are_those_of_python(year, sign):
    python = "==" if sign == "=" else sign
    years = ITEMS["year"].tolist()
    expected = [
        row
        for row, value in enumerate(years)
        if value is not pd.NA and eval(f"{value} {python} {year}")
    ]
    assert kept(f"year {sign} {year}") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yaer = 1", r"names 'yaer'.*attributes: category, year, price, base colour"),
        ("category > 3", r"holds text, with a number. Write .* category = \"Shoes\""),
        ('year = "2012"', r"holds numbers, with text. Write .* year = 2012"),
        ('year in (2012, "x")', "holds numbers, with text"),
        ("category = Shoes", r"cannot be read at 'Shoes' \(column 12\)"),
        ("category", "cannot be read"),
        ('category = "Shoes" and', "cannot be read at"),
        ("", "cannot be read"),
        ("__import__('os')", "cannot be read"),
    ],
)
def test_what_does_not_fit_is_named(text, message):
    with pytest.raises(InputError, match=message):
        parse_filter(text, ITEMS)
