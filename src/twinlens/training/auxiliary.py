"""A second head on an inner grid of the picture tower, in training only."""

from collections.abc import Iterable
from dataclasses import dataclass

import keras
import numpy as np

from twinlens.config import Config
from twinlens.encoders import ImageEncoder
from twinlens.encoders.image import with_inner
from twinlens.heads import ProjectionHead
from twinlens.training.raw import Batch


@dataclass(frozen=True)
class Auxiliary:
    """What makes the lower layers learn from the loss more directly.

    Attributes:
        tower: `(n, size, size, 3)` pixels → the picture's feature, and behind it the
            inner grid's mean, in one vector.
        head: for the inner mean.
        weight: of its loss beside the main one.

    Reference:
        Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 4.
    """

    tower: keras.Model
    head: ProjectionHead
    weight: float


def build_auxiliary(
    encoder: ImageEncoder, config: Config, batches: Iterable[Batch]
) -> Auxiliary:
    """The auxiliary head that the settings name.

    Args:
        encoder: the picture encoder that is trained.
        config: `phase2.auxiliary_layer` and `auxiliary_weight`; `head`.
        batches: some of training, whose statistics the head standardises by.
    """
    settings = config.phase2
    tower = with_inner(encoder, settings.auxiliary_layer)
    dim = encoder.feature_dim
    inner = np.concatenate(
        [tower(batch.pixels, training=False)[:, dim:] for batch in batches]
    )
    head = ProjectionHead(
        **config.head.model_dump(), seed=config.seed + 1000, name="auxiliary_head"
    )
    head.build((None, inner.shape[-1]))
    head.standardise.adapt(inner.mean(axis=0), inner.std(axis=0))
    return Auxiliary(tower, head, settings.auxiliary_weight)
