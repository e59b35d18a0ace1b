"""Attributes as filters of the search page: what is offered, what it selects."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("nicegui", reason='needs pip install "twinlens[serve]"')

from twinlens.index.filters import parse_filter
from twinlens.serve.facets import find_facets, joined

ITEMS = pd.DataFrame(
    {
        "id": ["a", "b", "c", "d"],
        "title": "",
        "split": "train",
        "kind": ['say "hi"', "back\\slash", "it's", None],
        "year": [2010, 2012, 2012, 2018],
        "price of it": [0.5, 1.25, np.nan, 9.5],
        "new": [True, False, True, True],
        "sold": [1_234_567, 1_234_568, 7_654_321, 7_654_322],
        "same": ["x", "x", "x", None],
        "back`tick": ["x", "y", "x", "y"],
    }
)


@pytest.fixture
def facets():
    return {facet.name: facet for facet in find_facets(ITEMS)}


def passing(where):
    return ITEMS["id"][parse_filter(where, ITEMS).mask(ITEMS)].tolist()


def test_few_values_and_numbers_are_offered(facets):
    assert list(facets) == ["kind", "year", "price of it", "new", "sold"]
    assert facets["kind"].values == ("back\\slash", "it's", 'say "hi"')
    assert (facets["year"].low, facets["year"].high, facets["year"].step) == (
        2010,
        2018,
        1,
    )
    assert facets["new"].values == (False, True)
    many = ITEMS.iloc[np.zeros(99, int)].assign(kind=np.arange(99).astype(str))
    assert "kind" not in {facet.name for facet in find_facets(many)}


def test_the_ends_of_fractions_hold_all_values(facets):
    price = facets["price of it"]
    assert price.step == 0.09 and price.low <= 0.5 and price.high >= 9.5
    ends = {"min": price.low, "max": price.high}
    assert price.where(ends) == ""  # all pass, also those without a price


@pytest.mark.parametrize(
    ("name", "chosen", "ids"),
    [
        ("kind", ['say "hi"'], ["a"]),
        ("kind", ["back\\slash", "it's"], ["b", "c"]),
        ("year", {"min": 2011, "max": 2012}, ["b", "c"]),
        ("price of it", {"min": 1.22, "max": 9.54}, ["b", "d"]),
        ("new", [False], ["b"]),
        ("sold", {"min": 1_234_568, "max": 7_654_321}, ["b", "c"]),
    ],
)
def test_what_is_chosen_is_what_passes(facets, name, chosen, ids):
    assert passing(facets[name].where(chosen)) == ids


def test_what_is_chosen_of_several_holds_together(facets):
    parts = [
        facets["kind"].where([]),
        facets["year"].where({"min": 2012, "max": 2018}),
        facets["new"].where([True]),
    ]
    assert parts[0] == "" and passing(joined(parts)) == ["c", "d"]
    assert joined(["", ""]) == ""
