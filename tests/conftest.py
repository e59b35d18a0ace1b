"""What the tests share: quiet TensorFlow, the real data, small made-up pairs."""

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("KAGGLEHUB_CACHE", "/nonexistent")  # no test finds a download

from twinlens.quiet import import_tensorflow

import_tensorflow()

from searching import index as index  # noqa: E402
from searching import items as items  # noqa: E402
from searching import model as model  # noqa: E402
from tiny import home as home  # noqa: E402
from tiny import trained as trained  # noqa: E402
from tiny_composed import composed as composed  # noqa: E402
from tiny_composed import composed_home as composed_home  # noqa: E402

SHARED = Path(os.environ.get("TWINLENS_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures, captions and weights."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real data in {SHARED}; set TWINLENS_SHARED to its folder")
    return SHARED


@pytest.fixture
def random() -> np.random.Generator:
    """A seeded source of random numbers."""
    return np.random.default_rng(0)
