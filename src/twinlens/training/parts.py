"""Which weights of a dual encoder learn, how fast, and from which epoch on."""

from dataclasses import dataclass

import keras

from twinlens.config import Phase2Settings
from twinlens.encoders.base import blocks
from twinlens.errors import InputError
from twinlens.training.build import build_optimizer

MOMENTUM = 0.9  # of batch statistics; Keras' 0.99 lags behind for an epoch


@dataclass(frozen=True)
class Part:
    """Weights that share an optimizer.

    Attributes:
        name: for people.
        weights: Keras variables.
        optimizer: theirs alone.
        first_epoch: from which, counted from 0, they learn.
    """

    name: str
    weights: list
    optimizer: keras.optimizers.Optimizer
    first_epoch: int = 0


@dataclass(frozen=True)
class TowerPlan:
    """How one tower is to be trained.

    Attributes:
        name: of the tower.
        model: its Keras model.
        block_end: pattern of the layers that end a block.
        rate: of the last block; 0 locks the tower.
        frozen_blocks: how many, from the first, stay as they are.
        normalises: whether batch normalisation trains.
    """

    name: str
    model: keras.Model
    block_end: str
    rate: float
    frozen_blocks: int
    normalises: bool


def tower_parts(
    plan: TowerPlan, settings: Phase2Settings, steps_per_epoch: int
) -> list[Part]:
    """Marks what learns in a tower and splits it by learning rate and first epoch.

    Batch normalisation stays as it is, or trains, with statistics that follow in tens
    of steps instead of hundreds.

    Returns:
        Parts from the first block that learns to the last; none for a locked tower.

    Raises:
        InputError: every block stays as it is, though the tower has a rate.
    """
    plan.model.trainable = bool(plan.rate)  # and models inside; layers follow below
    found = blocks(plan.model, plan.block_end)
    last = len(found) - 1
    if plan.rate and plan.frozen_blocks > last:
        side = plan.name.partition("_")[0]
        raise InputError(
            f"phase2.{side}_frozen_blocks is {plan.frozen_blocks}, but this network "
            f"has {len(found)} blocks, so none would learn. Freeze fewer, or lock the "
            f"encoder with phase2.{side}_learning_rate=0."
        )
    groups: dict[tuple[float, int], list[keras.layers.Layer]] = {}
    for number, layers in enumerate(found):
        height = last - number
        first = height * settings.unfreeze_every
        frozen = number < plan.frozen_blocks or first >= settings.epochs
        for layer in layers:
            mark(layer, bool(plan.rate) and not frozen, plan.normalises)
        if plan.rate and not frozen:
            rate = plan.rate * settings.depth_decay**height
            groups.setdefault((rate, first), []).extend(layers)
    parts = []
    for (rate, first), layers in groups.items():
        weights = [weight for layer in layers for weight in layer.trainable_weights]
        if weights:
            name = plan.name if len(groups) == 1 else f"{plan.name} at {rate:.1e}"
            optimizer = build_optimizer(
                settings.model_copy(update={"learning_rate": rate}),
                steps_per_epoch,
                first * steps_per_epoch,
            )
            parts.append(Part(name, weights, optimizer, first))
    return parts


def mark(layer: keras.layers.Layer, learns: bool, normalises: bool) -> None:
    """Sets what trains in a layer, or a whole model, and in those inside it.

    Args:
        layer: it and all inside.
        learns: whether they train.
        normalises: whether batch normalisation does, too.
    """
    for each in layer._flatten_layers():
        each.trainable = learns
        if isinstance(each, keras.layers.BatchNormalization):
            each.trainable = learns and normalises
            each.momentum = MOMENTUM
