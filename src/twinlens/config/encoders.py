"""Settings of the encoders of pictures and of texts."""

from typing import Literal

from twinlens.config.section import Section, setting


class ImageEncoderSettings(Section):
    """The network that turns pictures into features."""

    name: str | tuple[str, ...] = setting(
        "inception_v3",
        "network, or several to join; NAME:LAYER taps one, hub:HANDLE_OR_PATH",
    )
    weights: str | tuple[str, ...] = setting(
        "imagenet", "preset, path, or 'none' for random weights; one for each network"
    )
    layer: str | tuple[str, ...] = setting(
        "", "inner layer to tap, or several to join; empty: the last one"
    )
    pooling: Literal["auto", "avg", "max", "gem", "cls", "tokens", "projection"] = (
        setting(
            "auto",
            "over places; gem: cubic generalised mean; auto: what suits the network",
        )
    )
    grid: int = setting(
        0,
        "with pooling 'tokens': places a side, each the mean of those it covers; "
        "0: all there are",
        ge=0,
    )
    image_size: int = setting(
        0, "pixels a side; 0: what the network was trained at", ge=0
    )
    resize: Literal["stretch", "pad"] = setting(
        "stretch", "to the square: stretch, or pad to keep the aspect"
    )
    dtype: Literal["float32", "bfloat16"] = setting(
        "float32", "of the computation; bfloat16 is faster where the CPU has it"
    )
    seed: int = setting(0, "of random weights")
    segment: str = setting("", "cut products out: grabcut, mask_rcnn:HANDLE_OR_PATH")
    segment_score: float = setting(0.5, "mask_rcnn: of a detection", ge=0, le=1)
    segment_classes: tuple[int, ...] = setting((), "mask_rcnn: which; empty: all")


class TextEncoderSettings(Section):
    """The network that turns captions into features."""

    name: str = setting("bert", "which network")
    weights: str = setting(
        "bert_base_en_uncased", "preset, local folder, or 'none' for a random BERT"
    )
    preprocessor: str = setting(
        "", "SavedModel from texts to tokens, with a name of the form 'hub:…'"
    )
    pooling: Literal["auto", "pooler", "cls", "mean", "max", "tokens", "projection"] = (
        setting(
            "auto",
            "over tokens; auto: what the weights were trained for, else the mean",
        )
    )
    layer: int | tuple[int, ...] = setting(
        -1, "which transformer layer, or several to join; -1: the last one"
    )
    sequence_length: int = setting(64, "tokens; longer captions are cut", ge=3, le=512)
    dtype: Literal["float32", "bfloat16"] = setting("float32", "of the computation")
    seed: int = setting(0, "of random weights")
    vocabulary_size: int = setting(
        2000, "tokens, with weights 'none'; commonest words of tfidf", ge=50
    )
    num_layers: int = setting(2, "transformer layers, with weights 'none'", ge=1)
    num_heads: int = setting(4, "attention heads, with weights 'none'", ge=1)
    hidden_dim: int = setting(
        128, "width, with weights 'none'; numbers that tfidf's SVD keeps", ge=4
    )
    dropout: float = setting(0.0, "in phase 2, with weights 'none'", ge=0, lt=1)


class PairSettings(Section):
    """Two encoders that were trained together; sets both, with their projections."""

    name: Literal["", "clip", "metaclip_2", "siglip"] = setting(
        "", "which pair; empty: the encoders as they are set"
    )
    weights: str = setting("", "KerasHub preset, or local Hugging Face folder")
