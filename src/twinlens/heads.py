"""Projection heads: from an encoder's feature to a unit vector of the shared space."""

import keras
import numpy as np
from keras import layers, ops

MAX_SCALE = 100.0  # CLIP's clip: sharper than this makes training unstable
MIN_DEVIATION = 1e-6  # a feature that never changes stays zero instead of exploding


@keras.saving.register_keras_serializable(package="twinlens")
class Standardise(layers.Layer):
    """Shifts and scales each feature by statistics of the training split.

    Features of frozen networks differ in size by orders of magnitude (random
    InceptionV3: standard deviation 1e-4), which no learning rate serves.
    The statistics are weights that never train, so they travel with the head.
    """

    def build(self, input_shape: tuple) -> None:
        """Creates mean 0 and deviation 1, each `(feature_dim,)`."""
        shape = (input_shape[-1],)
        self.mean = self.add_weight(
            shape=shape, initializer="zeros", name="mean", trainable=False
        )
        self.deviation = self.add_weight(
            shape=shape, initializer="ones", name="deviation", trainable=False
        )

    def adapt(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Takes the statistics, each `(feature_dim,)`, in float32."""
        self.mean.assign(mean)
        small = deviation < MIN_DEVIATION * max(float(deviation.max()), 1e-30)
        self.deviation.assign(np.where(small, np.inf, deviation))

    def call(self, features):
        """`(n, feature_dim)` to the same, each feature with mean 0, deviation 1."""
        return (features - self.mean) / self.deviation


@keras.saving.register_keras_serializable(package="twinlens")
class Dropout(layers.Layer):
    """Dropout from an integer hash instead of a cryptographic generator.

    On a CPU, the generator behind `keras.layers.Dropout` takes longer than the
    matrix products around it. A mask only has to look random: place and step go
    through two rounds of a 32-bit mixer, which compiles into the multiplication.

    Args:
        rate: share of the numbers that become zero; the others are scaled up.
        seed: masks of other seeds are others.

    Reference:
        Wellons 2018, https://nullprogram.com/blog/2018/07/31/, `lowbias32`.
    """

    def __init__(self, rate: float, seed: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.rate, self.seed = rate, seed
        self.limit, self.keep = int(rate * 2**32), 1 - rate

    def build(self, input_shape: tuple) -> None:
        """Creates the count of steps, which makes every mask another."""
        first = (self.seed + 2**15) % 2**16 - 2**15  # signed: JAX counts in 32 bits
        start = keras.initializers.Constant(first * 2**16)
        self.step = self.add_weight(
            shape=(), initializer=start, dtype="int64", trainable=False, name="step"
        )  # TensorFlow sends no unsigned numbers to other machines

    def call(self, x, training: bool = False):
        """`x` with a share of its numbers zero, in training only."""
        if not training or not self.rate:
            return x
        self.step.assign(self.step + 1)
        key = _mix(ops.cast(self.step, "uint32"))
        place = ops.cast(ops.arange(ops.size(x), dtype="int32"), "uint32")
        place = ops.reshape(place, ops.shape(x))
        random = _mix(_mix(place + key) + key)
        return ops.where(random < ops.cast(self.limit, "uint32"), 0.0, x / self.keep)

    def get_config(self) -> dict:
        """Settings that build the same layer again."""
        return super().get_config() | {"rate": self.rate, "seed": self.seed}


def _mix(x):
    """Spreads each bit of `uint32` numbers over all bits."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        shifted = ops.right_shift(x, ops.cast(shift, "uint32"))
        x = ops.bitwise_xor(x, shifted) * ops.cast(factor, "uint32")
    return x


@keras.saving.register_keras_serializable(package="twinlens")
class ProjectionHead(layers.Layer):
    """Feature to unit vector: standardise, a few dense blocks, normalise.

    Args:
        embedding_dim: of the shared space.
        hidden_dim: width of the blocks.
        depth: residual blocks `x + Dropout(Dense(GELU(LayerNorm(x))))`; 0 makes the
            head one linear map. The prototype's form ignores it.
        dropout: inside the blocks.
        input_dropout: on the standardised features, before anything else.
        form: `"residual"`, or `"prototype"`: Dense, GELU, LayerNorm, Dense,
            Dropout, LayerNorm, all `embedding_dim` wide.
        seed: of initial weights and dropout.

    Call arguments:
        features: `(n, feature_dim)`, not normalised.

    Returns:
        `(n, embedding_dim)` float32 unit vectors.
    """

    def __init__(
        self,
        embedding_dim: int = 256,
        hidden_dim: int = 512,
        depth: int = 1,
        dropout: float = 0.1,
        input_dropout: float = 0.0,
        form: str = "residual",
        seed: int = 0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "embedding_dim": embedding_dim,
            "hidden_dim": hidden_dim,
            "depth": depth,
            "dropout": dropout,
            "input_dropout": input_dropout,
            "form": form,
            "seed": seed,
        }
        self.embedding_dim = embedding_dim
        self.residual = form == "residual"
        seeds = iter(range(seed * 1000, seed * 1000 + 1000))

        # === Layers ===
        self.standardise = Standardise(name="standardise")
        self.input_dropout = Dropout(input_dropout, next(seeds))
        if self.residual:
            self.blocks = self._residual_blocks(hidden_dim, depth, dropout, seeds)
            self.enter = _dense(hidden_dim, "enter", seeds) if depth else None
        else:
            self.blocks = []
            self.enter = self._prototype(embedding_dim, dropout, seeds)
        self.project = (
            _dense(embedding_dim, "project", seeds) if self.residual else None
        )

    def _residual_blocks(self, width, depth, dropout, seeds) -> list:
        return [
            keras.Sequential(
                [
                    layers.LayerNormalization(epsilon=1e-5),
                    layers.Activation("gelu"),
                    Dropout(dropout, next(seeds)),
                    _dense(width, "dense", seeds),
                ],
                name=f"block_{index}",
            )
            for index in range(depth)
        ]

    def _prototype(self, width, dropout, seeds) -> keras.Sequential:
        return keras.Sequential(
            [
                _dense(width, "dense_0", seeds),
                layers.Activation("gelu"),
                layers.LayerNormalization(),
                _dense(width, "dense_1", seeds),
                Dropout(dropout, next(seeds)),
                layers.LayerNormalization(),
            ],
            name="prototype",
        )

    def build(self, input_shape: tuple) -> None:
        """Creates all weights for features of `input_shape[-1]` numbers."""
        self.standardise.build(input_shape)
        self.input_dropout.build(input_shape)
        shape = tuple(input_shape)
        if self.enter is not None:
            self.enter.build(shape)
            shape = self.enter.compute_output_shape(shape)
        for block in self.blocks:
            block.build(shape)
        if self.project is not None:
            self.project.build(shape)

    def call(self, features, training: bool = False):
        """`(n, feature_dim)` features to `(n, embedding_dim)` unit vectors."""
        x = self.standardise(ops.cast(features, "float32"))
        x = self.input_dropout(x, training=training)
        if self.enter is not None:
            x = self.enter(x) if self.residual else self.enter(x, training=training)
        for block in self.blocks:
            x = x + block(x, training=training)
        if self.project is not None:
            x = self.project(x)
        return unit_vectors(x)

    # === Config ===
    def get_config(self) -> dict:
        """Settings that build the same head again."""
        return super().get_config() | self.settings


def _dense(width: int, name: str, seeds) -> layers.Dense:
    start = keras.initializers.GlorotUniform(seed=next(seeds))
    return layers.Dense(width, kernel_initializer=start, name=name)


def unit_vectors(x):
    """`(n, dim)` to float32 vectors of length one; a zero vector stays zero."""
    x = ops.cast(x, "float32")
    return x * ops.rsqrt(ops.maximum(ops.sum(x * x, axis=-1, keepdims=True), 1e-12))


@keras.saving.register_keras_serializable(package="twinlens")
class UnitHead(layers.Layer):
    """`(n, dim)` features to unit vectors, and nothing else: no training needed."""

    def call(self, features, training: bool = False):
        """`(n, dim)` to `(n, dim)` float32 unit vectors."""
        return unit_vectors(features)


@keras.saving.register_keras_serializable(package="twinlens")
class Similarity(layers.Layer):
    """Cosines times a learned scale (1 / temperature), plus a bias where wanted.

    Args:
        temperature: at the start.
        bias: at the start; `None` for none.
        learn: whether scale and bias train.
        max_scale: which the scale never exceeds.

    Call arguments:
        images, texts: unit vectors, `(n, dim)` and `(m, dim)`.

    Returns:
        `(n, m)` float32 logits.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        bias: float | None = None,
        learn: bool = True,
        max_scale: float = MAX_SCALE,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.temperature, self.bias_start, self.learn = temperature, bias, learn
        self.max_scale = max_scale

    def build(self, input_shape: tuple | None = None) -> None:
        """Creates the logarithm of the scale, and the bias."""
        start = keras.initializers.Constant(float(np.log(1 / self.temperature)))
        self.log_scale = self.add_weight(
            shape=(), initializer=start, trainable=self.learn, name="log_scale"
        )
        self.bias = None
        if self.bias_start is not None:
            start = keras.initializers.Constant(self.bias_start)
            self.bias = self.add_weight(
                shape=(), initializer=start, trainable=self.learn, name="bias"
            )

    def scale(self):
        """The scale in use: `()` float32, at most `max_scale`."""
        return ops.minimum(ops.exp(self.log_scale), self.max_scale)

    def call(self, images, texts):
        """`(n, m)` logits of unit vectors `(n, dim)` and `(m, dim)`."""
        logits = self.scale() * ops.matmul(images, ops.transpose(texts))
        return logits if self.bias is None else logits + self.bias

    def get_config(self) -> dict:
        """Settings that build the same layer again."""
        return super().get_config() | {
            "temperature": self.temperature,
            "bias": self.bias_start,
            "learn": self.learn,
            "max_scale": self.max_scale,
        }
