"""What phase 2 trains and with what: from settings to a `FineTuner`."""

import keras

from twinlens.config import Config, Phase2Settings
from twinlens.encoders import ImageEncoder, TextEncoder
from twinlens.encoders.forward import check_bfloat16
from twinlens.errors import InputError
from twinlens.model import DualEncoder
from twinlens.training.auxiliary import build_auxiliary
from twinlens.training.build import build_optimizer
from twinlens.training.finetune import FineTuner
from twinlens.training.parts import Part, TowerPlan, tower_parts
from twinlens.training.raw import Batch
from twinlens.training.replicas import Replicas


def build_tuner(
    model: DualEncoder,
    encoders: tuple[ImageEncoder, TextEncoder],
    loss: keras.losses.Loss,
    config: Config,
    steps_per_epoch: int,
    batches: list[Batch],
    replicas: Replicas,
) -> FineTuner:
    """The tuner that the settings of phase 2 describe.

    Args:
        model: made of the encoders' models.
        encoders: for pictures and for texts.
        loss: as built from the settings.
        config: all settings.
        steps_per_epoch: updates.
        batches: some of training, for the statistics of an auxiliary head.
        replicas: which share every batch.
    """
    settings = config.phase2
    if settings.dtype == "bfloat16":
        check_bfloat16("phase2.dtype")
    image_encoder, text_encoder = encoders
    parts = []
    for encoder, side in ((image_encoder, "image"), (text_encoder, "text")):
        plan = TowerPlan(
            f"{side}_encoder",
            encoder.model,
            encoder.block_end,
            getattr(settings, f"{side}_learning_rate"),
            getattr(settings, f"{side}_frozen_blocks"),
            trains_normalisation(encoder, settings),
        )
        parts += tower_parts(plan, settings, steps_per_epoch)
    heads = model.heads.trainable_weights
    parts.append(Part("heads", heads, build_optimizer(settings, steps_per_epoch)))
    auxiliary = None
    if settings.auxiliary_layer:
        auxiliary = build_auxiliary(image_encoder, config, batches)
        weights = auxiliary.head.trainable_weights
        optimizer = build_optimizer(settings, steps_per_epoch)
        parts.insert(-1, Part("auxiliary head", weights, optimizer))
    return FineTuner(
        model,
        loss,
        parts,
        settings.clip_norm,
        settings.ema_decay,
        settings.interpolation,
        settings.dtype,
        auxiliary,
        replicas,
    )


def trains_normalisation(
    encoder: ImageEncoder | TextEncoder, settings: Phase2Settings
) -> bool:
    """Whether batch normalisation learns, and its statistics follow."""
    return encoder.from_random and settings.normalisation == "auto"


def batches_a_step(batch_size: int, negatives: int) -> int:
    """How many batches meet in one step.

    Raises:
        InputError: `negatives` is no multiple of `batch_size`.
    """
    if not negatives:
        return 1
    if negatives % batch_size:
        raise InputError(
            f"phase2.negatives is {negatives}, which is no multiple of "
            f"phase2.batch_size = {batch_size}. Set it to "
            f"{max(1, round(negatives / batch_size)) * batch_size}."
        )
    return negatives // batch_size
