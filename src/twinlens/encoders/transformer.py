"""Transformers over patches, from KerasHub's layers: built, wired and filled."""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import keras
from keras import layers, ops

from twinlens.encoders.bert_weights import ACTIVATIONS as BERT_ACTIVATIONS
from twinlens.encoders.checkpoint import Checkpoint
from twinlens.errors import InputError

BLOCK = (  # of KerasHub's block, in the order of the computation
    "layer_norm1",
    "self_attn",
    "layer_norm2",
    "mlp.fc1",
    "mlp.fc2",
)


@keras.saving.register_keras_serializable(package="twinlens")
def quick_gelu(x):
    """GELU by a sigmoid (Hendrycks and Gimpel 2016, arXiv 1606.08415), as CLIP's."""
    return x * ops.sigmoid(1.702 * x)


ACTIVATIONS = BERT_ACTIVATIONS | {"quick_gelu": quick_gelu}


@dataclass(frozen=True)
class Size:
    """Size of a transformer.

    Attributes:
        dim: numbers a token.
        num_layers, num_heads: of the network, of a layer.
        mlp_dim: width inside a layer.
        activation: Hugging Face's name.
        epsilon: of the layer normalisations.
    """

    dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    activation: str = "gelu"
    epsilon: float = 1e-6

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Size":
        """From what `config.json` says."""
        return cls(
            config["hidden_size"],
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["intermediate_size"],
            config["hidden_act"],
            config["layer_norm_eps"],
        )


@keras.saving.register_keras_serializable(package="twinlens")
class PatchTokens(layers.Layer):
    """Square patches of a picture as tokens, behind some learned ones.

    Args:
        patch_size: pixels a side.
        dim: numbers a token.
        prefix_tokens: learned tokens in front that have a position: class, and
            distillation.
        registers: learned tokens behind those, without a position.
        has_positions: whether positions are learned.
        use_bias: of the patches' map.

    Call arguments:
        pixels: `(n, size, size, 3)`.

    Returns:
        `(n, prefix_tokens + registers + (size // patch_size) ** 2, dim)`.

    Reference:
        Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929, section 3.1;
        registers: Darcet et al. 2024, https://arxiv.org/abs/2309.16588.
    """

    def __init__(
        self,
        patch_size: int,
        dim: int,
        prefix_tokens: int = 0,
        registers: int = 0,
        has_positions: bool = True,
        use_bias: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {
            "patch_size": patch_size,
            "dim": dim,
            "prefix_tokens": prefix_tokens,
            "registers": registers,
            "has_positions": has_positions,
            "use_bias": use_bias,
        }
        self.dim, self.patch_size = dim, patch_size
        self.prefix_tokens, self.registers = prefix_tokens, registers
        self.has_positions = has_positions
        self.patches = layers.Conv2D(
            dim,
            patch_size,
            strides=patch_size,
            use_bias=use_bias,
            dtype=self.dtype_policy,
            name="patches",
        )

    def build(self, input_shape: tuple) -> None:
        """Creates the patches' map, the learned tokens and their positions."""
        self.patches.build(input_shape)
        self.grid = (
            input_shape[1] // self.patch_size,
            input_shape[2] // self.patch_size,
        )
        counts = {"prefix": self.prefix_tokens, "register": self.registers}
        if self.has_positions:
            counts["position"] = self.prefix_tokens + self.grid[0] * self.grid[1]
        for name in ("prefix", "register", "position"):
            count = counts.get(name, 0)
            table = count and self.add_weight(
                shape=(1, count, self.dim), initializer="random_normal", name=name
            )
            setattr(self, name, table if count else None)

    def call(self, pixels):
        """`(n, size, size, 3)` to `(n, tokens, dim)`."""
        x = self.patches(pixels)
        rows, front = ops.shape(x)[0], self.prefix_tokens
        x = ops.reshape(x, (rows, -1, self.dim))
        if self.prefix is not None:
            x = ops.concatenate([ops.tile(self.prefix, (rows, 1, 1)), x], axis=1)
        if self.position is not None:
            x = x + self.position
        if self.register is not None:
            registers = ops.tile(self.register, (rows, 1, 1))
            x = ops.concatenate([x[:, :front], registers, x[:, front:]], axis=1)
        return x

    def get_config(self) -> dict:
        """Settings that build the same layer again."""
        return super().get_config() | self.settings


# === Wiring ===


def pre_norm_blocks(size: Size, causal: bool = False) -> list[layers.Layer]:
    """Transformer layers that normalise before attention and before the network.

    Args:
        size: of the transformer.
        causal: whether a token sees only those before it.
    """
    from keras_hub.src.models.siglip.siglip_layers import SigLIPEncoderLayer

    return [
        SigLIPEncoderLayer(
            size.dim,
            size.num_heads,
            size.mlp_dim,
            ACTIVATIONS[size.activation],
            use_causal_mask=causal,
            layer_norm_epsilon=size.epsilon,
            name=f"layer_{number}",
        )
        for number in range(size.num_layers)
    ]


def norm(size: Size, name: str) -> layers.LayerNormalization:
    """A layer normalisation beside the layers."""
    return layers.LayerNormalization(epsilon=size.epsilon, name=name)


def picture_transformer(
    name: str,
    image_size: int,
    tokens: PatchTokens,
    blocks: list[layers.Layer],
    norms: tuple[layers.Layer | None, layers.Layer],
    rotation: layers.Layer | None = None,
) -> keras.Model:
    """Wires a vision transformer.

    Args:
        name: of the model.
        image_size: pixels a side.
        tokens: from pixels to tokens.
        blocks: transformer layers.
        norms: before the first and behind the last of them.
        rotation: from pixels to the rotations of queries and keys (DINOv3).

    Returns:
        Keras model `(n, image_size, image_size, 3)` to `(n, tokens, dim)`.
    """
    inputs = keras.Input((image_size, image_size, 3), name="scaled_pixels")
    x = tokens(inputs)
    before, behind = norms
    more = {}
    if rotation is not None:
        prefix = tokens.prefix_tokens + tokens.registers
        more = {"position_embeddings": rotation(inputs), "num_prefix_tokens": prefix}
    if before is not None:
        x = before(x)
    for block in blocks:
        x = block(x, **more)
    return keras.Model(inputs, behind(x), name=name)


def block_end(num_layers: int, last: str) -> str:
    """Pattern of the layers that end a block: one block for each transformer layer.

    Args:
        num_layers: of the transformer.
        last: what stands behind them with weights belongs to the last block; its name.
    """
    return "|".join([*(f"layer_{number}" for number in range(num_layers - 1)), last])


# === Weights ===


def check_activation(name: str, where: str) -> None:
    """Refuses an activation that is not known here.

    Raises:
        InputError: names the known ones.
    """
    if name not in ACTIVATIONS:
        raise InputError(
            f"{where} has the activation {name!r}. Known: {', '.join(ACTIVATIONS)}."
        )


def fill_parts(
    layer: layers.Layer, found: Checkpoint, prefix: str, table: dict[str, str]
) -> None:
    """Copies a checkpoint's tensors into the parts of a layer.

    Args:
        layer: to fill.
        found: the tensors.
        prefix: stands before the names.
        table: from a part, `"mlp.fc1"`, to its name in the checkpoint.
    """
    for path, name in table.items():
        target, whole = attrgetter(path)(layer), prefix + name
        if isinstance(target, layers.Layer):
            found.fill(target, whole)
        else:
            found.assign(target, found.tensor(whole), whole)


def copy_parts(
    layer: layers.Layer, other: layers.Layer, theirs: tuple[str, ...] = ()
) -> None:
    """Copies the weights of KerasHub's layer into one of the same computation.

    Args:
        layer: to fill.
        other: whose weights are copied.
        theirs: what it calls `BLOCK`; empty for a layer of the same class.
    """
    if not theirs:
        layer.set_weights(other.get_weights())
        return
    for own, name in zip(BLOCK, theirs, strict=True):
        attrgetter(own)(layer).set_weights(attrgetter(name)(other).get_weights())
