"""One step of phase 2: encoders and heads together, with or without gradient cache."""

import contextlib
from collections.abc import Callable, Iterable, Iterator

import keras
import tensorflow as tf

from twinlens.encoders.base import normalisations
from twinlens.encoders.forward import computing_in
from twinlens.model import DualEncoder
from twinlens.training.auxiliary import Auxiliary
from twinlens.training.folding import fold
from twinlens.training.parts import Part
from twinlens.training.raw import Batch
from twinlens.training.replicas import Replicas


class FineTuner:
    """Updates a dual encoder, batch after batch.

    Args:
        model: a dual encoder; the weights of its parts that train are trainable.
        loss: a loss of `twinlens.losses`.
        parts: all trainable weights, each in one part.
        clip_norm: of the whole gradient; 0: none.
        ema_decay: of a moving average of the weights, per step; 0 keeps none.
        interpolation: how much is kept of the way from the first weights to the
            trained ones (Wortsman et al. 2022, https://arxiv.org/abs/2109.01903).
        dtype: of the towers' computation, `"float32"` or `"bfloat16"`.
        auxiliary: a second head on an inner grid of the picture tower.
        replicas: which share every batch.

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
        interpolation: float = 1.0,
        dtype: str = "float32",
        auxiliary: Auxiliary | None = None,
        replicas: Replicas | None = None,
    ) -> None:
        self.model, self.loss, self.parts = model, loss, parts
        self.clip_norm, self.ema_decay, self.dtype = clip_norm, ema_decay, dtype
        self.interpolation = interpolation
        self.auxiliary, self.replicas = auxiliary, replicas or Replicas()
        image_tower = auxiliary.tower if auxiliary else model.image_model
        self._towers = (image_tower, model.text_model)
        self.replicas.synchronise(self._towers)
        self._passes = (fold(image_tower), model.text_model)
        self.weights = [weight for part in parts for weight in part.weights]
        for part in parts:
            part.optimizer.build(part.weights)
        self.averages = [
            tf.Variable(weight.value, trainable=False)
            for weight in (self.weights if ema_decay else [])
        ]
        self._first = [w.numpy() for w in self.weights if interpolation < 1]
        self._changing = [
            v for tower in self._towers for v in _changed_by_a_pass(tower)
        ]
        self._active: list[Part] = []
        self.begin_epoch(0)

    def begin_epoch(self, number: int) -> None:
        """Lets the parts learn whose turn has come; `number` counts from 0."""
        active = [part for part in self.parts if part.first_epoch <= number]
        if len(active) == len(self._active):
            return
        self._active = active
        learning = {id(weight) for part in active for weight in part.weights}
        of_towers = [tower.trainable_weights for tower in self._towers]
        self._of_towers = [[w for w in ws if id(w) in learning] for ws in of_towers]
        in_towers = {id(weight) for weights in of_towers for weight in weights}
        self._of_heads = [w for w in self.weights if id(w) not in in_towers]
        self._compile()

    def step(self, batches: Callable[[], Iterable[Batch]], count: int) -> float:
        """One update.

        Args:
            batches: gives the step's batches, the same at each call; of each, the
                rows of this machine.
            count: how many there are; several meet in one gradient.

        Returns:
            The mean loss over the step's pairs.
        """
        with computing_in(self.dtype):
            if count > 1:
                loss, norms = self._cached_step(batches)
            else:
                (batch,) = batches()
                loss, norms = self.replicas.first(self._plain_step(*batch))
        self.norms = norms.numpy()
        return float(loss)

    def state(self) -> list:
        """Every variable that a resumed run needs, in a fixed order."""
        optimizers = [v for part in self.parts for v in part.optimizer.variables]
        extra = self.auxiliary.head.variables if self.auxiliary else []
        return [*self.model.variables, *extra, *optimizers, *self.averages]

    def keep(self) -> None:
        """Puts the weights in place that are measured and kept.

        The moving averages if there are any, and of the way there from the first
        weights as much as `interpolation` says.
        """
        if not self._keeps_others:
            return
        for number, weight in enumerate(self.weights):
            value = (self.averages or self.weights)[number].numpy()
            if self.interpolation < 1:
                first = self._first[number]
                value = first + self.interpolation * (value - first)
            weight.assign(value)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Inside, the model has the weights of `keep`; training goes on after it."""
        changed = self.weights if self._keeps_others else []
        values = [weight.numpy() for weight in changed]
        self.keep()
        try:
            yield
        finally:
            for weight, value in zip(changed, values, strict=True):
                weight.assign(value)

    @property
    def _keeps_others(self) -> bool:
        return bool(self.averages) or self.interpolation < 1

    def update_statistics(self, batches: Iterable[Batch]) -> None:
        """Brings batch normalisation that trains up to date with the weights."""
        with computing_in(self.dtype):
            for batch in batches:
                self._features(*batch)

    # === What each replica does ===
    def _compile(self) -> None:
        function = self.replicas.function
        (inputs, features, ids), batch = self._signatures()
        self._head_loss = tf.function(
            self._loss_of_features, jit_compile=True, autograph=False
        )
        self._plain_step = function(self._one_batch, batch)
        self._features = function(self._all_features, batch)
        self._head_gradients = function(self._through_heads, (*features, ids))
        self._tower_gradients = function(self._through_towers, (*inputs, *features))
        self._update = function(self._apply_totals)

    def _signatures(self) -> tuple:
        """Batches and captions may be of any length: each function is traced once."""

        def spec(of, dtype=tf.float32):
            return tf.TensorSpec(of.shape, dtype)

        images, texts = self._towers
        tokens = {name: spec(each, tf.int32) for name, each in texts.input.items()}
        inputs = (spec(images.input), tokens)
        ids = tf.nest.map_structure(
            lambda columns: tf.TensorSpec([None, *columns], tf.int32),
            self.model.heads.ids_columns(self.loss),
        )
        features = (spec(images.output), spec(texts.output))
        return (inputs, features, ids), (*inputs, ids)

    def _encode(self, pixels, tokens):
        inputs = (pixels, tokens)
        return tuple(
            tower(of_tower, training=bool(weights))
            for tower, of_tower, weights in zip(
                self._passes, inputs, self._of_towers, strict=True
            )
        )

    def _loss_of_features(self, images, texts, ids):
        heads, inner = self.model.heads, None
        if self.auxiliary:
            dim = self.model.image_model.output_shape[-1]
            images, inner = images[:, :dim], images[:, dim:]
        loss = heads.training_loss(self.loss, (images, texts), ids)
        if self.auxiliary:
            logits = heads.training_logits(
                (inner, texts), self.loss.needs_similarities, self.auxiliary.head
            )
            loss += self.auxiliary.weight * self.loss(ids, logits)
        return loss * self.replicas.count  # by which Keras divides every loss

    def _one_batch(self, *batch):
        pixels, tokens, ids = self.replicas.share(batch)
        with tf.GradientTape() as tape:
            features = self._encode(pixels, tokens)
        everywhere = self.replicas.gathered((*features, ids))
        loss, of_heads, *of_features = self._through_heads(*everywhere)
        own = self.replicas.share(of_features, among_all=True)
        return loss, self._sum_and_apply(self._backwards(tape, features, own), of_heads)

    def _all_features(self, *batch):
        pixels, tokens, ids = self.replicas.share(batch)
        return self.replicas.gathered((*self._encode(pixels, tokens), ids))

    def _through_heads(self, images, texts, ids):
        with tf.GradientTape() as tape:
            tape.watch([images, texts])
            loss = self._head_loss(images, texts, ids)
        weights = [w.value for w in self._of_heads]
        zero = tf.UnconnectedGradients.ZERO  # a fusion may leave one side out
        sources = [weights, images, texts]
        of_heads, of_images, of_texts = tape.gradient(loss, sources, None, zero)
        return loss, of_heads, of_images, of_texts

    def _through_towers(self, pixels, tokens, of_images, of_texts):
        pixels, tokens = self.replicas.share((pixels, tokens))
        own = self.replicas.share([of_images, of_texts], among_all=True)
        with tf.GradientTape() as tape:
            features = self._encode(pixels, tokens)
        return self._backwards(tape, features, own)

    def _backwards(self, tape, features, of_features) -> list:
        """The gradient of each weight of towers that learns; 0 without influence."""
        weights = [w.value for of_tower in self._of_towers for w in of_tower]
        zero = tf.UnconnectedGradients.ZERO
        found = tape.gradient(features, weights, of_features, zero)
        return [tf.convert_to_tensor(gradient) for gradient in found]  # embeddings too

    def _apply_totals(self, of_towers, of_heads):
        return self._sum_and_apply(self.replicas.own(of_towers), of_heads)

    def _sum_and_apply(self, of_towers, of_heads):
        """Updates the weights; gives the gradient's length in each tower."""
        of_towers = self.replicas.summed(of_towers)
        count = len(self._of_towers[0])
        norms = [tf.linalg.global_norm(g or [0.0]) for g in _split(of_towers, count)]
        gradients = [*of_towers, *of_heads]
        if self.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        weights = [*self._of_towers[0], *self._of_towers[1], *self._of_heads]
        of = {id(w): g for w, g in zip(weights, gradients, strict=True)}
        for part in self._active:
            part.optimizer.apply([of[id(w)] for w in part.weights], part.weights)
        for average, weight in zip(self.averages, self.weights, strict=False):
            average.assign_add((1 - self.ema_decay) * (weight.value - average))
        return tf.stack(norms)

    # === Gradient cache ===
    def _cached_step(self, batches: Callable[[], Iterable[Batch]]) -> tuple:
        found, before = [], []
        for batch in batches():
            before.append([v.numpy() for v in self._changing])
            found.append(self.replicas.first(self._features(*batch)))
        sizes = [[len(each[side]) for each in found] for side in (0, 1)]
        joined = tf.nest.map_structure(lambda *each: tf.concat(each, 0), *found)
        loss, of_heads, *of_features = self.replicas.first(
            self._head_gradients(*joined)
        )
        parts = zip(*map(tf.split, of_features, sizes), strict=True)
        totals: list = []  # for each weight, a row for each replica of this machine
        for batch, values, part in zip(batches(), before, parts, strict=True):
            for variable, value in zip(self._changing, values, strict=True):
                variable.assign(value)  # the same dropout as before
            found = self._tower_gradients(batch.pixels, batch.tokens, *part)
            each = self.replicas.each(found)
            totals = (
                [a + b for a, b in zip(totals, each, strict=True)] if totals else each
            )
        norms = self._update(totals, of_heads)
        return loss, self.replicas.first(norms)


def _split(values: list, count: int) -> tuple[list, list]:
    return values[:count], values[count:]


def _changed_by_a_pass(tower: keras.Model) -> list:
    """What a pass in training changes besides weights: dropout's seeds, statistics."""
    seeds = [v for v in tower.variables if v.path.endswith("seed_generator_state")]
    training = [layer for layer in normalisations(tower) if layer.trainable]
    return seeds + [v for layer in training for v in layer.non_trainable_weights]
