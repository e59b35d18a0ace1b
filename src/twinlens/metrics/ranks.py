"""From embeddings to ranks, in blocks, with ties counted against the model.

The rank of a right answer is its place in the list of the whole gallery, best
score first, 1 = best. A wrong answer with an equal score stands before a right
one. So a model that gives every picture the same embedding finds nothing,
where counting only the strictly better answers would call it perfect.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.errors import InputError
from twinlens.metrics.scores import (
    BLOCK_BYTES,
    check_same_dim,
    checked_embeddings,
    row_blocks,
)

# Scores closer than this are equal. One product of two unit vectors comes out up to
# 8e-6 apart, depending on which code adds it up: the inside or the edge of a matrix
# product, or a single pair (measured up to 4,096 dims, OpenBLAS with AVX2 and
# AVX-512; worst are vectors whose parts are all alike, as a dead head gives). Below
# that, a collapsed model could be called perfect. Scores that truly differ are rarely
# so close: on random pairs of COCO's size it costs up to 0.03 points of recall@1, 5
# or 10 from text to image and 0.1 from image to text, well within sampling error.
TIE_TOLERANCE = np.float32(1e-5)

TEXTS_AT_ONCE = 32_768  # a row of scores is 128 KiB and stays in a core's cache
ROWS_AT_ONCE = 8  # a strip of rows is 1 MiB; below 256, so that a byte can count it


@dataclass(frozen=True)
class PositiveRanks:
    """The ranks of all right answers, query after query.

    Attributes:
        ranks: `(positives,)` rank of each right answer, 1 = best, rising within
            a query.
        queries: `(positives,)` the query that each belongs to, rising.
        counts: `(queries,)` how many right answers the gallery holds for each
            query, at least 1, whether they are among `ranks` or not.
    """

    ranks: np.ndarray
    queries: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class RetrievalRanks:
    """Ranks of both directions, 1 = best, ties counted against the model.

    Attributes:
        text_to_image: `(texts,)` rank of each caption's picture among all pictures.
        image_to_text: `(queries,)` rank of the best of a picture's captions among
            all captions. The other captions of the picture do not compete with it.
        image_to_text_all: ranks of every caption of every picture.
        image_rows: `(queries,)` rows of the pictures that have captions, rising.
            The others stay in the gallery, but nothing is right for them.
        num_images: size of the gallery of pictures.
        num_texts: size of the gallery of captions.
    """

    text_to_image: np.ndarray
    image_to_text: np.ndarray
    image_to_text_all: PositiveRanks
    image_rows: np.ndarray
    num_images: int
    num_texts: int


def first_match_ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Rank of the first right answer, from a small matrix of scores.

    Args:
        scores: `(queries, gallery)`, higher is better.
        relevant: `(queries, gallery)` booleans; at least one is true in each row.

    Returns:
        `(queries,)` one plus the number of wrong answers that score at least as
        high as the best right one, less `TIE_TOLERANCE`.

    Raises:
        InputError: if the shapes differ, a score is NaN or a query has no right
            answer.
    """
    scores, relevant = np.asarray(scores, np.float32), np.asarray(relevant, bool)
    if scores.ndim != 2 or scores.shape != relevant.shape:
        raise InputError(
            f"`scores` is {scores.shape} and `relevant` is {relevant.shape}; both "
            "must be (queries, gallery)."
        )
    if np.isnan(scores).any():  # nothing is better than a NaN: it would rank first
        raise InputError("`scores` has NaN in it, which cannot be ranked.")
    without = np.flatnonzero(~relevant.any(axis=1))
    if len(without):
        raise InputError(
            f"{len(without)} queries have no right answer, the first is row "
            f"{without[0]}. Leave them out."
        )
    best = np.max(scores, axis=1, where=relevant, initial=-np.inf, keepdims=True)
    wrong = ~relevant & (scores >= best - TIE_TOLERANCE)
    return 1 + np.count_nonzero(wrong, axis=1)


def retrieval_ranks(
    image_embeddings: np.ndarray,
    image_ids: Sequence,
    text_embeddings: np.ndarray,
    text_image_ids: Sequence,
    block_bytes: int = BLOCK_BYTES,
) -> RetrievalRanks:
    """Ranks of both directions from one matrix product, a block at a time.

    Memory is a block of scores and a few numbers per caption, whatever the size
    of the gallery. A block is compared, while it is at hand, with everything it
    competes with: the pair of each caption, and every pair of each picture.

    Args:
        image_embeddings: `(images, dim)` unit vectors.
        image_ids: `(images,)` each once.
        text_embeddings: `(texts, dim)` unit vectors.
        text_image_ids: `(texts,)` the picture that each caption describes.
        block_bytes: of scores held at once; it changes the speed, not the result.

    Raises:
        InputError: if shapes disagree, an embedding is not finite, an image id
            comes twice, or a caption's picture is not in the gallery.
    """
    images = checked_embeddings("image_embeddings", image_embeddings, image_ids)
    texts = checked_embeddings("text_embeddings", text_embeddings, text_image_ids)
    check_same_dim(texts, images)
    rows = caption_rows(image_ids, text_image_ids)
    order = np.argsort(rows, kind="stable")  # captions, picture after picture
    better_images, better_texts = _count_better(images, texts, rows, order, block_bytes)
    positives = _positive_ranks(rows[order], better_texts[order])
    image_rows, first = np.unique(rows[order], return_index=True)
    return RetrievalRanks(
        text_to_image=1 + better_images,
        image_to_text=positives.ranks[first],
        image_to_text_all=positives,
        image_rows=image_rows,
        num_images=len(images),
        num_texts=len(texts),
    )


def caption_rows(image_ids: Sequence, text_image_ids: Sequence) -> np.ndarray:
    """`(texts,)` the row of each caption's picture, from ids of any hashable kind."""
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    if len(row_of) < len(image_ids):
        raise InputError(
            f"{len(image_ids)} pictures have only {len(row_of)} different ids. Give "
            "each picture once; several captions may share one."
        )
    rows = [row_of.get(image_id, -1) for image_id in text_image_ids]
    missing = [text for text, row in enumerate(rows) if row < 0]
    if missing:
        raise InputError(
            f"{len(missing)} captions describe a picture that is not in the gallery, "
            f"the first is caption {missing[0]} of picture "
            f"'{text_image_ids[missing[0]]}'. Add the pictures or leave these out."
        )
    return np.array(rows, np.int64)


def _count_better(
    images: np.ndarray,
    texts: np.ndarray,
    rows: np.ndarray,
    order: np.ndarray,
    block_bytes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts the wrong answers that are at least as good as each pair.

    Returns:
        `(texts,)` pictures as good for a caption as its own, and `(texts,)` foreign
        captions as good for its picture as this one.
    """
    thresholds = pair_scores(texts, images, rows) - TIE_TOLERANCE
    bounds = np.searchsorted(rows[order], np.arange(len(images) + 1))
    captions = [group.tolist() for group in np.split(order, bounds[1:-1])]
    better_images = np.zeros(len(texts), np.int64)
    better_texts = np.zeros(len(texts), np.int64)
    for block, columns, scores in score_blocks(images, texts, block_bytes):
        hide_pairs(scores, rows[columns] - block.start)
        better_images[columns] += count_columns(scores, thresholds[columns])
        # Threads do not help here: each call is too short to pay for the hand-over.
        for own_texts, row in zip(captions[block], scores, strict=True):
            for text in own_texts:
                better_texts[text] += np.count_nonzero(row >= thresholds[text])
    return better_images, better_texts


def pair_scores(texts: np.ndarray, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`(texts,)` score of each caption with its own picture."""
    scores = np.empty(len(texts), np.float32)
    for block in row_blocks(len(texts), texts.shape[1], BLOCK_BYTES // 16):
        scores[block] = np.einsum(
            "ij,ij->i", texts[block], images[rows[block]], dtype=np.float64
        )
    return scores


def score_blocks(
    images: np.ndarray, texts: np.ndarray, block_bytes: int
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Rows, columns and scores of each block of `images @ texts.T`.

    All blocks are written over one another: fresh memory for each costs more than
    the comparisons do.
    """
    width = max(1, min(len(texts), TEXTS_AT_ONCE, block_bytes // 4))
    height = min(len(images), max(1, block_bytes // (4 * width)))
    buffer = np.empty(height * width, np.float32)
    for rows in row_blocks(len(images), width, block_bytes):
        for start in range(0, len(texts), width):
            columns = slice(start, min(start + width, len(texts)))
            shape = rows.stop - rows.start, columns.stop - columns.start
            scores = buffer[: shape[0] * shape[1]].reshape(shape)
            np.matmul(images[rows], texts[columns].T, out=scores)
            yield rows, columns, scores


def hide_pairs(scores: np.ndarray, rows: np.ndarray) -> None:
    """Takes a row out of each column, such as the right answer, so it is not counted.

    A row that is not in this block is negative, or beyond it.
    """
    columns = np.flatnonzero((rows >= 0) & (rows < len(scores)))
    scores[rows[columns], columns] = -np.inf


def count_columns(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """`(columns,)` how many scores of each column reach its threshold."""
    counts = np.zeros(len(thresholds), np.int64)
    for start in range(0, len(scores), ROWS_AT_ONCE):
        better = scores[start : start + ROWS_AT_ONCE] >= thresholds
        counts += better.view(np.uint8).sum(axis=0, dtype=np.uint8)
    return counts


def _positive_ranks(queries: np.ndarray, better: np.ndarray) -> PositiveRanks:
    """Ranks from the wrong answers before each right one; `queries` is rising.

    The k-th best right answer stands behind k - 1 right ones and these.
    """
    places = np.arange(len(queries)) - np.searchsorted(queries, queries) + 1
    better = better[np.lexsort((better, queries))]
    _, renumbered, counts = np.unique(queries, return_inverse=True, return_counts=True)
    return PositiveRanks(ranks=better + places, queries=renumbered, counts=counts)
