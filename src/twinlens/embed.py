"""Features through a head to embeddings, in blocks."""

import keras
import numpy as np

from twinlens.compiled import compiled

BLOCK = 2048  # rows a call: large enough for the matrix product, small in memory


class Embedder:
    """Compiled once, used for every evaluation of the same head.

    Args:
        head: layer from `(n, *shape)` to `(n, embedding_dim)` unit vectors.
        shape: of a row: `feature_dim`, or `(places, feature_dim)`.
    """

    def __init__(self, head: keras.Layer, shape: int | tuple[int, ...]) -> None:
        self._shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self._layer, self._head = head, compiled(head, self._shape)

    @property
    def embedding_dim(self) -> int:
        """Numbers of an embedding."""
        rows = keras.KerasTensor((None, *self._shape))
        return self._layer.compute_output_spec(rows).shape[-1]

    def __call__(
        self, features: np.ndarray, rows: np.ndarray, average_views: bool = False
    ) -> np.ndarray:
        """Embeddings of some rows.

        Args:
            features: `(n, *shape)` or `(n, views, *shape)`; may be a memory map.
            rows: `(m,)` row numbers.
            average_views: the normalised mean of the embeddings of all views,
                instead of the embedding of view 0, the plain one.

        Returns:
            `(m, embedding_dim)` float32 unit vectors.
        """
        if features.ndim == 1 + len(self._shape):
            return self._embed(features, rows)
        if not average_views:
            return self._embed(features[:, 0], rows)
        views = range(features.shape[1])
        total = sum(self._embed(features[:, view], rows) for view in views)
        return total / np.linalg.norm(total, axis=1, keepdims=True)

    def _embed(self, features: np.ndarray, rows: np.ndarray) -> np.ndarray:
        blocks = [
            self._head(features[rows[start : start + BLOCK]].astype(np.float32))
            for start in range(0, len(rows), BLOCK)
        ]
        return np.concatenate(blocks)
