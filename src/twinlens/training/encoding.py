"""Whole splits through a dual encoder, from files and texts to embeddings."""

import numpy as np
import tensorflow as tf

from twinlens.encoders import ImageEncoder, TextEncoder
from twinlens.encoders.forward import computing_in
from twinlens.model import DualEncoder
from twinlens.progress import Progress
from twinlens.training.raw import AHEAD
from twinlens.training.raw_triplets import RawTriplets

IMAGE_BATCH = 32
TEXT_BATCH = 128


class SplitEncoder:
    """Compiled once, used for every evaluation of the same model.

    Args:
        model: a dual encoder.
        image_encoder, text_encoder: whose preprocessing it is.
    """

    def __init__(
        self, model: DualEncoder, image_encoder: ImageEncoder, text_encoder: TextEncoder
    ) -> None:
        self._prepare = image_encoder.prepare
        size = image_encoder.image_size
        self.dtype = image_encoder.dtype
        self._images = tf.function(
            lambda pixels: model.encode_image(pixels),
            input_signature=[tf.TensorSpec([None, size, size, 3])],
            autograph=False,
        )
        self._texts = tf.function(
            lambda texts: model.encode_text(text_encoder.inputs_of(texts)),
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )

    def encode_images(self, paths: np.ndarray) -> np.ndarray:
        """`(pictures,)` files to `(pictures, embedding_dim)` float32 unit vectors."""
        data = tf.data.Dataset.from_tensor_slices(paths.astype(str))
        data = data.map(self._load, num_parallel_calls=tf.data.AUTOTUNE)
        data = data.batch(IMAGE_BATCH).prefetch(AHEAD)
        found = []
        with (
            Progress("encoding pictures", len(paths), "pictures") as progress,
            computing_in(self.dtype),
        ):
            for pixels in data:
                found.append(self._images(pixels).numpy())
                progress.advance(len(pixels))
        return np.concatenate(found)

    def encode_texts(self, texts: np.ndarray) -> np.ndarray:
        """`(texts,)` strings to `(texts, embedding_dim)` float32 unit vectors."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        found = []
        with Progress("encoding captions", len(texts), "captions") as progress:
            for start in range(0, len(texts), TEXT_BATCH):
                part = texts[order[start : start + TEXT_BATCH]]
                found.append(self._texts(tf.constant(part.astype(str))).numpy())
                progress.advance(len(part))
        joined = np.concatenate(found)
        back = np.empty_like(joined)
        back[order] = joined
        return back

    def _load(self, path):
        return self._prepare(tf.io.read_file(path))


class QueryEncoder(SplitEncoder):
    """Also whole splits of composed queries: reference files and wishes.

    Args:
        model: a dual encoder with a fusion.
        image_encoder, text_encoder: whose preprocessing it is.
    """

    def __init__(
        self, model: DualEncoder, image_encoder: ImageEncoder, text_encoder: TextEncoder
    ) -> None:
        super().__init__(model, image_encoder, text_encoder)
        size = image_encoder.image_size

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, size, size, 3]),
                tf.TensorSpec([None], tf.string),
            ],
            autograph=False,
        )
        def compose(pixels, texts):
            images = model.image_model(pixels)
            words = model.text_model(text_encoder.inputs_of(texts))
            return model.heads.compose(images, words)

        self._compose = compose

    def encode_queries(self, triplets: RawTriplets) -> np.ndarray:
        """Triplets to `(triplets, embedding_dim)` float32 unit vectors of queries."""
        paths = triplets.paths[triplets.references].astype(str)
        texts = triplets.texts[triplets.text_rows].astype(str)
        data = tf.data.Dataset.from_tensor_slices((paths, texts))
        data = data.map(
            lambda path, text: (self._load(path), text),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        found = []
        with (
            Progress("encoding queries", len(paths), "queries") as progress,
            computing_in(self.dtype),
        ):
            for pixels, wishes in data.batch(IMAGE_BATCH).prefetch(AHEAD):
                found.append(self._compose(pixels, wishes).numpy())
                progress.advance(len(pixels))
        return np.concatenate(found)
