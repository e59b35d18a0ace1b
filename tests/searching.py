"""A searchable collection of drawn pictures."""

import pandas as pd
import pytest

from twinlens.config import IndexSettings
from twinlens.search import build_index, items_of, open_model

BOTH = IndexSettings(fields=("image", "title"))


@pytest.fixture(scope="session")
def model(trained):
    return open_model(trained.folder)


@pytest.fixture(scope="session")
def items(home):
    """24 pictures with one title, colour, shape and a number."""
    table = pd.read_csv(home.data).rename(columns={"image_path": "image_id"})
    table["image_path"] = [str(home.data.parent / name) for name in table["image_id"]]
    table = table[["image_id", "image_path", "caption", "split", "colour", "shape"]]
    table["number"] = (
        table["image_id"]
        .str[1:2]
        .where(table["image_id"] < "10.png", table["image_id"].str[:2])
    )
    return items_of(table[table["image_id"] != "broken.png"])


@pytest.fixture(scope="session")
def index(model, items, tmp_path_factory):
    return build_index(model, items, tmp_path_factory.mktemp("i") / "index", BOTH)
