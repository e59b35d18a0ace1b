"""The data of an experiment: its table, its encoders, the features of both."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from twinlens.backend import TENSORFLOW, backend, need_tensorflow
from twinlens.config import Config
from twinlens.data.table import CaptionData, load
from twinlens.data.triplets import TRIPLET_READERS
from twinlens.encoders import ImageEncoder, TextEncoder, image_encoder, text_encoder
from twinlens.encoders.base import weights_digest
from twinlens.encoders.random_text import RandomSize
from twinlens.encoding_process import encoded_apart
from twinlens.errors import InputError
from twinlens.features import Features, encode_images, encode_texts
from twinlens.model import DualEncoder
from twinlens.training.pairs import PairFeatures, check_label, pair_features
from twinlens.training.raw import RawPairs, raw_pairs

CALIBRATION_PICTURES = 64  # enough for statistics over pictures and places
SHOWN = 10  # broken pictures named in an error


@dataclass(frozen=True)
class Experiment:
    """Everything that the settings name, made when it is first used.

    Example:
        ```python
        experiment = Experiment(load_config("experiments/flickr8k.toml"))
        experiment.data.table          # one row per picture-caption pair
        pairs = experiment.pairs("val")
        ```
    """

    config: Config

    @cached_property
    def data(self) -> CaptionData:
        """The caption table and what was wrong with it.

        Raises:
            InputError: the reader gives triplets, or the source cannot be read.
        """
        settings = self.config.data
        if settings.reader in TRIPLET_READERS:
            raise InputError(
                f"The reader {settings.reader!r} gives triplets of a reference, a "
                "wish and a target; this needs pictures with captions. Set "
                "data.reader to one that gives these, for example table."
            )
        return load(
            settings.reader,
            settings.path,
            images=settings.images or None,
            captions=settings.captions or None,
            columns=settings.columns or None,
            split_fractions=settings.split_fractions,
            max_images=settings.max_images or None,
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row per picture-caption pair."""
        return self.data.table

    @cached_property
    def image_encoder(self) -> ImageEncoder:
        """The frozen picture encoder; random ones look at some training pictures."""
        need_tensorflow("Encoders")
        training = self.table.loc[self.table["split"] == "train", "image_path"].unique()
        some = training[:: max(1, len(training) // CALIBRATION_PICTURES)]
        settings = self.config.image_encoder.model_dump()
        return image_encoder(**settings, corpus=tuple(some[:CALIBRATION_PICTURES]))

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The frozen text encoder; random ones read the training captions' words."""
        need_tensorflow("Encoders")
        settings = self.config.text_encoder.model_dump()
        size = RandomSize(**{f.name: settings.pop(f.name) for f in fields(RandomSize)})
        training = self.table.loc[self.table["split"] == "train", "caption"]
        kept = Path(self.config.cache.path) / "vocabularies"
        return text_encoder(**settings, size=size, corpus=training, vocabularies=kept)

    @cached_property
    def images(self) -> Features:
        """Features of every picture.

        Raises:
            InputError: more pictures are broken than the settings allow.
        """
        if backend() != TENSORFLOW:
            return self._encoded_apart[0]
        first = self.table.drop_duplicates("image_id")
        return self._encode(
            dict(zip(first["image_id"], first["image_path"], strict=True))
        )

    @cached_property
    def texts(self) -> Features:
        """Features of every distinct caption."""
        if backend() != TENSORFLOW:
            return self._encoded_apart[1]
        cache = self.config.cache
        return encode_texts(
            self.text_encoder,
            self.table["caption"],
            cache=cache.path,
            dtype=cache.dtype,
            batch_size=cache.text_batch_size,
        )

    @cached_property
    def _encoded_apart(self) -> tuple[Features, Features]:
        """Features of pictures and captions, where Keras has another backend."""
        return encoded_apart(self.config)

    @property
    def broken_images(self) -> pd.DataFrame:
        """Pictures without features: `image_id`, `reason`."""
        broken = self.images.errors != ""
        return pd.DataFrame(
            {"image_id": self.images.ids[broken], "reason": self.images.errors[broken]}
        )

    def pairs(self, split: str) -> PairFeatures:
        """The pairs of one split.

        Raises:
            InputError: the split has fewer than two pictures.
        """
        self.check_pooling()
        label = self._label(split)  # before anything is encoded
        table = self.table[self.table["split"] == split]
        pairs = pair_features(table, self.images, self.texts, label)
        if len(pairs) < 2:
            counts = self.table.groupby("split")["image_id"].nunique().to_dict()
            raise InputError(
                f"The split {split!r} has {len(pairs)} usable pictures; at least two "
                f"are needed. Pictures by split: {counts}. Choose another split "
                "(evaluation.split) or other data.split_fractions."
            )
        return pairs

    def check_pooling(self) -> None:
        """Refuses features of tokens, before anything is encoded.

        Raises:
            InputError: an encoder's pooling is `"tokens"`.
        """
        for kind in ("image_encoder", "text_encoder"):
            if getattr(self.config, kind).pooling == "tokens":
                raise InputError(
                    f"{kind}.pooling is 'tokens', but these heads take one vector. "
                    "Leave it at 'auto'; tokens are for heads that fuse."
                )

    def anew(self) -> "Experiment":
        """The same data, already read, with encoders of its own."""
        other = type(self)(self.config)
        other.__dict__["data"] = self.data
        return other

    def encoders_of(self, model: DualEncoder) -> tuple[ImageEncoder, TextEncoder]:
        """Picture and text encoder with the towers of a fine-tuned model.

        Args:
            model: from now on frozen.
        """
        found = []
        for name in ("image", "text"):
            tower = getattr(model, f"{name}_model")
            tower.trainable = False
            encoder = getattr(self, f"{name}_encoder")
            description = encoder.description | {"weights": weights_digest(tower)}
            found.append(replace(encoder, model=tower, description=description))
        return tuple(found)

    def seen_by(self, model: DualEncoder, split: str) -> "Experiment":
        """One split of the same data, encoded by a fine-tuned model.

        Args:
            model: from now on frozen.
            split: no other pictures and captions are encoded.
        """
        other = Experiment(self.config)
        table = self.table[self.table["split"] == split]
        other.__dict__["data"] = replace(self.data, table=table)
        encoders = self.encoders_of(model)
        other.__dict__["image_encoder"], other.__dict__["text_encoder"] = encoders
        return other

    def raw_pairs(self, split: str) -> RawPairs:
        """The pairs of one split as files and texts, without broken pictures."""
        label = self._label(split)
        table = self.table[self.table["split"] == split]
        return raw_pairs(table, self.broken_images["image_id"], label)

    def _label(self, split: str) -> str:
        """The attribute that makes pairs right answers of each other in training."""
        label = self.config.loss.positives if split == "train" else ""
        if label:
            check_label(self.table, label)
        return label

    def _encode(self, paths: dict[str, str]) -> Features:
        """Features of pictures by id, unless too many are broken."""
        cache = self.config.cache
        features = encode_images(
            self.image_encoder,
            paths,
            cache=cache.path,
            dtype=cache.dtype,
            views=cache.views,
            flip=cache.flip,
            batch_size=cache.batch_size,
        )
        self._refuse_too_many_broken(features, paths)
        return features

    def _refuse_too_many_broken(self, features: Features, paths: dict) -> None:
        broken = [row for row, error in enumerate(features.errors) if error]
        allowed = self.config.data.max_broken_fraction
        if len(broken) <= allowed * len(paths):
            return
        lines = [f"  {features.errors[row]}" for row in broken[:SHOWN]]
        more = f"\n  … and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise InputError(
            f"{len(broken)} of {len(paths)} pictures are broken, more than "
            f"data.max_broken_fraction = {allowed:g} allows:\n"
            + "\n".join(lines)
            + more
            + f"\nAll of them: {features.folder / 'ids.parquet'}. Repair or remove "
            "them, or allow more."
        )
