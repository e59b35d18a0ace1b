"""The data of composed retrieval: its triplets, its encoders, the features of both."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from twinlens.backend import need_tensorflow
from twinlens.config import Config
from twinlens.data.readers import READERS
from twinlens.data.table import reader_named
from twinlens.data.triplets import (
    ALL,
    ORIGINAL_SPLIT,
    TRIPLET_READERS,
    VAL_SPLIT,
    TripletData,
    load_triplets,
)
from twinlens.encoders import ImageEncoder, TextEncoder
from twinlens.errors import InputError
from twinlens.experiment import Experiment
from twinlens.features import Features
from twinlens.model import DualEncoder
from twinlens.training.raw_triplets import RawTriplets, raw_triplets
from twinlens.training.triplets import TripletFeatures, triplet_features

GALLERIES = {"original": ORIGINAL_SPLIT, "queries": VAL_SPLIT}


@dataclass(frozen=True)
class ComposedExperiment(Experiment):
    """What the settings name where a fusion is to be trained.

    The pictures of each split are encoded on their own: of train those of its
    triplets, of val those of its triplets and their gallery, of a split that is
    measured those of the gallery that `evaluation.gallery` names.

    Example:
        ```python
        experiment = ComposedExperiment(load_config("experiments/edited_scenes.toml"))
        experiment.data.triplets            # one row per reference, wish and target
        train = experiment.pairs("train")   # their features
        ```
    """

    _encoded: dict[tuple[str, str], Features] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def data(self) -> TripletData:
        """The triplets and what was wrong with them."""
        need_tensorflow("Fusions")
        settings = self.config.data
        return load_triplets(
            settings.reader,
            settings.path,
            images=settings.images or None,
            split_fractions=settings.split_fractions,
            max_triplets=settings.max_images or None,
        )

    @cached_property
    def paths(self) -> dict[str, str]:
        """File of each picture."""
        pictures = self.data.pictures
        return dict(zip(pictures["image_id"], pictures["image_path"], strict=True))

    @cached_property
    def table(self) -> pd.DataFrame:
        """A caption table of targets and wishes: what encoders are fitted on."""
        triplets = self.data.triplets
        return pd.DataFrame(
            {
                "image_id": triplets["target_id"],
                "image_path": triplets["target_id"].map(self.paths),
                "caption": triplets["wish"],
                "split": triplets["split"],
            }
        )

    @property
    def images(self) -> Features:
        """Features of the training pictures."""
        return self.images_of("train", "")

    def images_of(self, split: str, kind: str) -> Features:
        """Features of a split's references and targets, and of a gallery.

        Args:
            split: which triplets.
            kind: of gallery; empty: none.
        """
        if (split, kind) not in self._encoded:
            paths = {each: self.paths[each] for each in self._named(split, kind)}
            self._encoded[split, kind] = self._encode(paths)
        return self._encoded[split, kind]

    def pairs(self, split: str) -> TripletFeatures:
        """The triplets of train, or of val with the gallery that is watched.

        Raises:
            InputError: the split has no usable triplet.
        """
        return self.triplets(split, "" if split == "train" else self._kind("queries"))

    def searched(self, split: str) -> tuple[str, TripletFeatures]:
        """The gallery that is measured, by its name, and the triplets of a split."""
        kind = self._kind(self.config.evaluation.gallery)
        return kind, self.triplets(split, kind)

    def triplets(self, split: str, kind: str) -> TripletFeatures:
        """The triplets of a split on the features of its pictures.

        Args:
            split: which.
            kind: of gallery; empty: none.

        Raises:
            InputError: the split has no usable triplet.
        """
        table = self._triplets_of(split)
        found = triplet_features(
            table,
            self.images_of(split, kind),
            self.texts,
            (self.image_encoder.feature_shape, self.texts.values.shape[1:]),
            self._galleries(table, split, kind),
            self.config.fusion.together if split == "train" else "",
            self.data.keeps_reference,
        )
        if not len(found):
            raise InputError(
                f"All {len(table)} triplets of the split {split!r} have a broken "
                "picture. Repair or replace the pictures."
            )
        return found

    def raw_pairs(self, split: str) -> RawTriplets:
        """The triplets of one split as files and texts, without broken pictures."""
        kind = "" if split == "train" else self._kind("queries")
        features = self.images_of(split, kind)
        good = features.ids[features.errors == ""]
        table = self._triplets_of(split)
        return raw_triplets(
            table,
            {each: self.paths[each] for each in good},
            self._galleries(table, split, kind),
            self.config.fusion.together if split == "train" else "",
            self.data.keeps_reference,
        )

    @property
    def broken_images(self) -> pd.DataFrame:
        """Pictures without features among those encoded: `image_id`, `reason`."""
        frames = [
            pd.DataFrame({"image_id": each.ids, "reason": each.errors})
            for each in (self.images, *self._encoded.values())
        ]
        found = pd.concat(frames, ignore_index=True).drop_duplicates("image_id")
        return found[found["reason"] != ""].reset_index(drop=True)

    def check_pooling(self) -> None:
        """Nothing to refuse: fusions take vectors and tokens."""

    def seen_by(self, model: DualEncoder, split: str) -> "ComposedExperiment":
        """One split of the same data, encoded by a fine-tuned model.

        Args:
            model: from now on frozen.
            split: no other pictures and wishes are encoded.
        """
        return self.with_encoders(*self.encoders_of(model), self._triplets_of(split))

    def with_encoders(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        triplets: pd.DataFrame | None = None,
    ) -> "ComposedExperiment":
        """The same data with other encoders.

        Args:
            image_encoder: frozen.
            text_encoder: frozen.
            triplets: no other pictures of triplets and wishes are encoded; all by
                default.
        """
        other = ComposedExperiment(self.config)
        triplets = self.data.triplets if triplets is None else triplets
        other.__dict__["data"] = replace(self.data, triplets=triplets)
        other.__dict__["image_encoder"] = image_encoder
        other.__dict__["text_encoder"] = text_encoder
        return other

    def _triplets_of(self, split: str) -> pd.DataFrame:
        triplets = self.data.triplets
        found = triplets[triplets["split"] == split].reset_index(drop=True)
        if found.empty:
            counts = triplets["split"].value_counts().to_dict()
            raise InputError(
                f"There are no triplets of the split {split!r}; by split: {counts}. "
                "Choose another one."
            )
        return found

    def _galleries(
        self, table: pd.DataFrame, split: str, kind: str
    ) -> dict[str, np.ndarray]:
        """By category of some triplets, ids of the pictures they search; or none."""
        categories = table["category"].unique() if kind else []
        return {each: self.data.gallery(kind, split, each) for each in categories}

    def _kind(self, wanted: str) -> str:
        """The name of a gallery that the data has."""
        return ALL if ALL in self.data.galleries else GALLERIES[wanted]

    def _named(self, split: str, kind: str) -> np.ndarray:
        table = self._triplets_of(split)
        named = [table["reference_id"], table["target_id"]]
        if kind:
            rows = self.data.galleries[kind]
            named.append(rows["image_id"][rows["split"] == split])
        return pd.unique(pd.concat(named))


def open_experiment(config: Config) -> Experiment:
    """The experiment that the settings describe: of pairs, or of triplets.

    Raises:
        InputError: a fusion without triplets, triplets without a fusion, or an
            unknown reader.
    """
    reader, name = config.data.reader, config.fusion.name
    reader_named(reader, READERS | TRIPLET_READERS)
    if (reader in TRIPLET_READERS) == bool(name):
        return ComposedExperiment(config) if name else Experiment(config)
    if name:
        raise InputError(
            f"fusion.name is {name!r}, but the reader {reader!r} gives pictures with "
            "captions. A fusion learns from triplets: set data.reader to one of "
            f"{', '.join(TRIPLET_READERS)}, or leave fusion.name empty."
        )
    raise InputError(
        f"The reader {reader!r} gives triplets of a reference, a wish and a target. "
        "Say how the first two become one query: fusion.name=attention, combiner or "
        "sum."
    )
