"""Heads of composed retrieval: reference and wish to a query, pictures to answers."""

import keras
import numpy as np
from keras import ops

from twinlens.errors import InputError
from twinlens.fusion import SumFusion
from twinlens.heads import Dropout, Similarity
from twinlens.model import OfParts
from twinlens.token_heads import PlaceHead, WordHead


@keras.saving.register_keras_serializable(package="twinlens")
class ComposedHeads(OfParts):
    """Heads whose query is a picture and a text that says what should change.

    Targets and whole galleries go through the picture head alone. A query without a
    text is its picture; one without a picture starts from a picture that is learned
    for that, and is trained by leaving pictures out.

    Args:
        image_head, text_head: places and words to tokens, and tokens to vectors.
        fusion: what makes one of two.
        similarity: from two sets of unit vectors to logits.
        drop_image: share of the queries in training that lose their picture.
        seed: of what is left out.

    Call arguments:
        features: `(images, texts)`: `(n, places, dim)` references and `(n, length,
            dim)` words of as many wishes; also `(n, dim)` each.

    Returns:
        `(n, embedding_dim)` float32 unit vectors of the queries.
    """

    PARTS = ("image_head", "text_head", "fusion", "similarity")

    def __init__(
        self,
        image_head: PlaceHead,
        text_head: WordHead,
        fusion: SumFusion,
        similarity: Similarity,
        drop_image: float = 0.1,
        seed: int = 0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.image_head, self.text_head = image_head, text_head
        self.fusion, self.similarity = fusion, similarity
        self.drop_image, self.seed = drop_image, seed
        self.leave_out = Dropout(drop_image, seed)

    def build(self, input_shape: tuple) -> None:
        """Creates all weights for the shapes of both features."""
        images, texts = input_shape
        for part, shape in (
            (self.image_head, images),
            (self.text_head, texts),
            (self.similarity, None),
        ):
            if not part.built:
                part.build(shape)
        head = self.image_head
        shape = (head.places, head.hidden_dim)
        if not self.fusion.built:
            self.fusion.build((*shape, head.embedding_dim))
        self.leave_out.build((None,))
        self.no_picture = self.add_weight(shape=shape, initializer="zeros", name="none")
        self.built = True

    # === Vectors ===

    def encode_target(self, images, training: bool = False):
        """`(n, places, dim)` features to `(n, embedding_dim)` unit vectors."""
        return self.image_head(images, training=training)

    def compose(
        self, images, texts, has_image=None, has_text=None, training: bool = False
    ):
        """Queries.

        Args:
            images: `(n, places, dim)` features of references.
            texts: `(n, length, dim)` features of wishes, zeros behind their ends.
            has_image: `(n,)` whether a query has a picture; what stands for one
                that is missing does not count. `None`: all have.
            has_text: `(n,)` the same of texts.
            training: with dropout.

        Returns:
            `(n, embedding_dim)` unit vectors.
        """
        places = self.image_head.tokens(images, training)
        places = self._without(places, has_image)
        words, mask = self.text_head.tokens(texts, training)
        edited, _ = self.fusion.edit(places, words, mask, training)
        image = self.image_head.read(edited, training)
        text = self.text_head.read(words, mask, training)
        query = self.fusion.mix(image, text, training)
        if has_text is None:
            return query
        alone = self.image_head.read(places, training)
        return ops.where(ops.cast(has_text, "bool")[:, None], query, alone)

    def attention(self, images, texts) -> tuple:
        """What the fusion looks at.

        Returns:
            `(n, places, length)` weights of each place over words, and `(n, places)`
            of the wish over places; rows sum to one.

        Raises:
            InputError: the fusion has none.
        """
        words, mask = self.text_head.tokens(texts)
        places = self.image_head.tokens(images)
        _, weights = self.fusion.edit(places, words, mask)
        if weights is None:
            raise InputError(
                f"The fusion {self.fusion.name!r} has no attention to show. Train one "
                "with fusion.name='attention'."
            )
        return weights

    def call(self, features, training: bool = False):
        """Queries of references and wishes; see `compose`."""
        return self.compose(*features, training=training)

    # === Training ===

    def training_loss(self, loss: keras.losses.Loss, features, ids):
        """The loss of a batch of triplets among all its pictures.

        Args:
            loss: takes `(batch, pictures)` marks and logits; see `TargetLoss`.
            features: `(images, texts)`: of the batch's pictures, references and
                targets in any order and perhaps twice, and of its wishes.
            ids: `pictures`, `(pictures,)` numbers of the pictures; `triplets`,
                `(batch, 2)` numbers of each wish's reference and target.
        """
        images, texts = features
        numbers, triplets = ids["pictures"], ids["triplets"]
        references, targets = triplets[:, 0], triplets[:, 1]
        candidates = self.encode_target(images, training=True)
        of_reference = ops.equal(references[:, None], numbers[None])
        rows = ops.argmax(ops.cast(of_reference, "int32"), axis=1)
        has_image = self._some_are_left_out(references)
        queries = self.compose(
            ops.take(images, rows, axis=0), texts, has_image, training=True
        )
        logits = self.similarity(queries, candidates)
        return loss(marks(targets, numbers), logits)

    def ids_columns(self, loss: keras.losses.Loss) -> dict[str, np.ndarray]:
        """How many columns each of `ids` has: none, and two."""
        return {"pictures": np.array([], int), "triplets": np.array([2])}

    def _without(self, places, has_image):
        if has_image is None:
            return places
        there = ops.cast(has_image, "bool")[:, None, None]
        return ops.where(there, places, self.no_picture)

    def _some_are_left_out(self, references):
        ones = ops.ones_like(references, dtype="float32")
        return self.leave_out(ones, training=True) > 0 if self.drop_image else None

    # === Config ===
    def get_config(self) -> dict:
        """Settings that build the same heads again."""
        own = {"drop_image": self.drop_image, "seed": self.seed}
        return super().get_config() | own


def marks(targets, numbers):
    """Which pictures of a batch are right for which query.

    Args:
        targets: `(batch,)` number of each query's target.
        numbers: `(pictures,)` of the batch's pictures; one may come twice.

    Returns:
        `(batch, pictures)` float32: 1 for the target, 0 for another picture, -1 for
        a picture that comes again and does not count.
    """
    same = ops.equal(numbers[:, None], numbers[None])
    count = ops.shape(numbers)[0]
    before = ops.tril(ops.ones((count, count), dtype="int32"), k=-1)
    again = ops.sum(ops.cast(same, "int32") * before, axis=1) > 0
    right = ops.cast(ops.equal(targets[:, None], numbers[None]), "float32")
    return ops.where(again[None], -1.0, right)
