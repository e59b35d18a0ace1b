"""How sure a metric is: bootstrap intervals, and a test between two models.

The captions of one picture are not independent, so both work on groups of queries:
a picture with all its captions is drawn, or swapped, as a whole.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from twinlens.errors import InputError
from twinlens.metrics.retrieval import is_median

BATCH_NUMBERS = 4 * 2**20  # random numbers at once: 32 MiB as float64


def bootstrap_intervals(
    per_query: Mapping[str, np.ndarray],
    groups: Sequence | None = None,
    num_samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of each metric by the cluster bootstrap.

    As many groups as there are are drawn with replacement, and the metric is computed
    again over all their queries: the median for names that say so, else the mean.

    Args:
        per_query: `(queries,)` values by name of the metric.
        groups: `(queries,)` what belongs together, for example the image id of each
            caption; without it every query stands alone.
        num_samples: how often it is drawn; 1,000 gives each end of a 95 % interval with
            a standard error of a fiftieth of its width.
        level: the share of samples between the ends, between 0 and 1.
        seed: of the generator; equal seeds give equal intervals.

    Returns:
        The lower and the upper end by name of the metric.

    Reference:
        Davison and Hinkley 1997, Bootstrap Methods and their Application, 3.8.
    """
    if not 0 < level < 1:
        raise InputError(f"`level` is {level}; it must lie between 0 and 1, as 0.95.")
    codes = _group_codes(groups, per_query)
    sizes = np.bincount(codes)
    means = {name: each for name, each in per_query.items() if not is_median(name)}
    sums = np.column_stack([sizes, *(np.bincount(codes, x) for x in means.values())])
    medians = {name: np.asarray(x) for name, x in per_query.items() if is_median(name)}
    samples = {name: [] for name in per_query}
    for counts in _draws(len(sizes), len(codes), num_samples, seed):
        totals = counts @ sums
        for column, name in enumerate(means, start=1):
            samples[name].append(totals[:, column] / totals[:, 0])
        for name, values in medians.items():
            samples[name].append(_weighted_medians(values, counts, codes))
    tails = [(1 - level) / 2, (1 + level) / 2]
    ends = {name: np.quantile(np.concatenate(x), tails) for name, x in samples.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def paired_randomisation_test(
    a: np.ndarray,
    b: np.ndarray,
    groups: Sequence | None = None,
    num_samples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Whether two models differ, from their values for the same queries.

    If they do not, swapping the two values of a query changes nothing but the sign of
    its difference. All signs of a group are flipped together.

    Args:
        a: `(queries,)` values of one model.
        b: `(queries,)` values of the other, in the same order.
        groups: `(queries,)` what belongs together; without it, every query alone.
        num_samples: how often signs are drawn; the smallest p is `1 / (1 + this)`.
        seed: of the generator; equal seeds give equal results.

    Returns:
        The mean of `a - b`, and the two-sided p-value `(1 + as extreme) / (1 + drawn)`,
        which counts the observed signs as one of the drawn ones.

    Reference:
        Phipson and Smyth 2010, https://arxiv.org/abs/1603.05766.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise InputError(
            f"`a` is {a.shape} and `b` is {b.shape}; both must be (queries,), about "
            "the same queries in the same order."
        )
    differences = np.bincount(_group_codes(groups, {"a": a}), a - b)
    # Equal sums of other signs differ in the last bits, and count as extreme too.
    observed = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    generator = np.random.default_rng(seed)
    extreme = 0
    for size in _batches(num_samples, len(differences)):
        positive = generator.integers(0, 2, (size, len(differences)), dtype=np.int8)
        flipped = 2 * (positive @ differences) - differences.sum()
        extreme += int(np.count_nonzero(np.abs(flipped) >= observed))
    return float(np.mean(a - b)), (1 + extreme) / (1 + num_samples)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for how many there are, in the same order.

    With all of them below a level, the chance of any false one is below it, too.

    Reference:
        Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _group_codes(
    groups: Sequence | None, per_query: Mapping[str, np.ndarray]
) -> np.ndarray:
    """`(queries,)` the group of each query as a number from zero."""
    lengths = {name: len(values) for name, values in per_query.items()}
    if groups is not None:
        lengths["groups"] = len(groups)
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise InputError(
            f"Every metric and `groups` need one value for each query, but there are "
            f"{lengths}."
        )
    if groups is None:
        return np.arange(next(iter(lengths.values())))
    code_of = {}
    return np.array([code_of.setdefault(group, len(code_of)) for group in groups])


def _draws(
    num_groups: int, num_queries: int, num_samples: int, seed: int
) -> Iterator[np.ndarray]:
    """`(samples, num_groups)` how often each group was drawn, in batches."""
    generator = np.random.default_rng(seed)
    for size in _batches(num_samples, num_queries):
        drawn = generator.integers(0, num_groups, (size, num_groups))
        drawn += num_groups * np.arange(size)[:, None]  # a range of its own per sample
        counts = np.bincount(drawn.ravel(), minlength=size * num_groups)
        yield counts.reshape(size, num_groups)


def _batches(num_samples: int, width: int) -> Iterator[int]:
    """Sizes of batches of samples that are `width` numbers wide."""
    step = max(1, BATCH_NUMBERS // width)
    for start in range(0, num_samples, step):
        yield min(step, num_samples - start)


def _weighted_medians(
    values: np.ndarray, counts: np.ndarray, codes: np.ndarray
) -> np.ndarray:
    """`(samples,)` median of the values, each taken as often as its group was drawn."""
    order = np.argsort(values)
    taken = np.cumsum(counts[:, codes[order]], axis=1)  # values up to here
    total = taken[:, -1:]
    lower = np.count_nonzero(taken <= (total - 1) // 2, axis=1)
    upper = np.count_nonzero(taken <= total // 2, axis=1)
    return (values[order][lower] + values[order][upper]) / 2
