"""A collection inside a model: every item is compared, block by block."""

import numpy as np
import tensorflow as tf

from twinlens.errors import InputError
from twinlens.export.towers import Towers, unless_empty
from twinlens.search import SearchIndex
from twinlens.search.fields import SHARED
from twinlens.search.ranking import field_weights

BLOCK = 16_384  # items compared at once: 64 MB of scores of 1,000 queries
FEATURE = "image_feature"  # a field that pictures speak about, and texts do not


class Collection(tf.Module):
    """Items and their vectors, found by inner product; graph code.

    Of the index's fields those are kept that a text or a picture says something about
    and that have a weight; the others add nothing to any score.

    Args:
        index: whose items, but for removed ones, and weights these are.
        towers: of the run that made it.

    Raises:
        InputError: it is empty, or no text and no picture can be compared with it.
    """

    def __init__(self, index: SearchIndex, towers: Towers) -> None:
        super().__init__(name="collection")
        there = np.flatnonzero(~index.vectors.removed)
        if not len(there):
            raise InputError(f"{index.vectors.folder} is empty. Add items with --add.")
        weights = field_weights(index.vectors, index.defaults.weights)
        self.weights = {
            name: weight
            for name, weight in weights.items()
            if weight and name in (*SHARED, FEATURE)
        }
        if not self.weights:
            raise InputError(
                f"{index.vectors.folder} has the weights {weights}: neither a text nor "
                "a picture says anything about these fields. Build an index with "
                "image or title, or export without --index."
            )
        fields = index.vectors.fields
        columns = np.concatenate([np.r_[fields[name]] for name in self.weights])
        items = index.vectors.items.iloc[there]
        self._towers = towers
        self.dims = {name: fields[name].stop - fields[name].start for name in weights}
        self.vectors = _kept(index.vectors.vectors[np.ix_(there, columns)])
        self.ids = _kept(items["id"].to_numpy(object))
        self.titles = _kept(items["title"].to_numpy(object))

    def __len__(self) -> int:
        """Items."""
        return self.ids.shape[0]

    @property
    def takes_texts(self) -> bool:
        """Whether a text says something about any field."""
        return any(name in SHARED for name in self.weights)

    def search_texts(self, texts: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """The best items for `(q,)` strings; see `best`."""

        def queries() -> tf.Tensor:
            return self._queries(self._towers.embed_texts(texts))

        return self.best(unless_empty(texts, queries, self.vectors.shape[1]), k)

    def search_images(self, images: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """The best items for the bytes of `(q,)` pictures; see `best`."""

        def queries() -> tf.Tensor:
            features = self._towers.image_features(self._towers.pixels(images))
            embeddings = self._towers.embed_image_features(features)
            return self._queries(embeddings, features)

        return self.best(unless_empty(images, queries, self.vectors.shape[1]), k)

    def _queries(
        self, embeddings: tf.Tensor, features: tf.Tensor | None = None
    ) -> tf.Tensor:
        """`(q, dim)`: what queries say about each field, times its weight."""
        said = dict.fromkeys(SHARED, embeddings)
        if features is not None:
            said[FEATURE] = tf.math.l2_normalize(features, axis=-1)
        count = tf.shape(embeddings)[0]
        parts = [
            said[name] * weight if name in said else tf.zeros((count, self.dims[name]))
            for name, weight in self.weights.items()
        ]
        return tf.concat(parts, axis=1)

    def best(self, queries: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """The items with the largest inner products.

        Args:
            queries: `(q, dim)` float32.
            k: scalar int32, at least 1.

        Returns:
            `scores`, `ids` and `titles`, each `(q, min(k, items))`, best first; of
            equal scores the item that stands first in the index.
        """
        with tf.control_dependencies([tf.debugging.assert_positive(k, "k is below 1")]):
            k = tf.minimum(k, len(self))
        shape = tf.stack([tf.shape(queries)[0], k])
        free = tf.TensorShape([None, None])
        _, scores, rows = tf.while_loop(
            lambda start, *_: start < len(self),
            lambda start, *found: self._with_block(queries, k, start, *found),
            (0, tf.fill(shape, -np.inf), tf.zeros(shape, tf.int32)),
            shape_invariants=(tf.TensorShape([]), free, free),
        )
        return {
            "scores": scores,
            "ids": tf.gather(self.ids, rows),
            "titles": tf.gather(self.titles, rows),
        }

    def _with_block(self, queries, k, start, scores, rows) -> tuple:
        """The best of those found so far and of the items from `start` on."""
        block = self.vectors[start : start + BLOCK]
        own = tf.matmul(queries, block, transpose_b=True)
        places = tf.broadcast_to(start + tf.range(tf.shape(block)[0]), tf.shape(own))
        scores, chosen = tf.math.top_k(tf.concat([scores, own], axis=1), k)
        rows = tf.gather(tf.concat([rows, places], axis=1), chosen, batch_dims=1)
        return start + BLOCK, scores, rows


def _kept(values: np.ndarray) -> tf.Variable:
    """A variable: it lies beside the graph, which may not be larger than 2 GB."""
    return tf.Variable(values, trainable=False)
