"""A trained run as what searches: texts and pictures to the shared space."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from twinlens.backend import need_tensorflow
from twinlens.composed import ComposedHeads
from twinlens.composed_experiment import open_experiment
from twinlens.config import CacheSettings
from twinlens.data import images
from twinlens.embed import Embedder
from twinlens.encoders import ImageEncoder, TextEncoder
from twinlens.encoders.base import weights_digest
from twinlens.errors import InputError
from twinlens.features import Features, encode_images, encode_texts
from twinlens.features.pictures import PictureBlocks
from twinlens.features.store import Encode, Encoded, Piece
from twinlens.features.texts import TextBlocks
from twinlens.model import DualEncoder, Heads
from twinlens.runs import Run, open_run
from twinlens.search.composing import Composer
from twinlens.training.phase2 import load_trained

Picture = str | Path | bytes
Engine = Callable[[str, Iterable[Piece]], Iterable[Encoded]]  # of `blocks` of a kind


@dataclass(frozen=True)
class SearchModel:
    """Encoders and heads of a run.

    Attributes:
        name: of the run.
        folder: of the run.
        open_image_encoder: gives the frozen picture encoder; a query that is a text
            does not need it, and building it takes as long as everything else.
        text_encoder: frozen; fine-tuned, as the other, after phase 2.
        heads: trained; with a fusion where the run has one.
        cache: where and how a collection's features are kept.
        average_views: whether a picture of a collection is the mean of its views.
        engine: does the work of `blocks` elsewhere, for a kind and its pieces; where
            not given, it is done here.
    """

    name: str
    folder: Path
    open_image_encoder: Callable[[], ImageEncoder]
    text_encoder: TextEncoder
    heads: Heads | ComposedHeads
    cache: CacheSettings
    average_views: bool
    engine: Engine | None = None

    @cached_property
    def image_encoder(self) -> ImageEncoder:
        """The frozen picture encoder; the fine-tuned one after phase 2."""
        return self.open_image_encoder()

    @cached_property
    def digest(self) -> str:
        """Names everything that decides an embedding: 32 hex digits."""
        return self._digest(
            self.image_encoder.description,
            self.text_encoder.description,
            weights_digest(self.heads),
            images.PREPROCESSING_VERSION,
        )

    @cached_property
    def text_digest(self) -> str:
        """Names everything that decides the embedding of a text: 32 hex digits."""
        return self._digest(self.text_encoder.description, weights_digest(self.heads))

    def _digest(self, *parts: Any) -> str:
        parts = list(parts)
        if isinstance(self.heads, ComposedHeads):  # of one weight each, they may agree
            kind = self.heads.fusion
            parts.append([type(kind).__name__, kind.settings])
        said = json.dumps(parts, sort_keys=True).encode()
        return hashlib.blake2b(said, digest_size=16).hexdigest()

    @property
    def embedding_dim(self) -> int:
        """Numbers of an embedding."""
        return self.embed_image_features.embedding_dim

    @property
    def fusion(self) -> str:
        """Name of the trained fusion; empty of a run without one."""
        has_one = isinstance(self.heads, ComposedHeads)
        return self.heads.fusion.name if has_one else ""

    # === Queries ===

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """`(n, embedding_dim)` float32 unit vectors of texts.

        With a fusion they are queries without a picture.

        Raises:
            InputError: a text has no words.
        """
        features = self._text_features(texts)
        if self.fusion:
            return self.composer(None, features)
        return self.embed_text_features(features, np.arange(len(features)))

    def compose(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Queries of pictures and as many texts that say what should change.

        Args:
            images: `(n, *shape)` of `image_features`.
            texts: of the same length.

        Returns:
            `(n, embedding_dim)` float32 unit vectors.

        Raises:
            InputError: the run has no fusion, or a text has no words.
        """
        if not self.fusion:
            raise InputError(no_fusion(self.name))
        return self.composer(images, self._text_features(texts))

    def _text_features(self, texts: Sequence[str]) -> np.ndarray:
        empty = [number for number, text in enumerate(texts) if not text.strip()]
        if empty:
            raise InputError(
                f"Query text {empty[0] + 1} of {len(texts)} is empty. Say what the "
                "picture shows."
            )
        lengths, features = self._text_function(tf.constant(list(texts)))
        self._warn_of_long(texts, lengths.numpy())
        return features.numpy()

    def _warn_of_long(self, texts: Sequence[str], lengths: np.ndarray) -> None:
        limit = self.text_encoder.description.get("sequence_length") or 0
        for text, length in zip(texts, lengths, strict=True):
            if limit and length >= limit and len(text.split()) > limit:
                warnings.warn(
                    f"The query has {len(text.split()):,} words, but the text encoder "
                    f"reads {limit} tokens only; what follows does not count.",
                    stacklevel=4,
                )

    @cached_property
    def _text_function(self):
        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,  # nothing in it needs it, and it takes a second
        )
        def encode(texts):
            tokens = self.text_encoder.tokenize(texts)
            feature = self.text_encoder.model(self.text_encoder.pack(tokens))
            return tokens.row_lengths(), feature

        return encode

    @cached_property
    def composer(self) -> Composer:
        """Features of pictures and texts to queries, of a run with a fusion."""
        return Composer(self.heads, self.image_encoder, self.text_encoder)

    def image_features(self, pictures: Sequence[Picture]) -> np.ndarray:
        """`(n, *shape)` float32 features of picture files, or of their bytes.

        Raises:
            BrokenImageError: one is no picture.
        """
        loaded = [self.image_encoder.load(each) for each in pictures]
        return self.pixel_features(np.stack(loaded))

    def pixel_features(self, pixels: np.ndarray) -> np.ndarray:
        """`(n, *shape)` float32 features of `(n, size, size, 3)` pixels.

        They are as `image_encoder.load` gives them, which any thread may call.
        """
        return self._image_function(tf.constant(pixels)).numpy()

    @cached_property
    def _image_function(self):
        shape = self.image_encoder.model.input_shape

        @tf.function(
            input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False
        )
        def encode(pixels):
            return self.image_encoder.model(pixels)

        return encode

    # === Collections ===

    def picture_features(self, items: pd.DataFrame) -> Features:
        """Features of items' pictures by `id`, from the cache or encoded now.

        Args:
            items: `id`, `image_path`.
        """
        paths = dict(zip(items["id"], items["image_path"], strict=True))
        encode = self._elsewhere("pictures")
        where = {"cache": self.cache.path, "dtype": self.cache.dtype, "encode": encode}
        return encode_images(
            self.image_encoder, paths, **self._picture_options, **where
        )

    def title_features(self, titles: pd.Series) -> Features:
        """Features of texts by the text, from the cache or encoded now."""
        cache = self.cache
        return encode_texts(
            self.text_encoder,
            titles[titles != ""],
            cache=cache.path,
            dtype=cache.dtype,
            batch_size=cache.text_batch_size,
            encode=self._elsewhere("titles"),
        )

    def blocks(self, kind: str) -> Callable[[Piece], Encoded]:
        """What encodes one block after another.

        Args:
            kind: `"pictures"` or `"titles"`.
        """
        if kind == "pictures":
            return PictureBlocks(self.image_encoder, **self._picture_options)
        return TextBlocks(self.text_encoder, self.cache.text_batch_size)

    @property
    def _picture_options(self) -> dict[str, int | bool]:
        cache = self.cache
        views = cache.views if self.average_views else 1
        return {"views": views, "flip": cache.flip, "batch_size": cache.batch_size}

    def _elsewhere(self, kind: str) -> Encode | None:
        return partial(self.engine, kind) if self.engine else None

    @cached_property
    def embed_image_features(self) -> Embedder:
        """Picture features to embeddings, in blocks."""
        return Embedder(self.heads.image_head, self.image_encoder.feature_shape)

    @cached_property
    def embed_text_features(self) -> Embedder:
        """Text features to embeddings, in blocks."""
        return Embedder(self.heads.text_head, self.text_encoder.feature_dim)


def open_model(run: str | Path | Run) -> SearchModel:
    """The model of a trained run.

    Args:
        run: folder or name; fine-tuned encoders come from phase 2's own file.

    Raises:
        InputError: there is no such run, or its training is not over.
    """
    need_tensorflow("Search and export")
    run = run if isinstance(run, Run) else open_run(run)
    experiment, trained = open_experiment(run.config), load_trained(run)
    if isinstance(trained, DualEncoder):
        tuned, text_encoder = experiment.encoders_of(trained)
        open_image_encoder, heads = lambda: tuned, trained.heads
    else:
        experiment.check_pooling()
        open_image_encoder, heads = lambda: experiment.image_encoder, trained
        text_encoder = experiment.text_encoder
    config = run.config
    averaged = config.evaluation.average_views and config.cache.views > 1
    return SearchModel(
        run.name,
        run.folder,
        open_image_encoder,
        text_encoder,
        heads,
        config.cache,
        averaged and not isinstance(heads, ComposedHeads),  # as they are measured
    )


def no_fusion(run: str) -> str:
    """Why a picture and a text of a run cannot become one query, and what to do."""
    return (
        f"The run {run} has no fusion: it was trained on pictures and their captions. "
        "Leave search.fusion at 'auto' for the weighted sum of picture and text; or "
        "train a run on triplets, for example with `train --phase 1 --set "
        "data.reader=edited_scenes --set fusion.name=attention`, and index with it."
    )
