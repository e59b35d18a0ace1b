"""Groups by a threshold: F1 by hand and by sets."""

import numpy as np
import pytest

from twinlens.metrics import best_threshold, group_f1


def test_group_f1_by_hand():
    angles = np.radians([0, 10, 60])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    groups = ["a", "a", "b"]
    near = float(np.cos(np.radians(20)))  # links the first two only
    far = float(np.cos(np.radians(55)))  # links the last two as well
    found = group_f1(vectors, groups, [far, 1.1, near])
    # far: {1,2}→1; {1,2,3} of {1,2}→0.8; {2,3} of {3}→2/3. Alone: 2/3, 2/3, 1.
    assert found == pytest.approx([(1 + 0.8 + 2 / 3) / 3, (2 / 3 + 2 / 3 + 1) / 3, 1])


def test_group_f1_is_that_of_sets(random):
    vectors = random.normal(size=(60, 4))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("f4")
    groups = random.integers(12, size=60)
    scores = vectors @ vectors.T
    for threshold in (0.2, 0.8):
        values = []
        for row in range(60):
            found = set(np.flatnonzero(scores[row] >= threshold)) | {row}
            true = set(np.flatnonzero(groups == groups[row]))
            values.append(2 * len(found & true) / (len(found) + len(true)))
        small = group_f1(vectors, groups, [threshold], block_bytes=1000)
        assert small[0] == pytest.approx(np.mean(values))


def test_the_best_threshold_parts_clear_groups(random):
    centres = np.eye(5)[np.arange(40) % 5]
    vectors = centres + 0.05 * random.normal(size=(40, 5))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("f4")
    threshold, value = best_threshold(vectors, np.arange(40) % 5)
    assert value == 1.0 and 0.1 < threshold < 0.99
