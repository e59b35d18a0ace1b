"""Additive attention between the places of a picture and the words of a wish."""

import keras
from keras import layers, ops

from twinlens.heads import Dropout
from twinlens.token_heads import masked_mean

FAR_BELOW = -1e9  # a score of exactly zero weight in float32


@keras.saving.register_keras_serializable(package="twinlens")
class AdditiveAttention(layers.Layer):
    """Who asks takes up the mean of what it attends to.

    Args:
        attention_dim: numbers in which both are compared.
        value_dim: numbers that are taken up.
        seed: of initial weights.

    Call arguments:
        askers: `(n, a, dim)`.
        asked: `(n, b, dim)`.
        mask: `(n, b)`, 1 where there is something.

    Returns:
        `(n, a, value_dim)`, and the weights `(n, a, b)`, rows of which sum to one.
    """

    def __init__(
        self, attention_dim: int, value_dim: int, seed: int = 0, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "attention_dim": attention_dim,
            "value_dim": value_dim,
            "seed": seed,
        }

        def dense(width, offset, **more):
            start = keras.initializers.GlorotUniform(seed=10 * seed + offset)
            return layers.Dense(width, kernel_initializer=start, **more)

        self.query = dense(attention_dim, 0, name="query")
        self.key = dense(attention_dim, 1, use_bias=False, name="key")
        self.value = dense(value_dim, 2, name="value")

    def build(self, input_shape: tuple) -> None:
        """Creates all weights for `input_shape[-1]` numbers on both sides."""
        for part in (self.query, self.key, self.value):
            part.build((None, None, input_shape[-1]))
        start = keras.initializers.RandomNormal(
            stddev=self.settings["attention_dim"] ** -0.5,
            seed=10 * self.settings["seed"] + 3,
        )
        self.score = self.add_weight(
            shape=(self.settings["attention_dim"],), initializer=start, name="score"
        )

    def call(self, askers, asked, mask):
        """What is taken up, and the weights."""
        compared = ops.tanh(
            self.query(askers)[:, :, None, :] + self.key(asked)[:, None, :, :]
        )
        scores = ops.sum(compared * self.score, axis=-1)
        scores = scores + (1 - mask)[:, None, :] * FAR_BELOW
        weights = ops.exp(scores - ops.logsumexp(scores, axis=-1, keepdims=True))
        if askers.shape[1] and asked.shape[1] and askers.shape[1] < asked.shape[1]:
            return self.value(ops.matmul(weights, asked)), weights  # the same, cheaper
        return ops.matmul(weights, self.value(asked)), weights

    def get_config(self) -> dict:
        """Settings that build the same layer again."""
        return super().get_config() | self.settings


@keras.saving.register_keras_serializable(package="twinlens")
class EditRound(layers.Layer):
    """Words look at places, then places listen to words and are changed.

    The change of a place is a small network of the place, what it hears, the product
    of both, and the mean of the whole text.

    Args:
        attention_dim: numbers in which places and words are compared.
        dropout: in the change of a place.
        seed: of initial weights and dropout.

    Call arguments:
        places: `(n, places, dim)`.
        words: `(n, length, dim)`.
        mask: `(n, length)`, 1 for a word.

    Returns:
        Places and words, changed, and the attention: `(n, places, length)` of each
        place over words and `(n, places)` of the whole text over places; rows sum
        to one.
    """

    def __init__(
        self, attention_dim: int, dropout: float = 0.0, seed: int = 0, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "attention_dim": attention_dim,
            "dropout": dropout,
            "seed": seed,
        }
        self.dropout = Dropout(dropout, seed)

    def build(self, input_shape: tuple) -> None:
        """Creates all weights for places and words of `input_shape[-1]` numbers."""
        dim, own = input_shape[-1], self.settings
        start = keras.initializers.GlorotUniform(10 * own["seed"] + 4)
        tokens = (None, None, dim)
        self.seen = layers.LayerNormalization(epsilon=1e-5, name="seen")
        self.said = layers.LayerNormalization(epsilon=1e-5, name="said")
        self.look = AdditiveAttention(own["attention_dim"], dim, 2 * own["seed"])
        self.listen = AdditiveAttention(own["attention_dim"], dim, 2 * own["seed"] + 1)
        for each in (self.seen, self.said, self.look, self.listen, self.dropout):
            each.build(tokens)
        self.change = layers.Dense(2 * dim, kernel_initializer=start, name="change")
        self.change.build((None, None, 3 * dim))
        start = keras.initializers.GlorotUniform(10 * own["seed"] + 5)
        self.of_text = layers.Dense(
            2 * dim, use_bias=False, kernel_initializer=start, name="of_text"
        )
        self.of_text.build((None, dim))
        self.apply = layers.Dense(dim, kernel_initializer="zeros", name="apply")
        self.apply.build((None, None, 2 * dim))

    def call(self, places, words, mask=None, training: bool = False):
        """Places, words and attention; see above."""
        seen = self.seen(places)
        found, looked = self.look(self.said(words), seen, ops.ones_like(seen[..., 0]))
        words = words + found * mask[..., None]
        said = self.said(words)
        concerns, over_words = self.listen(seen, said, mask)
        whole = self.of_text(masked_mean(said, mask))[:, None]  # once for all places
        # Whether a place is the one that a word names is a product: sums learn it late.
        heard = ops.concatenate([seen, concerns, seen * concerns], axis=-1)
        change = ops.gelu(self.change(heard) + whole, approximate=False)
        places = places + self.apply(self.dropout(change, training=training))
        return places, words, (over_words, masked_mean(looked, mask))

    def get_config(self) -> dict:
        """Settings that build the same layer again."""
        return super().get_config() | self.settings
