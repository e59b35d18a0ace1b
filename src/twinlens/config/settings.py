"""Every setting with its default, unit and reason, in one place."""

from typing import Literal

from pydantic import model_validator

from twinlens.config.encoders import (
    ImageEncoderSettings,
    PairSettings,
    TextEncoderSettings,
)
from twinlens.config.fusion import FusionSettings
from twinlens.config.search import IndexSettings, SearchSettings
from twinlens.config.section import Section, setting


class DataSettings(Section):
    """Where pictures and captions come from."""

    reader: str = setting("scenes", "format of the source; see `twinlens data --help`")
    path: str = setting("data/scenes", "folder or file of the source")
    images: str = setting("", "picture folder, where it is not the usual one")
    captions: str = setting("", "captions file, where it has not the usual name")
    columns: dict[str, str] = setting({}, "column names of a plain table")
    split_fractions: tuple[float, float, float] = setting(
        (0.8, 0.1, 0.1), "train, val, test by hash of the picture, if not given"
    )
    max_images: int = setting(0, "read only so many pictures; 0: all", ge=0)
    max_broken_fraction: float = setting(
        0.01, "more broken pictures than this stop the job", ge=0, le=1
    )


class CacheSettings(Section):
    """Features on disk."""

    path: str = setting("data/features", "folder of all caches")
    dtype: Literal["float32", "float16"] = setting("float32", "of stored features")
    views: int = setting(
        1, "views a picture: the plain one, then augmented ones", ge=1, le=64
    )
    flip: bool = setting(
        True, "augmented views may be mirrored; not where captions say left and right"
    )
    batch_size: int = setting(32, "pictures a forward pass", ge=1)
    text_batch_size: int = setting(128, "captions a forward pass, of like length", ge=1)


class HeadSettings(Section):
    """Projection heads: feature to embedding."""

    form: Literal["residual", "prototype"] = setting(
        "residual", "residual blocks, or Dense-GELU-LayerNorm-Dense of the prototype"
    )
    embedding_dim: int = setting(256, "of the shared space", ge=2)
    hidden_dim: int = setting(512, "width of the blocks", ge=1)
    depth: int = setting(1, "residual blocks; 0: a linear head", ge=0)
    dropout: float = setting(0.1, "in the blocks", ge=0, lt=1)
    input_dropout: float = setting(0.0, "on the standardised features", ge=0, lt=1)


class LossSettings(Section):
    """What training makes small."""

    name: Literal["info_nce", "supervised", "sigmoid", "soft_target", "triplet"] = (
        setting("info_nce", "CLIP, SupCon, SigLIP, soft targets, triplet (VSE++)")
    )
    positives: str = setting(
        "", "supervised: attribute whose equal values make pairs right answers"
    )
    temperature: float = setting(
        0.07, "at the start, learned from there (CLIP); sigmoid: 0.1", gt=0.0, le=10
    )
    label_smoothing: float = setting(0.0, "share of the target spread", ge=0, lt=1)
    margin: float = setting(0.2, "triplet: cosine wanted between hit and miss", gt=0)
    hardest: bool = setting(False, "triplet: hardest negative instead of the sum")


class TrainingSettings(Section):
    """What both phases have; the first ones with their own defaults."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_fraction: float
    patience: int
    weight_decay: float = setting(0.05, "AdamW; none on biases and norms", ge=0)
    schedule: Literal["cosine", "cyclic", "constant"] = setting(
        "cosine", "after the warm-up; cyclic is the first prototype's"
    )
    ema_decay: float = setting(
        0.0, "moving average of the weights, per step; 0: none", ge=0, lt=1
    )
    select_by: str = setting(
        "recall_sum", "metric on val for best checkpoint and early stopping"
    )
    checkpoint: Literal["best", "last"] = setting(
        "best", "which weights the run keeps; last never looks at val"
    )
    evaluate_every: int = setting(1, "epochs between evaluations on val", ge=1)


class Phase1Settings(TrainingSettings):
    """Training of the heads on cached features."""

    epochs: int = setting(40, "each shows every training picture once", ge=1)
    batch_size: int = setting(256, "pairs a step; every other pair is a negative", ge=2)
    learning_rate: float = setting(1e-3, "at its peak", gt=0)
    warmup_fraction: float = setting(0.05, "of all steps", ge=0, lt=1)
    patience: int = setting(10, "evaluations without a gain before stopping", ge=1)


class Phase2Settings(TrainingSettings):
    """Fine-tuning of encoders and heads together, on raw pictures and texts."""

    epochs: int = setting(3, "each shows every training picture once", ge=1)
    batch_size: int = setting(32, "pairs a forward and backward pass", ge=2)
    negatives: int = setting(
        0,
        "pairs that meet in a step, a multiple of batch_size; above it a gradient "
        "cache keeps the memory of one batch; 0: batch_size",
        ge=0,
    )
    learning_rate: float = setting(3e-4, "of the heads, at its peak", gt=0)
    image_learning_rate: float = setting(
        3e-5, "of the picture encoder; 0 locks it (LiT)", ge=0
    )
    text_learning_rate: float = setting(3e-5, "of the text encoder; 0 locks it", ge=0)
    image_frozen_blocks: int = setting(
        0, "first blocks of the picture encoder that stay as they are", ge=0
    )
    text_frozen_blocks: int = setting(
        0, "first blocks of the text encoder that stay as they are", ge=0
    )
    depth_decay: float = setting(
        1.0, "rate of a block relative to the block after it", gt=0, le=1
    )
    unfreeze_every: int = setting(
        0, "epochs until the next block learns too, from the last; 0: all do", ge=0
    )
    auxiliary_layer: str = setting(
        "", "inner layer of the picture encoder that gets a head and a loss of its own"
    )
    auxiliary_weight: float = setting(0.4, "of that loss beside the main one", gt=0)
    normalisation: Literal["auto", "frozen"] = setting(
        "auto",
        "batch normalisation: auto trains it where weights start random; frozen never, "
        "a quarter faster",
    )
    dtype: Literal["float32", "bfloat16"] = setting(
        "float32", "of the encoders' computation; heads and loss stay in float32"
    )
    warmup_fraction: float = setting(0.1, "of all steps", ge=0, lt=1)
    clip_norm: float = setting(1.0, "of the whole gradient; 0: none", ge=0)
    interpolation: float = setting(
        1.0,
        "how much is kept of the way from phase 1's weights to the trained ones; "
        "below 1 pretrained encoders forget less",
        gt=0,
        le=1,
    )
    crop: float = setting(
        0.5,
        "least share of a picture that a random crop keeps; 1: no crops",
        gt=0,
        le=1,
    )
    flip: bool = setting(True, "mirror; not where captions say left and right")
    colour: float = setting(
        0.2, "largest change of brightness, contrast, saturation", ge=0, lt=1
    )
    patience: int = setting(3, "evaluations without a gain before stopping", ge=1)


class EvaluationSettings(Section):
    """How a run is measured."""

    split: Literal["train", "val", "test"] = setting("test", "which pictures")
    ks: tuple[int, ...] = setting((1, 5, 10), "K of recall@K, success@K and nDCG@K")
    percents: tuple[float, ...] = setting((5.0,), "p of success@p%, of the gallery")
    average_views: bool = setting(
        False, "a picture is the mean of its cached views, not the plain one alone"
    )
    fold_size: int = setting(
        0, "pictures a fold (COCO 1K: 1000); 0: full gallery", ge=0
    )
    gallery: Literal["original", "queries"] = setting(
        "original",
        "composed: the published split, or references and targets only (VAL split)",
    )
    slices: tuple[str, ...] = setting((), "attributes to report apart")
    label: str = setting("", "attribute that makes pictures relevant to each other")
    bootstrap_samples: int = setting(1000, "for the intervals", ge=100)
    confidence: float = setting(0.95, "level of the intervals", gt=0.5, lt=1)


class Config(Section):
    """All settings of one experiment."""

    name: str = setting("experiment", "names the run folder")
    seed: int = setting(0, "of weights, order and dropout")
    runs: str = setting("experiments/runs", "folder of all runs")
    models: str = setting("models", "folder of the models that phase 2 leaves")
    data: DataSettings = DataSettings()
    pair: PairSettings = PairSettings()
    image_encoder: ImageEncoderSettings = ImageEncoderSettings()
    text_encoder: TextEncoderSettings = TextEncoderSettings()
    cache: CacheSettings = CacheSettings()
    head: HeadSettings = HeadSettings()
    fusion: FusionSettings = FusionSettings()
    loss: LossSettings = LossSettings()
    phase1: Phase1Settings = Phase1Settings()
    phase2: Phase2Settings = Phase2Settings()
    evaluation: EvaluationSettings = EvaluationSettings()
    index: IndexSettings = IndexSettings()
    search: SearchSettings = SearchSettings()

    @model_validator(mode="after")
    def _set_pair(self) -> "Config":
        """Writes the pair into the settings of both encoders."""
        if not self.pair.name:
            return self
        if not self.pair.weights:
            raise ValueError(
                f"pair.name is {self.pair.name!r}, but pair.weights is empty. Give a "
                "KerasHub preset or the path of a local Hugging Face folder"
            )
        both = self.pair.model_dump() | {"pooling": "projection"}
        for tower, inner in (("image_encoder", ""), ("text_encoder", -1)):
            found = getattr(self, tower).model_copy(update=both | {"layer": inner})
            object.__setattr__(self, tower, found)  # the section itself is frozen
        return self
