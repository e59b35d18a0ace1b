"""What an exported model can be asked, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tensorflow as tf

from twinlens.export.collection import Collection
from twinlens.export.towers import Towers, unless_empty

EMBEDDING = {"embedding": "unit vectors of the shared space"}
FOUND = {
    "ids": "of items, best first; min(k, items) of them",
    "scores": "weighted cosines, by which answers are ordered",
    "titles": "of the items",
}
TEXTS = {"texts": "UTF-8, none of them empty"}
IMAGES = {"images": "contents of JPEG, PNG, GIF, BMP or WebP files, of any sizes"}
K = {"k": "answers to each query, 1 or more"}
TOKENS = {
    "token_ids": "what `tokenize` gives; what is behind a text's end is ignored",
    "padding_mask": "1 for a token, 0 behind a text's end",
}
PIXELS = {"pixels": "red, green, blue from 0 to 255, not scaled"}
STRINGS = tf.TensorSpec([None], tf.string)


@dataclass(frozen=True)
class Endpoint:
    """One thing that an exported model can be asked.

    Attributes:
        run: its graph code, from tensors by name to a dict of tensors.
        specs: of the inputs, in order.
        inputs, outputs: what each of them is, in words.
        reads_texts: whether it cuts texts into tokens.
    """

    run: Callable
    specs: tuple[tf.TensorSpec, ...]
    inputs: dict[str, str]
    outputs: dict[str, str]
    reads_texts: bool = False

    @cached_property
    def function(self) -> Any:
        """The endpoint, traced."""
        named = [
            tf.TensorSpec(spec.shape, spec.dtype, name)
            for spec, name in zip(self.specs, self.inputs, strict=True)
        ]
        function = tf.function(self.run, input_signature=named, autograph=False)
        return function.get_concrete_function()


def endpoints_of(
    towers: Towers, collection: Collection | None = None
) -> dict[str, Endpoint]:
    """All that a model can be asked, and its collection where there is one."""
    found = _text_endpoints(towers) | _image_endpoints(towers)
    if towers.has_fusion:
        found["compose"] = Endpoint(
            lambda images, texts: _embedding(
                towers,
                tf.concat([images, texts], axis=0),
                lambda: towers.compose(images, texts),
            ),
            (STRINGS, STRINGS),
            IMAGES | {"texts": "what should change, one for each picture; not empty"},
            EMBEDDING,
            reads_texts=True,
        )
    return found | (_search_endpoints(collection) if collection else {})


def _text_endpoints(towers: Towers) -> dict[str, Endpoint]:
    return {
        "encode_text": Endpoint(
            lambda texts: _embedding(towers, texts, lambda: towers.embed_texts(texts)),
            (STRINGS,),
            TEXTS,
            EMBEDDING,
            reads_texts=True,
        ),
        "tokenize": Endpoint(
            towers.tokens,
            (STRINGS,),
            TEXTS,
            {"token_ids": "of the longest text's length", "padding_mask": "1 and 0"},
            reads_texts=True,
        ),
        "encode_tokens": Endpoint(
            lambda token_ids, padding_mask: _embedding(
                towers,
                token_ids,
                lambda: towers.embed_tokens(token_ids, padding_mask),
            ),
            towers.tokens_spec,
            TOKENS,
            EMBEDDING,
        ),
    }


def _image_endpoints(towers: Towers) -> dict[str, Endpoint]:
    return {
        "encode_image": Endpoint(
            lambda images: _embedding(
                towers, images, lambda: towers.embed_pixels(towers.pixels(images))
            ),
            (STRINGS,),
            IMAGES,
            EMBEDDING,
        ),
        "encode_pixels": Endpoint(
            lambda pixels: _embedding(
                towers, pixels, lambda: towers.embed_pixels(pixels)
            ),
            (towers.pixels_spec,),
            PIXELS,
            EMBEDDING,
        ),
    }


def _search_endpoints(collection: Collection) -> dict[str, Endpoint]:
    k = tf.TensorSpec([], tf.int32)
    found = {
        "search_image": Endpoint(
            collection.search_images, (STRINGS, k), IMAGES | K, FOUND
        )
    }
    if collection.takes_texts:
        found["search_text"] = Endpoint(
            collection.search_texts, (STRINGS, k), TEXTS | K, FOUND, reads_texts=True
        )
    return found


def _embedding(
    towers: Towers, inputs: tf.Tensor, run: Callable[[], tf.Tensor]
) -> dict[str, tf.Tensor]:
    return {"embedding": unless_empty(inputs, run, towers.embedding_dim)}
