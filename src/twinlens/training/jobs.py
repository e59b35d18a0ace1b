"""What phase 1 trains on: pairs, or triplets. Heads, order of an epoch, evaluation."""

import numpy as np

from twinlens.config import Config
from twinlens.embed import Embedder
from twinlens.metrics import retrieval_metrics, retrieval_ranks
from twinlens.training.build import build_composed_heads, build_heads, build_loss
from twinlens.training.composing import composed_metrics, query_embedder
from twinlens.training.pairs import Epoch, PairFeatures, Pairs, epoch_order, statistics
from twinlens.training.triplets import (
    TripletEpoch,
    TripletFeatures,
    token_statistics,
    triplet_order,
)

Measured = tuple[np.ndarray, np.ndarray, dict[str, float]]


class PairJob:
    """Heads that bring pictures and captions together.

    Args:
        train, val: pairs to learn from and to watch, if any.
        config: all settings.
    """

    unit = "pairs"
    headline = "text_to_image/recall@1"

    def __init__(
        self, train: PairFeatures, val: PairFeatures | None, config: Config
    ) -> None:
        self.train, self.val, self.config = train, val, config
        dims = train.images.shape[-1], train.texts.shape[-1]
        self.loss = build_loss(config.loss)
        self.heads = build_heads(*dims, config.head, self.loss, config.seed)
        self._images = Embedder(self.heads.image_head, dims[0])
        self._texts = Embedder(self.heads.text_head, dims[1])

    def adapt(self) -> None:
        """Gives the heads the statistics of the training features."""
        train, heads = self.train, self.heads
        heads.image_head.standardise.adapt(*statistics(train.images, train.image_rows))
        heads.text_head.standardise.adapt(*statistics(train.texts, train.text_rows))

    def order(self, number: int) -> Epoch:
        """What epoch `number`, counted from 0, shows."""
        size = self.config.phase1.batch_size
        return epoch_order(self.train, size, self.config.seed, number)

    def candidates(self) -> int:
        """Among how many one is right in a step."""
        return self.config.phase1.batch_size

    def evaluate(self) -> Measured:
        """Embeddings of both sides of val, and their metrics."""
        images = self._images(self.val.images, self.val.image_rows)
        texts = self._texts(self.val.texts, self.val.text_rows)
        return images, texts, validation_metrics(images, texts, self.val)


class ComposedJob:
    """Heads that bring a picture and a wish to the picture that is meant.

    Args:
        train, val: triplets to learn from and to watch, if any.
        config: all settings.
    """

    unit = "triplets"
    headline = "composed/recall@10"

    def __init__(
        self, train: TripletFeatures, val: TripletFeatures | None, config: Config
    ) -> None:
        self.train, self.val, self.config = train, val, config
        self.loss = build_loss(config.loss, composed=True)
        self.heads = build_composed_heads(
            train.image_shape, train.text_shape, config, self.loss
        )
        self._targets = Embedder(self.heads.image_head, train.image_shape)
        self._queries = query_embedder(self.heads, train.image_shape, train.text_shape)

    def adapt(self) -> None:
        """Gives the heads the statistics of the training features, over tokens."""
        train, heads = self.train, self.heads
        rows = np.concatenate([train.references, train.targets])
        found = token_statistics(train.plain_images, rows)
        heads.image_head.standardise.adapt(*found)
        found = token_statistics(train.texts, train.text_rows)
        heads.text_head.standardise.adapt(*found)

    def order(self, number: int) -> TripletEpoch:
        """What epoch `number`, counted from 0, shows."""
        config = self.config
        return triplet_order(
            self.train,
            config.phase1.batch_size,
            config.seed,
            number,
            config.fusion.together_count,
        )

    def candidates(self) -> int:
        """Among how many one is right in a step."""
        return self.order(0).pictures.shape[1]

    def evaluate(self) -> Measured:
        """Embeddings of queries and gallery of val, and their metrics."""
        val = self.val
        pictures = self._targets(val.plain_images, np.arange(len(val.images)))
        queries = self._queries(val)
        return queries, pictures, composed_metrics(queries, pictures, val)


Job = PairJob | ComposedJob


def job_of(
    train: PairFeatures | TripletFeatures,
    val: PairFeatures | TripletFeatures | None,
    config: Config,
) -> Job:
    """The job for the data that there is."""
    kind = ComposedJob if isinstance(train, TripletFeatures) else PairJob
    return kind(train, val, config)


def validation_metrics(
    images: np.ndarray, texts: np.ndarray, pairs: Pairs
) -> dict[str, float]:
    """Both directions' metrics and their `recall_sum` (R@1 + R@5 + R@10, both)."""
    ranks = retrieval_ranks(
        images, np.arange(len(pairs)), texts, pairs.picture_of_caption
    )
    sides = {
        "text_to_image": (ranks.text_to_image, len(images)),
        "image_to_text": (ranks.image_to_text, len(texts)),
    }
    found: dict[str, float] = {}
    for side, (first, gallery) in sides.items():
        measured = retrieval_metrics(first, gallery)
        found |= {f"{side}/{name}": value for name, value in measured.items()}
    names = [f"{side}/recall@{k}" for side in sides for k in (1, 5, 10)]
    return found | {"recall_sum": sum(found[name] for name in names)}
