"""Heads for features of places and words: tokens first, then one unit vector."""

import keras
from keras import layers, ops

from twinlens.heads import Dropout, Standardise, unit_vectors

PLACE_STDDEV = 0.02  # of the vectors that say which place it is, at the start


class _TokenHead(layers.Layer):
    """What both have: standardised features to tokens of one width.

    Args:
        embedding_dim: of the shared space.
        hidden_dim: numbers a token.
        dropout: before the tokens are read.
        input_dropout: on the standardised features.
        seed: of initial weights and dropout.
    """

    def __init__(
        self,
        embedding_dim: int = 256,
        hidden_dim: int = 128,
        dropout: float = 0.3,
        input_dropout: float = 0.0,
        seed: int = 0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "embedding_dim": embedding_dim,
            "hidden_dim": hidden_dim,
            "dropout": dropout,
            "input_dropout": input_dropout,
            "seed": seed,
        }
        self.embedding_dim, self.hidden_dim = embedding_dim, hidden_dim
        self._seeds = iter(range(seed * 1000, seed * 1000 + 1000))

        # === Layers ===
        self.standardise = Standardise(name="standardise")
        self.input_dropout = Dropout(input_dropout, next(self._seeds))
        self.enter = self._dense(hidden_dim, "enter")
        self.normalise = layers.LayerNormalization(epsilon=1e-5, name="normalise")
        self.dropout = Dropout(dropout, next(self._seeds))
        self.project = self._dense(embedding_dim, "project")

    def build(self, input_shape: tuple) -> None:
        """Creates the weights of tokens for features of `input_shape[-1]` numbers."""
        features = (None, None, input_shape[-1])
        tokens = (None, None, self.hidden_dim)
        self.standardise.build(features)
        self.enter.build(features)
        self.normalise.build(tokens)
        for each in (self.input_dropout, self.dropout):
            each.build(tokens)

    def _entered(self, features, training: bool):
        x = self.standardise(ops.cast(features, "float32"))
        return self.enter(self.input_dropout(x, training=training))

    def _ready(self, tokens, training: bool):
        x = ops.gelu(self.normalise(tokens))
        return self.dropout(x, training=training)

    def _dense(self, width: int, name: str, **kwargs) -> layers.Dense:
        start = keras.initializers.GlorotUniform(seed=next(self._seeds))
        return layers.Dense(width, kernel_initializer=start, name=name, **kwargs)

    # === Config ===
    def get_config(self) -> dict:
        """Settings that build the same head again."""
        return super().get_config() | self.settings


@keras.saving.register_keras_serializable(package="twinlens")
class PlaceHead(_TokenHead):
    """Places of a picture to one unit vector that still knows what stands where.

    Every place goes through the same layers and gets a few numbers; these, side by
    side, become the vector. A picture with one feature is one place.

    Args:
        place_dim: numbers that a place has a say with.
        **kwargs: of `_TokenHead`: `embedding_dim`, `hidden_dim`, `dropout`,
            `input_dropout`, `seed`.

    Call arguments:
        features: `(n, places, feature_dim)`, or `(n, feature_dim)`.

    Returns:
        `(n, embedding_dim)` float32 unit vectors.
    """

    def __init__(self, place_dim: int = 32, **kwargs) -> None:
        super().__init__(**kwargs)
        self.settings |= {"place_dim": place_dim}
        self.place_dim = place_dim
        self.narrow = self._dense(place_dim, "narrow")

    def build(self, input_shape: tuple) -> None:
        """Creates all weights for features of this shape."""
        super().build(input_shape)
        self.places = input_shape[1] if len(input_shape) == 3 else 1
        start = keras.initializers.RandomNormal(
            stddev=PLACE_STDDEV, seed=self.settings["seed"]
        )
        self.place = self.add_weight(
            shape=(self.places, self.hidden_dim), initializer=start, name="place"
        )
        self.narrow.build((None, self.places, self.hidden_dim))
        self.project.build((None, self.places * self.place_dim))

    def tokens(self, features, training: bool = False):
        """`(n, places, feature_dim)` to `(n, places, hidden_dim)`."""
        if len(features.shape) == 2:
            features = ops.expand_dims(features, 1)
        return self._entered(features, training) + self.place

    def read(self, tokens, training: bool = False):
        """`(n, places, hidden_dim)` to `(n, embedding_dim)` unit vectors."""
        x = self.narrow(self._ready(tokens, training))
        x = ops.reshape(x, (-1, self.places * self.place_dim))
        return unit_vectors(self.project(x))

    def call(self, features, training: bool = False):
        """`(n, places, feature_dim)` to `(n, embedding_dim)` unit vectors."""
        return self.read(self.tokens(features, training), training)


@keras.saving.register_keras_serializable(package="twinlens")
class WordHead(_TokenHead):
    """Words of a text to one unit vector: the mean of what each of them says.

    Call arguments:
        features: `(n, length, feature_dim)`, zeros behind a text's end; or
            `(n, feature_dim)`, one word.

    Returns:
        `(n, embedding_dim)` float32 unit vectors.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.say = self._dense(self.hidden_dim, "say", activation="gelu")

    def build(self, input_shape: tuple) -> None:
        """Creates all weights for features of `input_shape[-1]` numbers."""
        super().build(input_shape)
        self.say.build((None, None, self.hidden_dim))
        self.project.build((None, self.hidden_dim))

    def tokens(self, features, training: bool = False):
        """Words and where there are any.

        Returns:
            `(n, length, hidden_dim)`, zeros behind the end, and `(n, length)`: 1 for
            a word, 0 behind the end.
        """
        if len(features.shape) == 2:
            features = ops.expand_dims(features, 1)
        there = ops.any(ops.not_equal(features, 0), axis=-1)
        mask = ops.cast(there, "float32")
        return self._entered(features, training) * mask[..., None], mask

    def read(self, tokens, mask, training: bool = False):
        """`(n, length, hidden_dim)` and `(n, length)` to `(n, embedding_dim)`."""
        x = self.say(self._ready(tokens, training))
        return unit_vectors(self.project(masked_mean(x, mask)))

    def call(self, features, training: bool = False):
        """`(n, length, feature_dim)` to `(n, embedding_dim)` unit vectors."""
        return self.read(*self.tokens(features, training), training)


def masked_mean(tokens, mask):
    """`(n, length, dim)` and `(n, length)` to `(n, dim)`; zeros where none counts."""
    count = ops.maximum(ops.sum(mask, axis=1), 1.0)
    return ops.sum(tokens * mask[..., None], axis=1) / count[:, None]
