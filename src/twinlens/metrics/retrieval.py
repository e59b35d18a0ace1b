"""From ranks to metrics: one number for each query, and their summary.

A rank is the place of the first right answer in the whole gallery, 1 = best.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from twinlens.errors import InputError
from twinlens.metrics.ranks import (
    PositiveRanks,
    RetrievalRanks,
    caption_rows,
    retrieval_ranks,
)


def recall_at_k(ranks: np.ndarray, k: int) -> float:
    """Fraction of queries that find a right answer among the first `k`, 0 to 1.

    This is what image-text retrieval calls recall@K. Where a query has several right
    answers (the five captions of a picture), one of them is enough, so it is a hit
    rate; success@K is another name for it. The recall of information retrieval, the
    share of all right answers that are found, is in `labels`.
    """
    return float(np.mean(np.asarray(ranks) <= k))


def success_at_percent(ranks: np.ndarray, percent: float, gallery_size: int) -> float:
    """Fraction of queries with a hit within the first `percent` % of the gallery.

    That is within `max(1, floor(percent / 100 * gallery_size))` places.
    """
    return recall_at_k(ranks, places_of_percent(percent, gallery_size))


def places_of_percent(percent: float, gallery_size: int) -> int:
    """How many places `percent` % of a gallery are; at least one."""
    return max(1, math.floor(percent * gallery_size / 100))


def retrieval_metrics(
    first_ranks: np.ndarray,
    gallery_size: int,
    ks: Sequence[int] = (1, 5, 10),
    percents: Sequence[float] = (5,),
    positives: PositiveRanks | None = None,
) -> dict[str, float]:
    """All metrics of one direction; see `per_query` for arguments and names."""
    return summarise(per_query(first_ranks, gallery_size, ks, percents, positives))


def per_query(
    first_ranks: np.ndarray,
    gallery_size: int,
    ks: Sequence[int] = (1, 5, 10),
    percents: Sequence[float] = (5,),
    positives: PositiveRanks | None = None,
) -> dict[str, np.ndarray]:
    """All metrics of one direction, for each query.

    Args:
        first_ranks: `(queries,)` rank of the first right answer, 1 = best.
        gallery_size: how many candidates each query had.
        ks: cut-offs in places.
        percents: cut-offs in percent of the gallery.
        positives: ranks of all right answers; without it, each query has one.

    Returns:
        `(queries,)` float64 values by name:

        - `recall@K`, `success@K`: 1 if the first right answer is within K places;
          two names for one measure, see `recall_at_k`.
        - `success@P%`: the same within P % of the gallery.
        - `mean_rank`, `median_rank`: the rank itself; only the summary differs.
        - `mrr`: 1 / rank.
        - `map`: average precision over all right answers.
        - `ndcg@K`: gains of 1, discount log2(1 + rank), divided by the best that the
          first K places could hold.
    """
    ranks = _checked_ranks(first_ranks, gallery_size)
    if positives is None:
        once = np.arange(len(ranks))
        positives = PositiveRanks(ranks, once, np.ones(len(ranks), np.int64))
    elif len(positives.counts) != len(ranks):
        raise InputError(
            f"`positives` is about {len(positives.counts)} queries, `first_ranks` "
            f"about {len(ranks)}. Pass both from one direction."
        )
    hits = {f"recall@{k}": ranks <= k for k in ks}
    hits |= {f"success@{k}": ranks <= k for k in ks}
    for percent in percents:
        places = places_of_percent(percent, gallery_size)
        hits[f"success@{percent:g}%"] = ranks <= places
    values = {name: hit.astype(np.float64) for name, hit in hits.items()}
    values["mean_rank"] = values["median_rank"] = ranks.astype(np.float64)
    values["mrr"] = 1 / ranks
    values["map"] = average_precision(positives)
    return values | {f"ndcg@{k}": ndcg_at_k(positives, k) for k in ks}


def summarise(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """One number for each metric: the median where its name says so, else the mean."""
    return {
        name: float(np.median(each) if is_median(name) else np.mean(each))
        for name, each in values.items()
    }


def is_median(name: str) -> bool:
    """Whether the metric called `name` is a median over queries, not a mean."""
    return name.split("/")[-1].startswith("median_")


def average_precision(positives: PositiveRanks) -> np.ndarray:
    """`(queries,)` mean over the right answers of the precision at their rank."""
    starts = np.searchsorted(positives.queries, positives.queries)
    found = np.arange(len(starts)) - starts + 1  # right answers up to this one
    return _sum_by_query(found / positives.ranks, positives) / positives.counts


def ndcg_at_k(positives: PositiveRanks, k: int) -> np.ndarray:
    """`(queries,)` normalised discounted cumulative gain of the first `k` places.

    Reference:
        Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418, with
        gains of 1 and the discount log2(1 + rank) that trec_eval uses.
    """
    gains = np.where(positives.ranks <= k, 1 / np.log2(1 + positives.ranks), 0)
    ideal = np.cumsum(1 / np.log2(1 + np.arange(1, k + 1)))
    best = ideal[np.minimum(positives.counts, k) - 1]
    return _sum_by_query(gains, positives) / best


def found_at_k(positives: PositiveRanks, k: int) -> np.ndarray:
    """`(queries,)` number of right answers among the first `k`."""
    return _sum_by_query(positives.ranks <= k, positives)


def fold_slices(image_ids: Sequence, fold_size: int) -> tuple[list[slice], int]:
    """Folds of equal size, in the given order, as in the COCO 1K protocol.

    Returns:
        The slices of `image_ids`, and how many pictures at the end are left over; say
        so where it is not zero.

    Raises:
        InputError: if there are not enough pictures for one fold.

    Reference:
        Karpathy and Fei-Fei 2015, https://arxiv.org/abs/1412.2306: the 5,000 test
        pictures of COCO as five folds of 1,000, metrics averaged over the folds.
    """
    num_folds, left_over = divmod(len(image_ids), max(1, fold_size))
    if fold_size < 1 or num_folds == 0:
        raise InputError(
            f"{len(image_ids)} pictures cannot be cut into folds of {fold_size}. "
            "Choose a fold size between 1 and the number of pictures."
        )
    starts = range(0, num_folds * fold_size, fold_size)
    return [slice(start, start + fold_size) for start in starts], left_over


def fold_ranks(
    image_embeddings: np.ndarray,
    image_ids: Sequence,
    text_embeddings: np.ndarray,
    text_image_ids: Sequence,
    fold_size: int,
) -> Iterator[RetrievalRanks]:
    """`retrieval_ranks` of each fold: its pictures against their own captions."""
    rows = caption_rows(image_ids, text_image_ids)
    for fold in fold_slices(image_ids, fold_size)[0]:
        inside = (rows >= fold.start) & (rows < fold.stop)
        yield retrieval_ranks(
            image_embeddings[fold],
            range(fold.start, fold.stop),
            text_embeddings[inside],
            rows[inside],
        )


def mean_over_folds(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each metric averaged over the folds, which count alike."""
    return {
        name: float(np.mean([fold[name] for fold in metrics])) for name in metrics[0]
    }


def _checked_ranks(first_ranks: np.ndarray, gallery_size: int) -> np.ndarray:
    """The ranks, which must count from one and stay within the gallery."""
    ranks = np.asarray(first_ranks)
    if ranks.ndim != 1 or len(ranks) == 0:
        raise InputError(
            f"Ranks are {ranks.shape}; they must be (queries,), not empty."
        )
    if ranks.min() < 1 or ranks.max() > gallery_size:
        raise InputError(
            f"Ranks go from {ranks.min()} to {ranks.max()}; in a gallery of "
            f"{gallery_size} they must lie between 1 (the best) and {gallery_size}."
        )
    return ranks


def _sum_by_query(values: np.ndarray, positives: PositiveRanks) -> np.ndarray:
    return np.bincount(positives.queries, values, minlength=len(positives.counts))
