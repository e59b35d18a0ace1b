"""Both towers of a run as graph code: strings, tokens, bytes, pixels to embeddings."""

from collections.abc import Callable

import tensorflow as tf

from twinlens.composed import ComposedHeads
from twinlens.data.segmentation import GrabCut
from twinlens.errors import InputError
from twinlens.search import SearchModel

BLANK = "A text is empty. Say what the picture shows."
UNEQUAL = "Give as many pictures as texts."


class Towers(tf.Module):
    """What `SearchModel` computes, made to be saved; its methods are graph code.

    Args:
        model: of `open_model`.

    Raises:
        InputError: its pictures are prepared by what no graph can hold.
    """

    def __init__(self, model: SearchModel) -> None:
        super().__init__(name="towers")
        if isinstance(model.image_encoder.segment, GrabCut):
            raise InputError(
                f"{model.name} cuts products out with GrabCut "
                "(image_encoder.segment=grabcut), which is OpenCV called from Python "
                "and cannot be part of a SavedModel. Train a run without it, or "
                "search with `twinlens search`."
            )
        self._images, self._texts = model.image_encoder, model.text_encoder
        self._model = model  # and not its heads: TensorFlow would save them as well
        self.has_fusion = isinstance(model.heads, ComposedHeads)
        self.embedding_dim = model.embedding_dim
        # What is saved: variables and tables. Of Keras' objects the values alone, as
        # walking through all of them takes longer than everything else.
        parts = (self._images.model, self._texts.model, model.heads)
        self.weights = [weight.value for part in parts for weight in part.weights]
        self.tokenizer = self._texts.tokenizer

    # === Pictures ===

    @property
    def pixels_spec(self) -> tf.TensorSpec:
        """Of what `embed_pixels` takes."""
        return tf.TensorSpec(self._images.model.input_shape, tf.float32, "pixels")

    def pixels(self, images: tf.Tensor) -> tf.Tensor:
        """`(n,)` bytes of picture files to `(n, size, size, 3)` float32, 0…255."""
        shape = self._images.model.input_shape[1:]
        spec = tf.TensorSpec(shape, tf.float32)
        return tf.map_fn(self._images.prepare, images, fn_output_signature=spec)

    def image_features(self, pixels: tf.Tensor) -> tf.Tensor:
        """Pixels to `(n, *feature_shape)`, not normalised."""
        return self._images.model(pixels)

    def embed_image_features(self, features: tf.Tensor) -> tf.Tensor:
        """Features to `(n, embedding_dim)` unit vectors."""
        return self._model.heads.image_head(features, training=False)

    def embed_pixels(self, pixels: tf.Tensor) -> tf.Tensor:
        """Pixels to `(n, embedding_dim)` unit vectors."""
        return self.embed_image_features(self.image_features(pixels))

    # === Texts ===

    @property
    def tokens_spec(self) -> tuple[tf.TensorSpec, tf.TensorSpec]:
        """Of the token ids and of the mask that `embed_tokens` takes."""
        shape = [None, self._texts.length or None]
        names = ("token_ids", "padding_mask")
        return tuple(tf.TensorSpec(shape, tf.int32, name) for name in names)

    @property
    def sequence_length(self) -> int:
        """Tokens that are read at most."""
        return self._texts.length or self._texts.description["sequence_length"]

    def tokens(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """`(n,)` strings to `token_ids` and `padding_mask`, `(n, length)` int32."""
        letters = tf.strings.length(tf.strings.strip(texts))
        with tf.control_dependencies([tf.debugging.assert_positive(letters, BLANK)]):
            found = self._texts.padded(self._texts.tokenize(tf.identity(texts)))
        return {name: found[name] for name in ("token_ids", "padding_mask")}

    def embed_tokens(self, token_ids: tf.Tensor, padding_mask: tf.Tensor) -> tf.Tensor:
        """Tokens to `(n, embedding_dim)` unit vectors.

        With a fusion they are queries without a picture.

        Args:
            token_ids: `(n, length)` int32; what stands behind a text's end is ignored.
            padding_mask: `(n, length)` int32, 1 for a token, 0 behind the end.
        """
        features = self.text_features(token_ids, padding_mask)
        if not self.has_fusion:
            return self._model.heads.text_head(features, training=False)
        count = tf.shape(token_ids)[0]
        nothing = tf.zeros((count, *self._images.feature_shape))
        return self._model.heads.compose(nothing, features, tf.fill([count], False))

    def text_features(self, token_ids: tf.Tensor, padding_mask: tf.Tensor) -> tf.Tensor:
        """Tokens to features of texts, not normalised."""
        there = padding_mask > 0
        found = {
            "token_ids": tf.where(there, token_ids, self._texts.pad_id),
            "padding_mask": tf.cast(there, tf.int32),
            "segment_ids": tf.zeros_like(token_ids),
        }
        return self._texts.model(
            {name: found[name] for name in self._texts.model.input}
        )

    def embed_texts(self, texts: tf.Tensor) -> tf.Tensor:
        """`(n,)` strings to `(n, embedding_dim)` unit vectors."""
        return self.embed_tokens(**self.tokens(texts))

    # === Both ===

    def compose(self, images: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
        """Pictures' bytes and as many wishes to `(n, embedding_dim)` unit vectors."""
        same = tf.debugging.assert_equal(tf.shape(images), tf.shape(texts), UNEQUAL)
        with tf.control_dependencies([same]):
            places = self.image_features(self.pixels(tf.identity(images)))
        return self._model.heads.compose(
            places, self.text_features(**self.tokens(texts))
        )


def unless_empty(
    inputs: tf.Tensor, run: Callable[[], tf.Tensor], dim: int
) -> tf.Tensor:
    """`(n, dim)` of what `run` gives; no rows for no inputs.

    Of an empty batch oneDNN's convolutions make an error.
    """
    there = tf.shape(inputs)[0] > 0
    return tf.ensure_shape(tf.cond(there, run, lambda: tf.zeros((0, dim))), (None, dim))
