"""Edited scenes in FashionIQ's layout, so few that a whole job takes seconds."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny import tiny_settings, train, without_xla

from twinlens.data.edited_scenes import Families, read_edited_scenes
from twinlens.data.readers.fashioniq import CATEGORIES

FAMILIES = {
    "train": Families(6, 4, 6),
    "val": Families(1, 2, 1),  # FashionIQ's own val is made of train
    "test": Families(3, 4, 4),
}
PUBLISHED = {"train": "train", "test": "val"}  # our split and the publisher's


def draw_triplets(folder: Path) -> Path:
    """Draws FashionIQ's files: a family of scenes is of one category."""
    source = read_edited_scenes(folder / "drawn", image_size=32, families=FAMILIES)
    for name in ("captions", "image_splits", "images"):
        (folder / name).mkdir()
    pictures = source.pictures.assign(
        category=[_category(each) for each in source.pictures["image_id"]]
    )
    for row in pictures.itertuples():
        suffix = Path(row.image_path).suffix
        (folder / "images" / f"{row.image_id}{suffix}").symlink_to(row.image_path)
    for split, published in PUBLISHED.items():
        rows = source.rows[source.rows["split"] == split]
        for category in CATEGORIES:
            own = pictures[pictures["category"] == category]["image_id"]
            own = [each for each in own if each.startswith(split)]
            entries = [
                {
                    "candidate": row.reference_id,
                    "target": row.target_id,
                    "captions": [row.wish, "nothing else"],
                }
                for row in rows.itertuples()
                if row.reference_id in own
            ]
            name = f"{category}.{published}.json"
            _write(folder / "captions" / f"cap.{name}", entries)
            _write(folder / "image_splits" / f"split.{name}", own)
    return folder


def _category(image_id: str) -> str:
    return CATEGORIES[int(image_id.split("_")[1]) % 3]


def _write(path: Path, contents: list) -> None:
    path.write_text(json.dumps(contents), "utf-8")


def composed_settings(data: Path, folder: Path) -> list[str]:
    """Overrides: this data, the smallest encoders, attention over their tokens."""
    return [
        *tiny_settings(data, folder),
        "name=composed",
        "data.reader=fashioniq",
        "data.split_fractions=[0.6, 0.4, 0.0]",
        "image_encoder.pooling=tokens",
        "image_encoder.grid=2",
        "text_encoder.pooling=tokens",
        "fusion.name=attention",
        "fusion.hidden_dim=8",
        "fusion.place_dim=4",
        "fusion.attention_dim=4",
        "fusion.combiner_dim=8",
        "fusion.together=category",
        "fusion.together_count=3",
        "head.dropout=0.0",
        "phase1.epochs=2",
        "phase1.batch_size=8",
        "evaluation.ks=[1, 5, 10, 50]",
    ]


@pytest.fixture(scope="session")
def composed_home(tmp_path_factory):
    """A folder with the tiny triplets and their settings."""
    folder = tmp_path_factory.mktemp("composed")
    (folder / "data").mkdir()
    data = draw_triplets(folder / "data")
    settings = composed_settings(data, folder)
    return SimpleNamespace(folder=folder, data=data, settings=settings)


@pytest.fixture(scope="session")
def composed(composed_home):
    """The folder of a run of phase 1, what it said, and its evaluation."""
    with without_xla():
        said = train(composed_home.settings, report=True)
    assert said.code == 0, said.err
    folder = composed_home.folder / "runs" / "composed-phase1"
    evaluation = json.loads((folder / "evaluation.json").read_text("utf-8"))
    return SimpleNamespace(folder=folder, said=said, evaluation=evaluation)
