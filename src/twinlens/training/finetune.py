"""One step of phase 2: encoders and heads together, with or without gradient cache."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras
import tensorflow as tf

from twinlens.model import DualEncoder
from twinlens.training.raw import Batch

MOMENTUM = 0.9  # of batch statistics; Keras' 0.99 lags behind for an epoch


@dataclass(frozen=True)
class Part:
    """Weights that share an optimizer: the picture tower, the text tower, the heads."""

    name: str
    weights: list
    optimizer: keras.optimizers.Optimizer


class FineTuner:
    """Updates a dual encoder, batch after batch.

    Args:
        model: a dual encoder; the weights of its parts that train are trainable.
        loss: a loss of `twinlens.losses`.
        parts: all trainable weights, each in one part.
        clip_norm: of the whole gradient; 0: none.
        ema_decay: of a moving average of the weights, per step; 0 keeps none.

    A step on several batches is a step on all their pairs at once, in the memory of
    one batch (gradient cache): the features of all batches are computed without
    keeping what a gradient needs, the loss gives the gradient of each feature, and
    each batch is computed again to carry its features' gradients into the weights.
    Dropout is the same both times. Batch normalisation that trains sees one batch at
    a time.

    Reference:
        Gao et al. 2021, https://arxiv.org/abs/2101.06983.
    """

    def __init__(
        self,
        model: DualEncoder,
        loss: keras.losses.Loss,
        parts: list[Part],
        clip_norm: float = 0.0,
        ema_decay: float = 0.0,
    ) -> None:
        self.model, self.loss, self.parts = model, loss, parts
        self.clip_norm, self.ema_decay = clip_norm, ema_decay
        towers = (model.image_model, model.text_model)
        self._learns = [bool(tower.trainable_weights) for tower in towers]
        self.tower_weights = [w for tower in towers for w in tower.trainable_weights]
        self.head_weights = model.heads.trainable_weights
        self.weights = [*self.tower_weights, *self.head_weights]
        for part in parts:
            part.optimizer.build(part.weights)
        self.averages = [
            tf.Variable(weight.value, trainable=False)
            for weight in (self.weights if ema_decay else [])
        ]
        self._changing = [v for tower in towers for v in _changed_by_a_pass(tower)]
        self._head_loss = tf.function(self._loss_of_features, jit_compile=True)
        inputs, features, ids = _signatures(model)
        self._plain_step = tf.function(self._one_batch, (*inputs, ids))
        self._features = tf.function(self._encode, inputs)
        self._head_gradients = tf.function(self._through_heads, (*features, ids))
        self._tower_gradients = tf.function(self._through_towers, (*inputs, *features))
        self._update = tf.function(self._apply)

    def step(self, batches: Callable[[], Iterable[Batch]], count: int) -> float:
        """One update.

        Args:
            batches: gives the step's batches, the same at each call.
            count: how many there are; several meet in one gradient.

        Returns:
            The mean loss over the step's pairs.
        """
        if count == 1:
            (batch,) = batches()
            return float(self._plain_step(*batch))
        return self._cached_step(batches)

    def state(self) -> list:
        """Every variable that a resumed run needs, in a fixed order."""
        optimizers = [v for part in self.parts for v in part.optimizer.variables]
        return [*self.model.variables, *optimizers, *self.averages]

    def swap_averages(self) -> None:
        """Exchanges the weights with their moving averages, if there are any."""
        for weight, average in zip(self.weights, self.averages, strict=False):
            value = weight.numpy()
            weight.assign(average)
            average.assign(value)

    def update_statistics(self, batches: Iterable[Batch]) -> None:
        """Brings batch normalisation that trains up to date with the weights."""
        for batch in batches:
            self._features(batch.pixels, batch.tokens)

    # === One batch ===
    def _encode(self, pixels, tokens):
        learns_images, learns_texts = self._learns
        return (
            self.model.image_model(pixels, training=learns_images),
            self.model.text_model(tokens, training=learns_texts),
        )

    def _loss_of_features(self, images, texts, ids):
        logits = self.model.heads.training_logits(
            (images, texts), self.loss.needs_similarities
        )
        return self.loss(ids, logits)

    def _one_batch(self, pixels, tokens, ids):
        with tf.GradientTape() as tape:
            images, texts = self._encode(pixels, tokens)
            loss = self._head_loss(images, texts, ids)
        self._apply(tape.gradient(loss, [w.value for w in self.weights]))
        return loss

    def _apply(self, gradients):
        if self.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        of = {id(w): g for w, g in zip(self.weights, gradients, strict=True)}
        for part in self.parts:
            part.optimizer.apply([of[id(w)] for w in part.weights], part.weights)
        for average, weight in zip(self.averages, self.weights, strict=False):
            average.assign_add((1 - self.ema_decay) * (weight.value - average))

    # === Gradient cache ===
    def _cached_step(self, batches: Callable[[], Iterable[Batch]]) -> float:
        features, ids, before = [], [], []
        for batch in batches():
            before.append([tf.identity(v.value) for v in self._changing])
            features.append(self._features(batch.pixels, batch.tokens))
            ids.append(batch.ids)
        images, texts = (
            tf.concat(side, axis=0) for side in zip(*features, strict=True)
        )
        loss, head, of_images, of_texts = self._head_gradients(
            images, texts, tf.concat(ids, axis=0)
        )
        sizes = [len(part) for part in ids]
        total = [tf.zeros_like(w.value) for w in self.tower_weights]
        for batch, values, image_part, text_part in zip(
            batches(),
            before,
            tf.split(of_images, sizes),
            tf.split(of_texts, sizes),
            strict=True,
        ):
            for variable, value in zip(self._changing, values, strict=True):
                variable.assign(value)  # the same dropout as before
            found = self._tower_gradients(
                batch.pixels, batch.tokens, image_part, text_part
            )
            total = [a + b for a, b in zip(total, found, strict=True)]
        self._update([*total, *head])
        return float(loss)

    def _through_heads(self, images, texts, ids):
        with tf.GradientTape() as tape:
            tape.watch([images, texts])
            loss = self._head_loss(images, texts, ids)
        weights = [w.value for w in self.head_weights]
        head, of_images, of_texts = tape.gradient(loss, [weights, images, texts])
        return loss, head, of_images, of_texts

    def _through_towers(self, pixels, tokens, of_images, of_texts):
        with tf.GradientTape() as tape:
            images, texts = self._encode(pixels, tokens)
        gradients = tape.gradient(
            [images, texts],
            [w.value for w in self.tower_weights],
            output_gradients=[of_images, of_texts],
        )
        return [tf.convert_to_tensor(g) for g in gradients]


def _signatures(model: DualEncoder) -> tuple:
    """Of a batch's pixels and tokens, of their features, of ids.

    Batches and captions may be of any length: each function is traced once.
    """
    def spec(of, dtype=tf.float32):
        return tf.TensorSpec(of.shape, dtype)

    tokens = {n: spec(each, tf.int32) for n, each in model.text_model.input.items()}
    features = (spec(model.image_model.output), spec(model.text_model.output))
    return (spec(model.image_model.input), tokens), features, tf.TensorSpec([None, 2], tf.int32)


def prepare_tower(tower: keras.Model, learns: bool, from_random: bool) -> None:
    """Says which of a tower's weights train.

    Args:
        tower: an encoder's model.
        learns: whether the tower trains at all.
        from_random: whether its weights started random. Batch normalisation of
            pretrained weights stays as it is; of random ones it trains, with
            statistics that follow in tens of steps instead of hundreds.
    """
    for layer in tower._flatten_layers():
        layer.trainable = learns
    for layer in _normalisations(tower):
        layer.trainable = learns and from_random
        layer.momentum = MOMENTUM


def _normalisations(tower: keras.Model) -> list[keras.layers.BatchNormalization]:
    layers = tower._flatten_layers()
    return [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]


def _changed_by_a_pass(tower: keras.Model) -> list:
    """What a pass in training changes besides weights: dropout's seeds, statistics."""
    seeds = [v for v in tower.variables if v.path.endswith("seed_generator_state")]
    training = [layer for layer in _normalisations(tower) if layer.trainable]
    return seeds + [v for layer in training for v in layer.non_trainable_weights]
