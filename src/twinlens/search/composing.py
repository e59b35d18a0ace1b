"""Composed queries: features of a picture and of a text to one vector."""

import numpy as np
import tensorflow as tf

from twinlens.composed import ComposedHeads
from twinlens.encoders import ImageEncoder, TextEncoder


class Composer:
    """A trained fusion, compiled once.

    Args:
        heads: with the fusion.
        image_encoder, text_encoder: whose features it takes.
    """

    def __init__(
        self,
        heads: ComposedHeads,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
    ) -> None:
        self._image_shape = image_encoder.feature_shape
        length = (None,) if text_encoder.gives_tokens else ()
        text_shape = (*length, text_encoder.feature_dim)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, *self._image_shape], tf.float32),
                tf.TensorSpec([None, *text_shape], tf.float32),
                tf.TensorSpec([], tf.bool),
            ]
        )
        def compose(images, texts, has_image):
            return heads.compose(images, texts, tf.fill(tf.shape(texts)[:1], has_image))

        self._compose = compose

    def __call__(self, images: np.ndarray | None, texts: np.ndarray) -> np.ndarray:
        """Queries of some pictures and texts, or of texts alone.

        Args:
            images: `(n, *image_shape)` features; `None`: no query has a picture.
            texts: `(n, *text_shape)` features, zeros behind a text's end.

        Returns:
            `(n, embedding_dim)` float32 unit vectors.
        """
        shown = images is not None
        if not shown:
            images = np.zeros((len(texts), *self._image_shape), np.float32)
        return self._compose(images, texts, shown).numpy()
