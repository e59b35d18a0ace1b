"""Metrics by label: by hand, against pytrec_eval, and whole against blocked."""

import numpy as np
import pytest
import pytrec_eval

from twinlens.errors import InputError
from twinlens.metrics import label_metrics, summarise, top_k, top_k_label_metrics


@pytest.fixture(scope="module")
def problem():
    generator = np.random.default_rng(0)
    labels = generator.choice(
        ["shirt", "shoe", "bag", "hat"], 60, p=[0.5, 0.3, 0.1, 0.1]
    )
    return generator.standard_normal((60, 5)), labels


def trec_values(scores, relevant, measures):
    """pytrec_eval's values, a list for each measure."""
    queries = [f"{query}" for query in range(len(scores))]
    items = [f"item {item}" for item in range(scores.shape[1])]
    qrels = {
        query: {item: 1 for item, right in zip(items, row, strict=True) if right}
        for query, row in zip(queries, relevant, strict=True)
    }
    run = {
        query: {i: s for i, s in zip(items, row.tolist(), strict=True) if s > -np.inf}
        for query, row in zip(queries, scores, strict=True)
    }
    result = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    return {
        name: [result[query][name] for query in queries] for name in result[queries[0]]
    }


MEASURES = {"map", "P.1,5,10", "recall.1,5,10", "ndcg_cut.1,5,10"}
SAME = {"precision": "P", "recall": "recall", "ndcg": "ndcg_cut"}


def assert_like_trec(ours, theirs):
    if "map" in ours:
        assert ours["map"] == pytest.approx(theirs["map"], abs=1e-6)
    for k in (1, 5, 10):
        for our_name, their_name in SAME.items():
            expected = theirs[f"{their_name}_{k}"]
            assert ours[f"{our_name}@{k}"] == pytest.approx(expected, abs=1e-6)


def test_queries_against_a_gallery_agree_with_pytrec_eval(problem):
    vectors, labels = problem
    queries, gallery = vectors[:15], vectors[15:]
    relevant = labels[:15, None] == labels[15:]
    theirs = trec_values(queries @ gallery.T, relevant, MEASURES)
    ours = label_metrics(queries, labels[:15], gallery, labels[15:])
    assert_like_trec(ours.per_query, theirs)
    indices, _ = top_k(queries, gallery, 10)
    found = top_k_label_metrics(indices, labels[:15], labels[15:])
    assert_like_trec(found.per_query, theirs)


def test_a_gallery_against_itself_agrees_with_pytrec_eval(problem):
    vectors, labels = problem
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    relevant = (labels[:, None] == labels) & ~np.eye(60, dtype=bool)
    theirs = trec_values(scores, relevant, MEASURES)
    assert_like_trec(label_metrics(vectors, labels).per_query, theirs)
    indices, _ = top_k(vectors, vectors, 10, exclude=np.arange(60))
    assert_like_trec(top_k_label_metrics(indices, labels).per_query, theirs)


def test_precision_recall_and_f1_by_hand():
    # The query is a shoe; the gallery holds three shoes, two of them in the first four.
    found = top_k_label_metrics(
        [[0, 1, 2, 3]],
        ["shoe"],
        ["shoe", "bag", "shoe", "bag", "shoe", "hat"],
        ks=(4,),
    )
    metrics = summarise(found.per_query)
    assert metrics["precision@4"] == 2 / 4
    assert metrics["recall@4"] == 2 / 3
    assert metrics["f1@4"] == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))


def test_f1_is_the_harmonic_mean_for_each_query(problem):
    values = label_metrics(*problem).per_query
    precision, recall = values["precision@5"], values["recall@5"]
    total = np.where(precision + recall > 0, precision + recall, 1)
    assert values["f1@5"] == pytest.approx(2 * precision * recall / total)


def test_a_collapsed_model_finds_every_wrong_answer_first():
    labels = ["shoe"] * 2 + ["bag"] * 4
    values = label_metrics(np.ones((6, 3)), labels, ks=(4, 5)).per_query
    # A shoe finds four bags and then the other shoe, at rank 5.
    assert values["precision@4"][:2].tolist() == [0, 0]
    assert values["map"][:2].tolist() == [1 / 5, 1 / 5]
    # A bag finds two shoes and then three bags at 3, 4 and 5.
    assert values["map"][2] == pytest.approx((1 / 3 + 2 / 4 + 3 / 5) / 3)


def test_block_size_does_not_change_the_metrics(problem):
    whole = label_metrics(*problem).per_query
    parts = label_metrics(*problem, block_bytes=4 * 60 * 7).per_query
    for name in whole:
        assert np.array_equal(whole[name], parts[name]), name


def test_queries_without_right_answer_are_left_out_and_counted():
    labels = ["shoe", "hat", "shoe"]
    metrics = label_metrics(np.eye(3), labels, ks=(1,))
    assert metrics.query_rows.tolist() == [0, 2]
    assert metrics.num_without_relevant == 1
    assert len(metrics.per_query["map"]) == 2


def test_answers_that_a_search_did_not_have_are_wrong():
    # The last row of the gallery is a shoe; -1 must not be read as that row.
    found = top_k_label_metrics([[1, -1]], ["shoe"], ["bag", "shoe", "shoe"], ks=(2,))
    assert found.per_query["precision@2"].tolist() == [1 / 2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((np.eye(2), ["a", None]), "1 query labels are missing, the first in row 1"),
        ((np.eye(2), ["a", float("nan")]), "1 query labels are missing"),
        ((np.eye(2), ["a", "b"]), "None of 2 queries shares its label"),
        ((np.eye(2), ["a"]), "has 2 rows, but there are 1"),
        ((np.eye(2), ["a", "b"], np.eye(2)), "or neither"),
        ((np.eye(2), ["a", "b"], np.eye(3), [*"aab"]), "of 2 and of 3 dims"),
    ],
)
def test_mistakes_are_named(arguments, text):
    with pytest.raises(InputError, match=text):
        label_metrics(*arguments)


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([[0, 1], [2, 0], [0, 1]], "1 queries found themselves, the first is row 0"),
        ([[1], [2], [0]], "Metrics at 2 need as many answers"),
        ([[1, 2], [2, 3], [0, 1]], "rows of the gallery of 3"),
        ([[1, 2]], r"it must be \(3, found\)"),
    ],
)
def test_wrong_answers_of_a_search_are_named(indices, text):
    with pytest.raises(InputError, match=text):
        top_k_label_metrics(indices, ["a", "a", "a"], ks=(2,))
