"""CLIP, MetaCLIP 2 and SigLIP as text encoders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from twinlens.encoders.bert_weights import SETTING
from twinlens.encoders.clip_families import (
    BLOCK,
    CLIP_FAMILIES,
    LAYER,
    ClipFamily,
    config_of,
    open_folder,
)
from twinlens.encoders.folders import (
    check_vocabulary,
    is_hugging_face,
    tokenizer_config,
)
from twinlens.encoders.pooling import LastToken
from twinlens.encoders.presets import from_preset, refuse_random
from twinlens.encoders.sentence_pieces import sentence_pieces
from twinlens.encoders.text_network import Casing, TextNetwork, tokens_digest
from twinlens.encoders.transformer import (
    Size,
    block_end,
    copy_parts,
    fill_parts,
    norm,
    pre_norm_blocks,
)

CLIP_WORD = (  # of OpenAI's tokenizer; GPT-2's, which KerasHub has, joins digits
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}"
    r"|[^\s\p{L}\p{N}]+"
)
SPACE = r"[\s\p{Z}]+"
PUNCTUATION = r"[!-/:-@\[-`{-~]"  # Python's `string.punctuation`


def clip_texts(name: str, weights: str) -> TextNetwork:
    """The text tower of a pair.

    Args:
        name: one of `CLIP_FAMILIES`.
        weights: KerasHub preset, or a local folder of Hugging Face or KerasHub.

    Raises:
        InputError: weights that cannot be had, or belong to another network.
    """
    family = CLIP_FAMILIES[name]
    refuse_random(name, weights, SETTING)
    if is_hugging_face(weights, SETTING):
        tower, tokenizer, lowercase = _from_folder(name, family, Path(weights))
    else:
        tower, tokenizer, lowercase = _from_preset(family, weights)
    lowercase = lowercase and name != "metaclip_2"
    clean = {"clip": clip_words, "siglip": canonical}.get(name)
    start = () if family.is_siglip else (tokenizer.start_token_id,)
    rules = f"{type(tokenizer).__name__} lower {lowercase} {name}"
    return TextNetwork(
        inputs=tower.inputs,
        states=tower.states,
        tokenizer=_after(clean, tokenizer),
        start=start,
        end=(tokenizer.end_token_id,),
        pad_id=tokenizer.pad_token_id,
        vocabulary=tokens_digest([rules, *tokenizer.get_vocabulary()]),
        longest=tower.longest,
        length=tower.longest if family.is_siglip else 0,
        casing=Casing(lowercase),
        own=tower.own,
        block_end=block_end(len(tower.blocks), "projection"),
    )


# === Texts as the makers cleaned them ===


def clip_words(texts: tf.Tensor) -> tf.Tensor:
    """`(n,)` strings with line ends around what OpenAI's tokenizer keeps apart.

    KerasHub's splits at GPT-2's words: with digits together, and `'s` behind a space
    apart.
    """
    import tensorflow_text

    texts = tensorflow_text.normalize_utf8(texts, "NFC")
    texts = tf.strings.regex_replace(texts, SPACE, " ")
    return tf.strings.regex_replace(texts, CLIP_WORD, "\n\\0\n")


def canonical(texts: tf.Tensor) -> tf.Tensor:
    """`(n,)` strings without punctuation and needless spaces.

    Reference:
        Zhai et al. 2023, https://arxiv.org/abs/2303.15343; big_vision,
        `prompt_engineering.canonicalize_text`.
    """
    texts = tf.strings.regex_replace(texts, PUNCTUATION, "")
    return tf.strings.strip(tf.strings.regex_replace(texts, SPACE, " "))


def _after(clean: Callable | None, tokenizer: Callable) -> Callable:
    return tokenizer if clean is None else lambda texts: tokenizer(clean(texts))


# === The network ===


class _Tower:
    """A text tower from random weights, with its parts."""

    def __init__(self, family: ClipFamily, config: dict[str, Any], dim: int) -> None:
        import keras_hub

        size, siglip = Size.of(config), family.is_siglip
        self.longest = config["max_position_embeddings"]
        self.embedding = keras_hub.layers.TokenAndPositionEmbedding(
            config["vocab_size"], self.longest, size.dim, name="embeddings"
        )
        self.blocks = pre_norm_blocks(size, causal=not siglip)
        self.last = norm(size, "norm")
        self.project = layers.Dense(dim, use_bias=siglip, name="projection")

        names = ("token_ids", "padding_mask")
        self.inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
        x = self.embedding(self.inputs["token_ids"])
        states = []
        for block in self.blocks:
            x = block(x)
            states.append(x)
        x = self.last(x)
        self.states = [*states[:-1], x]
        mask = self.inputs["padding_mask"]
        end = x[:, -1, :] if siglip else LastToken(name="end")(x, mask)
        self.own = self.project(end)

    @property
    def tables(self) -> tuple:
        """Of tokens, of positions."""
        inner = self.embedding
        return (
            inner.token_embedding.embeddings,
            inner.position_embedding.position_embeddings,
        )


def _from_folder(name: str, family: ClipFamily, folder: Path) -> tuple:
    opened = open_folder(name, folder, "text", family.vocabulary, SETTING)
    config, found = opened.config, opened.found
    dim = opened.projection_dim
    if family.is_siglip:
        dim = config.get("projection_size") or config["hidden_size"]
    tower = _Tower(family, config, dim)
    for table, kind in zip(tower.tables, ("token", "position"), strict=True):
        tensor = f"text_model.embeddings.{kind}_embedding.weight"
        found.assign(table, found.tensor(tensor), tensor)
    for number, block in enumerate(tower.blocks):
        fill_parts(block, found, LAYER.format("text", number), BLOCK)
    found.fill(tower.last, "text_model.final_layer_norm")
    head = "text_model.head" if family.is_siglip else "text_projection"
    found.fill(tower.project, head)
    tokenizer = _tokenizer(family, folder)
    check_vocabulary(tokenizer, config, folder, SETTING)
    said = tokenizer_config(str(folder), SETTING)
    return tower, tokenizer, said.get("do_lower_case", True)


def _tokenizer(family: ClipFamily, folder: Path):
    import keras_hub

    tokenizer_class = getattr(keras_hub.models, f"{family.classes}Tokenizer")
    files = [folder / name for name in family.vocabulary]
    if len(files) == 2:
        return tokenizer_class(vocabulary=str(files[0]), merges=str(files[1]))
    return sentence_pieces(tokenizer_class, files[0].read_bytes())


def _from_preset(family: ClipFamily, weights: str) -> tuple:
    roles = ["Backbone", "Tokenizer"]
    classes = {role: family.classes + role for role in roles}
    found = from_preset(classes, weights, SETTING)
    backbone, tokenizer = found["Backbone"], found["Tokenizer"]
    theirs = backbone.text_encoder
    siglip = family.is_siglip
    project = theirs.head if siglip else backbone.text_projection
    tower = _Tower(family, config_of(theirs), project.kernel.shape[-1])
    tokens, positions = tower.tables
    tokens.assign(theirs.embedding.token_embedding.embeddings)
    place = theirs.embedding.position_embedding
    positions.assign(place.embeddings if siglip else place.position_embeddings)
    for block, other in zip(tower.blocks, theirs.encoder_layers, strict=True):
        copy_parts(block, other, family.theirs)
    copy_parts(tower.last, theirs.post_layer_norm if siglip else theirs.layer_norm)
    copy_parts(tower.project, project)
    return tower, tokenizer, True
