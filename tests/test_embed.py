"""Features through a head, in blocks, one view or the mean of all."""

import numpy as np
import pytest

from twinlens.embed import BLOCK, Embedder
from twinlens.heads import ProjectionHead


@pytest.fixture(scope="module")
def head():
    head = ProjectionHead(4, 8)
    head.build((None, 6))
    return head


def test_blocks_change_nothing(head, random):
    features = random.normal(size=(BLOCK + 5, 6)).astype("float32")
    rows = random.permutation(len(features))
    found = Embedder(head, 6)(features, rows)
    np.testing.assert_allclose(found, head(features[rows]), atol=1e-6)


def test_the_plain_view_is_taken_unless_views_are_averaged(head, random):
    features = random.normal(size=(9, 3, 6)).astype("float16")
    rows = np.arange(9)
    embedder = Embedder(head, 6)
    views = [embedder(features[:, view], rows) for view in range(3)]
    np.testing.assert_array_equal(embedder(features, rows), views[0])
    mean = np.mean(views, axis=0)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    found = embedder(features, rows, average_views=True)
    np.testing.assert_allclose(found, mean, atol=1e-6)


def test_averaging_one_view_is_that_view(head, random):
    features = random.normal(size=(4, 6)).astype("float32")
    embedder, rows = Embedder(head, 6), np.arange(4)
    np.testing.assert_array_equal(
        embedder(features, rows, average_views=True), embedder(features, rows)
    )
