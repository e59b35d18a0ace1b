"""Intervals and tests: against SciPy, and where the answer is known."""

import numpy as np
import pytest
import scipy.stats

from twinlens.errors import InputError
from twinlens.metrics import bootstrap_intervals, paired_randomisation_test
from twinlens.metrics import statistics as our_statistics


@pytest.fixture
def ranks():
    return np.random.default_rng(0).geometric(0.1, 400).astype(float)


def test_intervals_agree_with_scipy(ranks):
    values = {"mrr": 1 / ranks, "median_rank": ranks}
    ours = bootstrap_intervals(values, num_samples=4000)
    for name, statistic in (("mrr", np.mean), ("median_rank", np.median)):
        theirs = scipy.stats.bootstrap(
            (values[name],),
            statistic,
            n_resamples=4000,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        width = theirs.high - theirs.low
        assert ours[name] == pytest.approx(tuple(theirs), abs=0.06 * width)


def test_medians_are_those_of_the_repeated_values():
    generator = np.random.default_rng(0)
    values, codes = generator.integers(1, 30, 21), generator.integers(0, 6, 21)
    counts = generator.multinomial(6, np.full(6, 1 / 6), size=50)
    counts = counts[(counts @ np.bincount(codes, minlength=6)) > 0]
    ours = our_statistics._weighted_medians(values, counts, codes)
    expected = [np.median(np.repeat(values, each[codes])) for each in counts]
    assert ours.tolist() == expected


def test_copies_of_a_caption_do_not_make_an_interval_narrower(ranks):
    values = {"mrr": 1 / ranks, "median_rank": ranks}
    copies = {name: each.repeat(5) for name, each in values.items()}
    groups = [f"picture {row}" for row in np.arange(400).repeat(5)]
    alone = bootstrap_intervals(values)
    grouped = bootstrap_intervals(copies, groups)
    naive = bootstrap_intervals(copies)
    assert grouped["mrr"] == pytest.approx(alone["mrr"], rel=0.02)
    assert grouped["median_rank"] == pytest.approx(alone["median_rank"], abs=1)
    ratio = np.diff(grouped["mrr"]) / np.diff(naive["mrr"])
    assert ratio[0] == pytest.approx(5**0.5, rel=0.15)


def test_intervals_depend_on_the_seed_alone(ranks, monkeypatch):
    values = {"mean_rank": ranks, "median_rank": ranks}
    first = bootstrap_intervals(values)
    assert first == bootstrap_intervals(values)
    assert first != bootstrap_intervals(values, seed=1)
    monkeypatch.setattr(our_statistics, "BATCH_NUMBERS", 400 * 37)  # 37 samples at once
    batched = bootstrap_intervals(values)
    for name, ends in first.items():
        assert batched[name] == pytest.approx(ends)


def test_a_metric_without_spread_has_no_width():
    assert bootstrap_intervals({"recall@1": np.ones(20)}) == {"recall@1": (1.0, 1.0)}


def test_small_tests_agree_with_scipy_exactly_enumerated():
    generator = np.random.default_rng(0)
    a = generator.integers(0, 2, 11).astype(float)
    b = np.minimum(a, generator.integers(0, 2, 11))
    theirs = scipy.stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    difference, p_value = paired_randomisation_test(a, b, num_samples=50_000)
    assert difference == pytest.approx(theirs.statistic)
    # Standard error of a share of 50,000: at most 0.0022.
    assert p_value == pytest.approx(theirs.pvalue, abs=0.008)


def test_equal_models_do_not_differ(ranks):
    assert paired_randomisation_test(ranks, ranks) == (0.0, 1.0)


def test_a_clear_difference_has_the_smallest_p_value(ranks):
    difference, p_value = paired_randomisation_test(ranks + 1, ranks, num_samples=999)
    assert difference == pytest.approx(1)
    assert p_value == 1 / 1000
    assert paired_randomisation_test(ranks, ranks + 1)[0] == pytest.approx(-1)


def test_copies_of_a_caption_do_not_make_a_difference_surer():
    a, b = np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 0, 0])
    # Three pictures differ, all in one direction: 2 of 8 signs are as extreme.
    groups = np.arange(4).repeat(50)
    difference, p_value = paired_randomisation_test(a.repeat(50), b.repeat(50), groups)
    assert difference == 0.75
    assert p_value == pytest.approx(1 / 4, abs=0.02)


def test_p_values_are_uniform_where_nothing_differs():
    generator = np.random.default_rng(0)
    p_values = [
        paired_randomisation_test(*generator.standard_normal((2, 30)), num_samples=199)[
            1
        ]
        for _ in range(300)
    ]
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01


def test_mistakes_are_named():
    with pytest.raises(InputError, match=r"\(3,\) and `b` is \(4,\)"):
        paired_randomisation_test(np.ones(3), np.ones(4))
    with pytest.raises(InputError, match="'mrr': 3, 'groups': 2"):
        bootstrap_intervals({"mrr": np.ones(3)}, groups=[1, 2])
    with pytest.raises(InputError, match="`level` is 95"):
        bootstrap_intervals({"mrr": np.ones(3)}, level=95)
