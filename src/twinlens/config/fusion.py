"""Settings of composed retrieval: a reference picture and a wish as one query."""

from typing import Literal

from twinlens.config.section import Section, setting


class FusionSettings(Section):
    """How a reference picture and a text become one query."""

    name: Literal["", "sum", "combiner", "attention", "image", "text"] = setting(
        "",
        "of data with triplets: weighted sum, CLIP4Cir's combiner, additive attention; "
        "image, text: one side alone; empty: pairs, nothing to fuse",
    )
    hidden_dim: int = setting(128, "numbers a place or word has inside", ge=1)
    place_dim: int = setting(32, "numbers a place adds to a picture's vector", ge=1)
    attention_dim: int = setting(
        48, "attention: numbers in which places and words are compared", ge=1
    )
    rounds: int = setting(1, "attention: of looks at places and words", ge=1)
    combiner_dim: int = setting(
        512, "combiner: width of its network, whose dropout is 0.5", ge=1
    )
    drop_image: float = setting(
        0.1,
        "of queries in training that lose their picture: text alone works",
        ge=0,
        lt=1,
    )
    together: str = setting(
        "", "attribute whose triplets stand together in batches: hard negatives"
    )
    together_count: int = setting(8, "of one value that stand together", ge=1)
