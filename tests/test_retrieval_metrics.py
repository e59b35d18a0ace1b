"""Metrics from ranks: by hand, and against pytrec_eval and scikit-learn."""

import math

import numpy as np
import pytest
import pytrec_eval
from sklearn.metrics import average_precision_score, ndcg_score

from twinlens.errors import InputError
from twinlens.metrics import (
    mean_over_folds,
    per_query,
    recall_at_k,
    retrieval_metrics,
    retrieval_ranks,
    success_at_percent,
    summarise,
)

RANKS = np.array([1, 2, 6, 10, 11])


@pytest.fixture(scope="module")
def problem():
    """30 pictures with one to four captions each, and float64 scores without ties."""
    generator = np.random.default_rng(0)
    text_rows = np.repeat(np.arange(30), generator.integers(1, 5, 30))
    images = generator.standard_normal((30, 8))
    texts = 0.5 * images[text_rows] + generator.standard_normal((len(text_rows), 8))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    ranks = retrieval_ranks(images, range(30), texts, text_rows)
    return ranks, images @ texts.T, np.arange(30)[:, None] == text_rows


def test_metrics_by_hand():
    metrics = retrieval_metrics(RANKS, gallery_size=40, ks=(1, 10), percents=(5, 15))
    expected = {
        "recall@1": 1 / 5,
        "recall@10": 4 / 5,
        "success@1": 1 / 5,
        "success@10": 4 / 5,
        "success@5%": 2 / 5,  # 5 % of 40 are 2 places
        "success@15%": 3 / 5,  # 6 places
        "mean_rank": 6,
        "median_rank": 6,
        "mrr": (1 + 1 / 2 + 1 / 6 + 1 / 10 + 1 / 11) / 5,
        "map": (1 + 1 / 2 + 1 / 6 + 1 / 10 + 1 / 11) / 5,  # one right answer: the same
        "ndcg@1": 1 / 5,
        "ndcg@10": (1 + 1 / math.log2(3) + 1 / math.log2(7) + 1 / math.log2(11)) / 5,
    }
    assert metrics == pytest.approx(expected)


@pytest.mark.parametrize(
    ("percent", "gallery_size", "places"),
    [
        (5, 100, 5),
        (5, 119, 5),  # 5.95 places are five
        (5, 10, 1),  # half a place is one
        (29, 100, 29),  # 0.29 * 100 is 28.999… in binary
        (0.5, 1000, 5),
    ],
)
def test_percent_of_the_gallery_is_rounded_down_but_never_to_nothing(
    percent, gallery_size, places
):
    assert success_at_percent([places], percent, gallery_size) == 1
    assert success_at_percent([places + 1], percent, gallery_size) == 0


def test_one_caption_of_several_is_enough_for_recall():
    # Captions of the picture at ranks 2 and 50: found within 5 places, not within 1.
    assert recall_at_k([2], 1) == 0
    assert recall_at_k([2], 5) == 1


def test_all_right_answers_agree_with_pytrec_eval(problem):
    ranks, scores, relevant = problem
    names = [f"text {text}" for text in range(scores.shape[1])]
    qrels = {
        f"{image}": {name: 1 for name, right in zip(names, row, strict=True) if right}
        for image, row in enumerate(relevant)
    }
    run = {
        f"{image}": dict(zip(names, row.tolist(), strict=True))
        for image, row in enumerate(scores)
    }
    measures = {"map", "recip_rank", "ndcg_cut.1,5,10", "success.1,5,10"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    ours = per_query(
        ranks.image_to_text, ranks.num_texts, positives=ranks.image_to_text_all
    )
    pairs = {"map": "map", "mrr": "recip_rank"}
    pairs |= {f"ndcg@{k}": f"ndcg_cut_{k}" for k in (1, 5, 10)}
    pairs |= {f"success@{k}": f"success_{k}" for k in (1, 5, 10)}
    for our_name, their_name in pairs.items():
        expected = [theirs[f"{image}"][their_name] for image in range(30)]
        assert ours[our_name] == pytest.approx(expected, abs=1e-6), our_name


def test_all_right_answers_agree_with_scikit_learn(problem):
    ranks, scores, relevant = problem
    ours = per_query(
        ranks.image_to_text, ranks.num_texts, positives=ranks.image_to_text_all
    )
    precisions = [
        average_precision_score(right, row)
        for right, row in zip(relevant, scores, strict=True)
    ]
    assert ours["map"] == pytest.approx(precisions)
    assert ours["ndcg@5"].mean() == pytest.approx(ndcg_score(relevant, scores, k=5))


def test_the_summary_is_the_mean_but_for_the_median():
    values = {"mrr": np.array([1, 0, 0]), "text_to_image/median_rank": [1, 2, 9]}
    assert summarise(values) == {"mrr": 1 / 3, "text_to_image/median_rank": 2}


def test_folds_count_alike():
    folds = [{"recall@1": 0.2, "mrr": 0.5}, {"recall@1": 0.4, "mrr": 0.7}]
    assert mean_over_folds(folds) == pytest.approx({"recall@1": 0.3, "mrr": 0.6})


@pytest.mark.parametrize("ranks", [[0, 1, 2], [1, 2, 41]])
def test_ranks_outside_the_gallery_are_an_error(ranks):
    with pytest.raises(InputError, match=r"between 1 \(the best\) and 40"):
        per_query(np.array(ranks), gallery_size=40)


def test_right_answers_of_the_other_direction_are_an_error(problem):
    ranks, scores, _ = problem
    with pytest.raises(InputError, match="`positives` is about 30 queries"):
        per_query(ranks.text_to_image, 30, positives=ranks.image_to_text_all)
