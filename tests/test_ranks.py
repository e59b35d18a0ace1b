"""Ranks: pessimistic ties, blocks, both directions, all right answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlens.errors import InputError
from twinlens.metrics import (
    first_match_ranks,
    fold_ranks,
    fold_slices,
    is_collapsed,
    recall_at_k,
    retrieval_ranks,
    top_k,
)

SQUARE_ROOT_HALF = np.float32(0.5**0.5)


def unit_vectors(seed: int, count: int, dim: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("float32")


def slow_ranks(scores: np.ndarray, relevant: np.ndarray) -> list[list[int]]:
    """Sorts each row, wrong answers first where scores tie: the definition itself."""
    ranks = []
    for row, right in zip(scores, relevant, strict=True):
        order = sorted(range(len(row)), key=lambda item: (-row[item], right[item]))
        ranks.append([place for place, item in enumerate(order, 1) if right[item]])
    return ranks


@st.composite
def small_problems(draw):
    """Whole numbers from -1 to 1 in two dims: most scores tie, all are exact."""
    num_images = draw(st.integers(1, 7))
    text_rows = draw(st.lists(st.integers(0, num_images - 1), min_size=1, max_size=15))
    numbers = st.integers(-1, 1)
    vector = st.tuples(numbers, numbers)
    images = draw(st.lists(vector, min_size=num_images, max_size=num_images))
    texts = draw(st.lists(vector, min_size=len(text_rows), max_size=len(text_rows)))
    return np.array(images), np.array(texts), np.array(text_rows)


def test_a_collapsed_model_is_not_perfect():
    ranks = first_match_ranks(np.ones((4, 4)), np.eye(4, dtype=bool))
    assert ranks.tolist() == [4, 4, 4, 4]
    assert recall_at_k(ranks, 1) == 0.0


def test_the_first_match_is_ranked_by_wrong_answers_only():
    scores = [[0.9, 0.8, 0.7, 0.7], [0.1, 0.2, 0.3, 0.4]]
    relevant = [[0, 0, 1, 0], [0, 1, 1, 0]]
    # Row 0: 0.9, 0.8 and the equal 0.7 stand before. Row 1: only 0.4 does; the other
    # right answer, 0.2, would not count even if it were better.
    assert first_match_ranks(scores, relevant).tolist() == [4, 2]


@settings(max_examples=150, deadline=None)
@given(small_problems(), st.sampled_from([4, 12, 40, 2**20]))
def test_blocked_ranks_are_those_of_the_sorted_list(problem, block_bytes):
    images, texts, text_rows = problem
    relevant = text_rows[:, None] == np.arange(len(images))
    scores = texts @ images.T
    ranks = retrieval_ranks(images, range(len(images)), texts, text_rows, block_bytes)
    assert ranks.text_to_image.tolist() == [r[0] for r in slow_ranks(scores, relevant)]
    expected = [row for row in slow_ranks(scores.T, relevant.T) if row]
    assert ranks.image_to_text.tolist() == [row[0] for row in expected]
    positives = ranks.image_to_text_all
    assert positives.ranks.tolist() == sum(expected, [])
    assert positives.counts.tolist() == [len(row) for row in expected]
    assert (
        positives.queries.tolist()
        == np.repeat(np.arange(len(expected)), positives.counts).tolist()
    )
    assert ranks.image_rows.tolist() == sorted(set(text_rows.tolist()))


@settings(max_examples=50, deadline=None)
@given(small_problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_gallery_does_not_matter(problem, random):
    images, texts, text_rows = problem
    order = list(range(len(images)))
    random.shuffle(order)
    plain = retrieval_ranks(images, range(len(images)), texts, text_rows)
    shuffled = retrieval_ranks(images[order], order, texts, text_rows)
    assert np.array_equal(plain.text_to_image, shuffled.text_to_image)
    own_rows = np.array(order)[shuffled.image_rows]
    by_row = shuffled.image_to_text[np.argsort(own_rows)]
    assert np.array_equal(plain.image_to_text, by_row)


def test_block_size_does_not_change_the_ranks_of_real_vectors():
    images, noise = unit_vectors(0, 150, 24), unit_vectors(1, 700, 24)
    text_rows = np.arange(700) % 150
    texts = images[text_rows] + noise
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    whole = retrieval_ranks(images, range(150), texts, text_rows)
    relevant = text_rows[:, None] == np.arange(150)
    assert np.array_equal(
        whole.text_to_image, first_match_ranks(texts @ images.T, relevant)
    )
    for block_bytes in (4 * 700 * 3, 4 * 97):
        parts = retrieval_ranks(images, range(150), texts, text_rows, block_bytes)
        assert np.array_equal(whole.text_to_image, parts.text_to_image)
        assert np.array_equal(
            whole.image_to_text_all.ranks, parts.image_to_text_all.ranks
        )


@pytest.mark.parametrize("dim", [64, 1000, 3000])
@pytest.mark.parametrize("num_images", [2, 33, 130])
@pytest.mark.parametrize("kind", ["alike", "random"])
def test_rounding_does_not_break_the_ties_of_a_collapsed_model(dim, num_images, kind):
    # Vectors whose parts are all alike round worst: the errors of the sum add up.
    vector = np.ones((1, dim)) if kind == "alike" else unit_vectors(0, 1, dim)
    vector = (vector / np.linalg.norm(vector)).astype("float32")
    text_rows = np.repeat(np.arange(num_images), 3)
    ranks = retrieval_ranks(
        vector.repeat(num_images, axis=0),
        range(num_images),
        vector.repeat(3 * num_images, axis=0),
        text_rows,
    )
    assert set(ranks.text_to_image) == {num_images}
    # 3 (n - 1) foreign captions stand before the first of a picture's own three.
    assert set(ranks.image_to_text) == {3 * num_images - 2}


def test_half_precision_embeddings_are_scored_in_single_precision():
    # 1 and 1 - 2^-11 are both float16, their product with 1 - 2^-11 only float32.
    image = np.array([[1.0], [1 - 2**-11]], np.float16)
    text = np.array([[1 - 2**-11]], np.float16)
    assert retrieval_ranks(image, [0, 1], text, [0]).text_to_image.tolist() == [1]
    assert retrieval_ranks(image, [0, 1], text, [1]).text_to_image.tolist() == [2]


def test_pictures_without_captions_stay_in_the_gallery():
    images = np.eye(3)
    texts = np.array([[0.6, 0.8, 0.0]])  # of picture "a", but nearer to "b"
    ranks = retrieval_ranks(images, ["a", "b", "c"], texts, ["a"])
    assert ranks.text_to_image.tolist() == [2]
    assert ranks.image_rows.tolist() == [0]
    assert (ranks.num_images, ranks.num_texts) == (3, 1)


def test_a_caption_without_its_picture_is_named():
    with pytest.raises(InputError, match=r"2 captions .* caption 1 of picture 'x'"):
        retrieval_ranks(np.eye(2), ["a", "b"], np.ones((3, 2)), ["a", "x", "y"])


def test_a_picture_that_comes_twice_is_an_error():
    with pytest.raises(InputError, match="3 pictures have only 2 different ids"):
        retrieval_ranks(np.eye(3), [1, 1, 2], np.eye(3), [1, 1, 2])


def test_a_model_of_nan_is_an_error_and_not_perfect():
    broken = np.eye(3)
    broken[1:] = np.nan
    with pytest.raises(InputError, match=r"2 rows of `text_embeddings` .* is row 1"):
        retrieval_ranks(np.eye(3), [0, 1, 2], broken, [0, 1, 2])
    with pytest.raises(InputError, match="NaN"):
        first_match_ranks(broken, np.eye(3))


def test_a_query_without_right_answer_is_named():
    with pytest.raises(InputError, match="1 queries have no right answer.* row 1"):
        first_match_ranks(np.eye(2), [[1, 0], [0, 0]])


def test_top_k_is_a_stable_sort_cut_off(monkeypatch):
    monkeypatch.setattr("twinlens.metrics.nearest.FIRST", 9)
    monkeypatch.setattr("twinlens.metrics.nearest.COLUMNS", 11)
    monkeypatch.setattr("twinlens.metrics.nearest.QUERIES", 7)
    generator = np.random.default_rng(0)
    queries, gallery = (
        generator.integers(-1, 2, (40, 3)),
        generator.integers(-1, 2, (60, 3)),
    )
    expected = np.argsort(-(queries @ gallery.T), axis=1, kind="stable")
    for k in (1, 7, 60):
        indices, scores = top_k(queries, gallery, k)
        assert np.array_equal(indices, expected[:, :k])
        assert np.array_equal(
            scores, np.take_along_axis(queries @ gallery.T, indices, axis=1)
        )


def test_top_k_does_not_find_what_is_excluded(monkeypatch):
    monkeypatch.setattr("twinlens.metrics.nearest.FIRST", 6)
    vectors = unit_vectors(0, 20, 4)
    with_itself, _ = top_k(vectors, vectors, 6)
    assert np.array_equal(with_itself[:, 0], np.arange(20))
    others, _ = top_k(vectors, vectors, 5, exclude=np.arange(20))
    assert np.array_equal(others, with_itself[:, 1:])
    with pytest.raises(InputError, match="between 1 and 19"):
        top_k(vectors, vectors, 20, exclude=np.arange(20))


def test_only_equal_vectors_are_collapsed():
    vectors = unit_vectors(0, 50, 16)
    assert is_collapsed(vectors[:1].repeat(50, axis=0))
    assert is_collapsed(vectors[:1] + 1e-3 * vectors)
    assert not is_collapsed(vectors)
    assert not is_collapsed(vectors[:1] + 0.1 * vectors)  # a narrow cone still works
    assert not is_collapsed(vectors[:1])


def test_folds_are_whole_and_in_order():
    assert fold_slices(range(2500), 1000) == ([slice(0, 1000), slice(1000, 2000)], 500)
    with pytest.raises(InputError, match="5 pictures cannot be cut into folds of 10"):
        fold_slices(range(5), 10)


def test_a_fold_sees_only_its_own_pictures_and_captions():
    images, text_rows = unit_vectors(0, 25, 8), np.arange(60) % 25
    texts, ids = unit_vectors(1, 60, 8), [f"picture {row}" for row in range(25)]
    text_ids = [ids[row] for row in text_rows]
    second = list(fold_ranks(images, ids, texts, text_ids, 10))[1]
    inside = (text_rows >= 10) & (text_rows < 20)
    alone = retrieval_ranks(
        images[10:20], ids[10:20], texts[inside], np.array(text_ids)[inside]
    )
    assert np.array_equal(second.text_to_image, alone.text_to_image)
    assert np.array_equal(second.image_to_text, alone.image_to_text)
