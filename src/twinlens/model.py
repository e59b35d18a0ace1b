"""The dual encoder, and the part of it that phase 1 trains: heads and similarity."""

import keras
import numpy as np
from keras import ops

from twinlens.heads import ProjectionHead, Similarity


class OfParts(keras.Model):
    """A model that is saved as the parts it was made of, named in `PARTS`."""

    PARTS: tuple[str, ...] = ()

    def get_config(self) -> dict:
        """Settings that build the same model again."""
        serialised = {
            name: keras.saving.serialize_keras_object(getattr(self, name))
            for name in self.PARTS
        }
        return super().get_config() | serialised

    @classmethod
    def from_config(cls, config: dict) -> "OfParts":
        """A model from `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(config.pop(name))
            for name in cls.PARTS
        }
        return cls(**parts, **config)


@keras.saving.register_keras_serializable(package="twinlens")
class Heads(OfParts):
    """Two projection heads that meet in one shared space.

    Args:
        image_head, text_head: from features to unit vectors of the same length.
        similarity: from two sets of unit vectors to logits.

    Call arguments:
        features: `(images, texts)`: `(n, image_feature_dim)` and
            `(m, text_feature_dim)`.

    Returns:
        `(n, m)` float32 logits.

    Example:
        ```python
        heads = Heads(ProjectionHead(256), ProjectionHead(256), Similarity())
        logits = heads((image_features, text_features))
        ```
    """

    PARTS = ("image_head", "text_head", "similarity")

    def __init__(
        self,
        image_head: ProjectionHead,
        text_head: ProjectionHead,
        similarity: Similarity,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.image_head, self.text_head = image_head, text_head
        self.similarity = similarity

    def build(self, input_shape: tuple) -> None:
        """Creates all weights for `((n, image_dim), (m, text_dim))`."""
        parts = (self.image_head, self.text_head, self.similarity)
        for part, shape in zip(parts, (*input_shape, None), strict=True):
            if not part.built:
                part.build(shape)

    def call(self, features, training: bool = False):
        """`(n, m)` logits of `n` pictures' and `m` captions' features."""
        images = self.image_head(features[0], training=training)
        texts = self.text_head(features[1], training=training)
        return self.similarity(images, texts)

    def training_loss(self, loss: keras.losses.Loss, features, ids):
        """The loss of a batch of pairs.

        Args:
            loss: of `twinlens.losses`.
            features: as for a call, with `n == m`.
            ids: of the pairs, as the loss wants them.
        """
        logits = self.training_logits(features, loss.needs_similarities)
        return loss(ids, logits)

    def ids_columns(self, loss: keras.losses.Loss) -> np.ndarray:
        """How many columns `ids` has for a loss: `(1,)`."""
        return np.array([3 if loss.needs_labels else 2])

    def training_logits(
        self,
        features,
        with_similarities: bool = False,
        image_head: ProjectionHead | None = None,
    ):
        """Logits of a batch of pairs, as losses want them.

        Args:
            features: as for a call, with `n == m`.
            with_similarities: append the towers' own cosines (`SoftTargetLoss`).
            image_head: takes the place of the model's own, for other features.

        Returns:
            `(n, n)`, or `(n, 3 * n)` with similarities.
        """
        images = (image_head or self.image_head)(features[0], training=True)
        texts = self.text_head(features[1], training=True)
        logits = self.similarity(images, texts)
        if not with_similarities:
            return logits
        own = [ops.matmul(x, ops.transpose(x)) for x in (images, texts)]
        return ops.concatenate([logits, *own], axis=1)


@keras.saving.register_keras_serializable(package="twinlens")
class DualEncoder(OfParts):
    """Two encoders and their heads: pictures and texts to one shared space.

    Args:
        image_model: Keras model, `(n, size, size, 3)` float32 pixels from 0 to 255 to
            `(n, image_feature_dim)`.
        text_model: Keras model, a dict of `token_ids`, `padding_mask` and
            `segment_ids`, each `(n, length)` int32, to `(n, text_feature_dim)`.
        heads: built heads for features of these lengths.

    Call arguments:
        inputs: `(pixels, tokens)` of `n` pictures and `m` texts.

    Returns:
        `(n, m)` float32 logits.
    """

    PARTS = ("image_model", "text_model", "heads")

    def __init__(
        self, image_model: keras.Model, text_model: keras.Model, heads: Heads, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.image_model, self.text_model, self.heads = image_model, text_model, heads
        if not heads.built:
            heads.build((image_model.output_shape, text_model.output_shape))
        self.built = True

    def encode_image(self, pixels, training: bool = False):
        """`(n, size, size, 3)` pixels to `(n, embedding_dim)` unit vectors."""
        features = self.image_model(pixels, training=training)
        return self.heads.image_head(features, training=training)

    def encode_text(self, tokens, training: bool = False):
        """A dict of `(n, length)` tokens to `(n, embedding_dim)` unit vectors."""
        features = self.text_model(tokens, training=training)
        return self.heads.text_head(features, training=training)

    def call(self, inputs, training: bool = False):
        """`(n, m)` logits of `n` pictures and `m` texts."""
        pixels, tokens = inputs
        return self.heads.similarity(
            self.encode_image(pixels, training), self.encode_text(tokens, training)
        )
