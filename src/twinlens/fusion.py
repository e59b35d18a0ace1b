"""Fusions: a reference picture and a wish become one query.

Every fusion has two moments. `edit` may change the places of the reference, word by
word; `mix` joins the reading of these places with the reading of the words.
"""

import keras
from keras import layers, ops

from twinlens.attention import EditRound
from twinlens.errors import InputError
from twinlens.heads import Dropout, unit_vectors


@keras.saving.register_keras_serializable(package="twinlens")
class SumFusion(layers.Layer):
    """The weighted sum of both vectors; the weight is learned.

    Args:
        seed: of initial weights and dropout.
    """

    has_attention = False

    def __init__(self, seed: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.settings = {"seed": seed}
        self._seeds = iter(range(seed * 1000 + 500, seed * 1000 + 1000))

    def build(self, input_shape: tuple) -> None:
        """Creates the weight; `input_shape`: places, `hidden_dim`, `embedding_dim`."""
        self.balance = self.add_weight(shape=(), initializer="zeros", name="balance")

    def edit(self, places, words, mask, training: bool = False):
        """Places as the wish wants them: here as they are.

        Args:
            places: `(n, places, hidden_dim)`.
            words: `(n, length, hidden_dim)`.
            mask: `(n, length)`, 1 for a word.
            training: with dropout.

        Returns:
            `(n, places, hidden_dim)`, and the attention: `(n, places, length)` of each
            place over words, and `(n, places)` of the wish over places; `None` where
            there is none.
        """
        return places, None

    def mix(self, image, text, training: bool = False):
        """`(n, embedding_dim)` unit vectors of both sides to a query's."""
        weight = ops.sigmoid(self.balance)
        return unit_vectors(weight * image + (1 - weight) * text)

    def call(self, image, text, training: bool = False):
        """As `mix`."""
        return self.mix(image, text, training)

    def _dense(self, width: int, name: str, **kwargs) -> layers.Dense:
        kernel = {
            "kernel_initializer": keras.initializers.GlorotUniform(next(self._seeds))
        }
        return layers.Dense(width, name=name, **(kernel | kwargs))

    # === Config ===
    def get_config(self) -> dict:
        """Settings that build the same fusion again."""
        return super().get_config() | self.settings


@keras.saving.register_keras_serializable(package="twinlens")
class OneSide(SumFusion):
    """No fusion, to compare with: the picture alone, or the text alone.

    Args:
        side: `"image"` or `"text"`.
    """

    def __init__(self, side: str = "image", **kwargs) -> None:
        super().__init__(**kwargs)
        self.settings |= {"side": side}

    def mix(self, image, text, training: bool = False):
        """One of the two."""
        return image if self.settings["side"] == "image" else text


@keras.saving.register_keras_serializable(package="twinlens")
class CombinerFusion(SumFusion):
    """A gated sum of picture, text, and what a small network makes of both.

    Args:
        combiner_dim: width of the network.
        dropout: inside it.

    Reference:
        Baldrati et al. 2022, https://doi.org/10.1109/CVPR52688.2022.02080, figure 3.
    """

    def __init__(self, combiner_dim: int = 512, dropout: float = 0.5, **kwargs) -> None:
        super().__init__(**kwargs)
        self.settings |= {"combiner_dim": combiner_dim, "dropout": dropout}
        relu = {"activation": "relu"}
        self.of_image = self._dense(combiner_dim, "of_image", **relu)
        self.of_text = self._dense(combiner_dim, "of_text", **relu)
        self.both = self._dense(2 * combiner_dim, "both", **relu)
        self.gate = self._dense(combiner_dim, "gate", **relu)
        self.open = self._dense(1, "open", activation="sigmoid")
        self.dropouts = [Dropout(dropout, next(self._seeds)) for _ in range(3)]

    def build(self, input_shape: tuple) -> None:
        """Creates all weights."""
        width, dim = self.settings["combiner_dim"], input_shape[-1]
        self.out = self._dense(dim, "out")
        shapes = {"of_image": dim, "of_text": dim, "both": 2 * width, "out": 2 * width}
        shapes |= {"gate": 2 * width, "open": width}
        for name, size in shapes.items():
            getattr(self, name).build((None, size))
        for each in self.dropouts:
            each.build((None, width))

    def mix(self, image, text, training: bool = False):
        """`(n, embedding_dim)` unit vectors of both sides to a query's."""
        for_image, for_text, inside = self.dropouts
        joined = ops.concatenate(
            [
                for_image(self.of_image(image), training=training),
                for_text(self.of_text(text), training=training),
            ],
            axis=-1,
        )
        share = self.open(self.gate(joined))
        made = self.out(inside(self.both(joined), training=training))
        return unit_vectors(made + share * text + (1 - share) * image)


@keras.saving.register_keras_serializable(package="twinlens")
class AttentionFusion(SumFusion):
    """Additive attention between places and words, which edits the places.

    In each round every word looks for the places it is about and takes up what is
    there; then every place looks for the words that concern it and is changed by
    them. The weight of `b` for `a` is the softmax of `v · tanh(A a + B b)`. The
    edited places are read like those of any picture; the weighted sum with the
    text's vector is the query. At the start nothing is changed.

    Args:
        attention_dim: numbers in which places and words are compared.
        rounds: of both looks.
        dropout: in the change of a place.

    Reference:
        Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, section A.1.2.
    """

    has_attention = True

    def __init__(
        self,
        attention_dim: int = 48,
        rounds: int = 1,
        dropout: float = 0.3,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.settings |= {
            "attention_dim": attention_dim,
            "rounds": rounds,
            "dropout": dropout,
        }

    def build(self, input_shape: tuple) -> None:
        """Creates all weights for places and words of `hidden_dim` numbers."""
        super().build(input_shape)
        own = self.settings
        self.rounds = [
            EditRound(own["attention_dim"], own["dropout"], next(self._seeds))
            for _ in range(own["rounds"])
        ]
        for each in self.rounds:
            each.build((None, None, input_shape[1]))

    def edit(self, places, words, mask, training: bool = False):
        """Places as the wish wants them; see `SumFusion.edit`."""
        for each in self.rounds:
            places, words, weights = each(places, words, mask, training=training)
        return places, weights


FUSIONS = {
    "sum": SumFusion,
    "combiner": CombinerFusion,
    "attention": AttentionFusion,
    "image": lambda **kwargs: OneSide("image", **kwargs),
    "text": lambda **kwargs: OneSide("text", **kwargs),
}


def make_fusion(kind: str, **settings) -> SumFusion:
    """A fusion by its kind.

    Raises:
        InputError: there is none of this kind.
    """
    if kind not in FUSIONS:
        raise InputError(
            f"There is no fusion {kind!r}; there are {', '.join(FUSIONS)}."
        )
    return FUSIONS[kind](**settings)
