"""Ranks and metrics of composed queries: by hand, slow loops, pytrec_eval, sklearn."""

import tracemalloc

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from twinlens.errors import InputError
from twinlens.metrics import (
    composed_values,
    per_query,
    retrieval_ranks,
    summarise,
    target_ranks,
)

KS = (1, 5, 10, 50)


def unit_vectors(seed, count, dim):
    vectors = np.random.default_rng(seed).standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("float32")


@pytest.fixture(scope="module")
def problem():
    """40 queries, each near its target, in 60 pictures; it leaves out a reference."""
    gallery, generator = unit_vectors(0, 60, 8), np.random.default_rng(2)
    targets = generator.integers(0, 60, 40)
    left_out = (targets + generator.integers(1, 60, 40)) % 60
    queries = gallery[targets] + unit_vectors(1, 40, 8)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return queries, gallery, targets, left_out


# === Ranks ===


def test_the_target_is_ranked_by_the_pictures_before_it():
    gallery = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]])
    queries = np.array([[1, 0], [1, 0], [0, 1]])
    # Row 2 stands behind rows 0 and 1 for the first query; row 0 first for the
    # second; for the third, which is row 3 itself, row 2 comes second.
    assert target_ranks(queries, gallery, [2, 0, 2]).tolist() == [3, 1, 2]


def test_the_reference_does_not_compete_where_it_is_left_out():
    gallery = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]])
    queries = np.array([[1, 0], [1, 0], [1, 0]])
    left_out = [0, -1, 2]  # the better one, none, and one that was worse anyway
    assert target_ranks(queries, gallery, [1, 1, 1], left_out).tolist() == [1, 2, 2]


@st.composite
def small_problems(draw):
    """Whole numbers from -1 to 1 in two dims: most scores tie, all are exact."""
    size = draw(st.integers(1, 9))
    numbers = st.tuples(st.integers(-1, 1), st.integers(-1, 1))
    gallery = draw(st.lists(numbers, min_size=size, max_size=size))
    row = st.integers(0, size - 1)
    asked = st.tuples(numbers, row, st.integers(-1, size - 1))
    asked = asked.filter(lambda each: each[1] != each[2])
    queries, targets, left_out = zip(
        *draw(st.lists(asked, min_size=1, max_size=12)), strict=True
    )
    return np.array(queries), np.array(gallery), targets, left_out


@settings(max_examples=150, deadline=None)
@given(small_problems(), st.sampled_from([4, 12, 40, 2**20]))
def test_ranks_are_those_of_a_slow_loop(problem, block_bytes):
    queries, gallery, targets, left_out = problem
    expected = []
    for query, target, hidden in zip(queries, targets, left_out, strict=True):
        places = [row for row in range(len(gallery)) if row != hidden]
        # sorted by score, and of equal scores the target last
        places.sort(key=lambda row: (-(gallery[row] @ query), row == target))
        expected.append(places.index(target) + 1)
    found = target_ranks(queries, gallery, targets, left_out, block_bytes)
    assert found.tolist() == expected


def test_a_caption_as_query_has_the_rank_of_text_to_image(problem):
    queries, gallery, targets, _ = problem
    expected = retrieval_ranks(gallery, range(60), queries, targets).text_to_image
    assert np.array_equal(target_ranks(queries, gallery, targets), expected)


@pytest.mark.parametrize("block_bytes", [4, 4 * 7, 4 * 40 * 3, 4 * 1000])
def test_block_size_does_not_change_the_ranks(problem, block_bytes):
    assert np.array_equal(target_ranks(*problem), target_ranks(*problem, block_bytes))


@pytest.mark.parametrize("count", [2, 33, 130])
def test_a_collapsed_model_finds_nothing(count):
    vectors = unit_vectors(0, 1, 3000).repeat(count, axis=0)
    targets = np.arange(count)
    assert set(target_ranks(vectors, vectors, targets)) == {count}
    left_out = (targets + 1) % count
    ranks = target_ranks(vectors, vectors, targets, left_out)
    assert set(ranks) == {count - 1}
    ranks = target_ranks(vectors, vectors, targets)
    found = summarise(composed_values(ranks, count, ks=(1,)))
    assert found["recall@1"] == found["precision@1"] == found["f1@1"] == 0


def test_memory_does_not_grow_with_queries_times_pictures():
    vectors = unit_vectors(0, 4000, 4)
    targets = np.arange(4000)
    tracemalloc.start()
    try:
        target_ranks(vectors, vectors, targets, block_bytes=2**18)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4000 * 4000 * 4 / 20  # of the whole matrix


def test_no_queries_have_no_ranks():
    assert target_ranks(np.empty((0, 2)), np.eye(2), []).shape == (0,)


# === Metrics ===


def test_metrics_by_hand():
    values = composed_values(np.array([1, 4, 60]), 100, ks=(1, 5, 10))
    assert values["recall@5"].tolist() == [1, 1, 0]
    assert values["precision@1"].tolist() == [1, 0, 0]
    assert values["precision@5"].tolist() == [1 / 5, 1 / 5, 0]
    assert values["precision@10"].tolist() == [1 / 10, 1 / 10, 0]
    # harmonic means of 1 and 1/5, and of 1 and 1/10
    assert values["f1@5"] == pytest.approx([1 / 3, 1 / 3, 0])
    assert values["f1@10"] == pytest.approx([2 / 11, 2 / 11, 0])
    summary = summarise(values)
    assert summary["mrr"] == summary["map"] == pytest.approx((1 + 1 / 4 + 1 / 60) / 3)
    assert summary["median_rank"] == 4
    assert summary["success@5%"] == pytest.approx(2 / 3)  # within 5 places


def test_ranks_metrics_and_galleries_agree_with_pytrec_eval(problem):
    queries, gallery, targets, left_out = problem
    names = [f"picture {row}" for row in range(len(gallery))]
    qrels, run = {}, {}
    for query, vector in enumerate(queries):
        scores = dict(zip(names, (gallery @ vector).tolist(), strict=True))
        del scores[names[left_out[query]]]
        run[f"{query}"], qrels[f"{query}"] = scores, {names[targets[query]]: 1}
    measures = {"P.1,5,10,50", "recall.1,5,10,50", "recip_rank"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    ours = composed_values(target_ranks(*problem), 59, KS)
    pairs = {"mrr": "recip_rank"}
    pairs |= {f"precision@{k}": f"P_{k}" for k in KS}
    pairs |= {f"recall@{k}": f"recall_{k}" for k in KS}
    for our_name, their_name in pairs.items():
        expected = [theirs[f"{query}"][their_name] for query in range(40)]
        assert ours[our_name] == pytest.approx(expected, abs=1e-6), our_name
        assert 0 < np.mean(expected) < 1.01


@pytest.mark.parametrize("k", KS)
def test_f1_agrees_with_scikit_learn(problem, k):
    queries, gallery, targets, left_out = problem
    scores = queries @ gallery.T
    scores[np.arange(40), left_out] = -2
    found = scores >= np.sort(scores, axis=1)[:, [-k]]
    right = targets[:, None] == np.arange(60)
    ours = composed_values(target_ranks(*problem), 59, KS)[f"f1@{k}"]
    rows = zip(right, found, strict=True)
    theirs = [f1_score(*row, zero_division=0) for row in rows]
    assert ours == pytest.approx(theirs)


def test_every_query_has_the_values_of_its_own_gallery():
    ranks, sizes = np.array([2, 3, 1, 40]), np.array([20, 100, 20, 100])
    values = composed_values(ranks, sizes, ks=(5,), percents=(5,))
    assert values["success@5%"].tolist() == [0, 1, 1, 0]  # of 1 and of 5 places
    for name, each in per_query(ranks, 100, ks=(5,), percents=()).items():
        assert np.array_equal(values[name], each), name


# === Errors ===


def call(**changed):
    passed = {"queries": np.eye(3), "gallery": np.eye(3), "targets": [0, 1, 2]}
    return target_ranks(**passed | changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"targets": [0, 3, -1]},
            r"2 of `targets` are not rows of the gallery of 3 pictures, the first is "
            r"3 of query 1\. They must be from 0 to 2",
        ),
        (
            {"left_out": [-1, 0, 7]},
            "1 of `left_out` are not .* 7 of query 2.* from -1 to 2",
        ),
        (
            {"left_out": [2, 1, 2]},
            "2 queries leave out their own target, the first is query 1 with row 1",
        ),
        ({"targets": [0, 1]}, r"`targets` is \(2,\) .* 3 queries it must be \(3,\)"),
        ({"left_out": [[0]] * 3}, r"`left_out` is \(3, 1\)"),
        ({"targets": [0.0, 1.0, 2.0]}, "of float64; .* whole numbers"),
        ({"queries": np.eye(3)[:, :2]}, "of 2 and of 3 dims cannot be compared"),
        ({"queries": np.full((3, 3), np.nan)}, "3 rows of `queries` have NaN"),
        ({"gallery": np.ones(3)}, r"`gallery` is \(3,\); it must be \(n, dim\)"),
    ],
)
def test_bad_input_is_named(changed, message):
    with pytest.raises(InputError, match=message):
        call(**changed)


@pytest.mark.parametrize(
    ("ranks", "sizes", "message"),
    [
        ([1, 2, 3], [10, 10], r"Ranks are \(3,\) and gallery sizes \(2,\)"),
        ([], 10, r"Ranks are \(0,\) .* not empty"),
        ([1, 11], [20, 10], "in a gallery of 10 they must lie between 1"),
    ],
)
def test_ranks_that_do_not_fit_their_galleries_are_an_error(ranks, sizes, message):
    with pytest.raises(InputError, match=message):
        composed_values(np.array(ranks), np.array(sizes))
