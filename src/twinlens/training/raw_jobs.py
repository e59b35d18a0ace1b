"""What phase 2 trains on: pairs, or triplets. Batches, order, evaluation."""

from twinlens.config import Config
from twinlens.encoders import ImageEncoder, TextEncoder
from twinlens.errors import InputError
from twinlens.model import DualEncoder
from twinlens.training.composing import composed_metrics
from twinlens.training.encoding import QueryEncoder, SplitEncoder
from twinlens.training.jobs import Measured, validation_metrics
from twinlens.training.pairs import Epoch, epoch_order
from twinlens.training.raw import RawBatches, RawPairs
from twinlens.training.raw_triplets import RawTriplets, TripletBatches
from twinlens.training.replicas import Replicas
from twinlens.training.triplets import TripletEpoch, triplet_order


class RawPairJob:
    """Pictures and captions as they are.

    Args:
        train, val: pairs to learn from and to watch, if any.
        model: whose encoders learn.
        encoders: for pictures and for texts.
        config: all settings.
        replicas: which share every batch.
    """

    unit = "pictures"

    def __init__(
        self,
        train: RawPairs,
        val: RawPairs | None,
        model: DualEncoder,
        encoders: tuple[ImageEncoder, TextEncoder],
        config: Config,
        replicas: Replicas,
    ) -> None:
        self.train, self.val, self.config = train, val, config
        share = (replicas.worker, replicas.workers)
        self.batches = RawBatches(train, *encoders, config.phase2, config.seed, share)
        self._encoder = SplitEncoder(model, *encoders)

    def order(self, number: int) -> Epoch:
        """What epoch `number`, counted from 0, shows."""
        size, seed = self.config.phase2.batch_size, self.config.seed
        return epoch_order(self.train, size, seed, number, "phase2")

    def candidates(self, step_pairs: int) -> int:
        """Among how many one is right in a step of so many pairs."""
        return step_pairs

    def evaluate(self) -> Measured:
        """Embeddings of both sides of val, and their metrics."""
        images = self._encoder.encode_images(self.val.paths)
        texts = self._encoder.encode_texts(self.val.texts)[self.val.text_rows]
        return images, texts, validation_metrics(images, texts, self.val)


class RawTripletJob:
    """References, wishes and targets as they are.

    Args:
        train, val: triplets to learn from and to watch, if any.
        model: whose encoders learn.
        encoders: for pictures and for texts.
        config: all settings.
        replicas: one device only.

    Raises:
        InputError: there are several devices, or an auxiliary head is wanted.
    """

    unit = "triplets"

    def __init__(
        self,
        train: RawTriplets,
        val: RawTriplets | None,
        model: DualEncoder,
        encoders: tuple[ImageEncoder, TextEncoder],
        config: Config,
        replicas: Replicas,
    ) -> None:
        if replicas.count > 1:
            raise InputError(
                f"There are {replicas.count} devices, but a fusion is fine-tuned on "
                "one: the pictures of a batch are shared between its triplets. Show "
                "one device only, for example with CUDA_VISIBLE_DEVICES=0."
            )
        if config.phase2.auxiliary_layer:
            raise InputError(
                "phase2.auxiliary_layer is for pictures and captions. Leave it "
                "empty where a fusion learns."
            )
        self.train, self.val, self.config = train, val, config
        self.batches = TripletBatches(train, *encoders, config.phase2, config.seed)
        self._encoder = QueryEncoder(model, *encoders)

    def order(self, number: int) -> TripletEpoch:
        """What epoch `number`, counted from 0, shows."""
        config = self.config
        return triplet_order(
            self.train,
            config.phase2.batch_size,
            config.seed,
            number,
            config.fusion.together_count,
            "phase2",
        )

    def candidates(self, step_pairs: int) -> int:
        """Among how many one is right in a step of so many triplets."""
        steps = step_pairs // self.config.phase2.batch_size
        return steps * self.order(0).pictures.shape[1]

    def evaluate(self) -> Measured:
        """Embeddings of queries and pictures of val, and their metrics."""
        val = self.val
        pictures = self._encoder.encode_images(val.paths)
        queries = self._encoder.encode_queries(val)
        return queries, pictures, composed_metrics(queries, pictures, val)


RawJob = RawPairJob | RawTripletJob


def raw_job_of(train: RawPairs | RawTriplets, *others) -> RawJob:
    """The job for the data that there is; arguments as of both."""
    kind = RawTripletJob if isinstance(train, RawTriplets) else RawPairJob
    return kind(train, *others)
