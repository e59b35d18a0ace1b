"""The small folders of `tests/parity/make_vision.py`, and what they have to give."""

from pathlib import Path

import numpy as np

FOLDERS = Path(__file__).parent / "golden" / "folders"
TEXTS = [
    "a red disc",
    "Two BLUE squares, and a green disc!",
    "it's 2021: the corner's 35 discs",
    "ein grünes Quadrat",
    "",
]
PAIRS = ("clip", "metaclip_2", "siglip")
LENGTH = 24  # tokens of the longest text


def folder(name: str) -> str:
    return str(FOLDERS / name)


def golden(name: str, home: Path = FOLDERS) -> dict[str, np.ndarray]:
    with np.load(home / name / "golden.npz", allow_pickle=False) as file:
        return dict(file)


def pixels(size: int) -> np.ndarray:
    """`(3, size, size, 3)`, as the script draws them."""
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (3, size, size, 3)).astype(np.float32)
