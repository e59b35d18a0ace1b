"""Learned positions for pictures of another size, as PyTorch resizes them."""

import numpy as np

CUBIC, SMOOTH_CUBIC = -0.75, -0.5  # the free parameter without and with antialiasing


def resized(
    positions: np.ndarray, front: int, grid: tuple[int, int], smooth: bool = False
) -> np.ndarray:
    """Positions of a square grid at another number of places, by cubics.

    Args:
        positions: `(1, front + side ** 2, dim)`.
        front: tokens that have no place; theirs stay.
        grid: rows and columns wanted.
        smooth: with antialiasing (DINOv2 with registers).

    Returns:
        `(1, front + rows * columns, dim)`.
    """
    side = round((positions.shape[1] - front) ** 0.5)
    if grid == (side, side):
        return positions
    weights = _smooth_weights if smooth else _weights
    places = positions[0, front:].reshape(side, side, -1)
    rows, columns = (weights(side, count) for count in grid)
    places = np.einsum("ai,bj,ijd->abd", rows, columns, places)
    flat = places.reshape(1, grid[0] * grid[1], -1).astype(positions.dtype)
    return np.concatenate([positions[:, :front], flat], axis=1)


def _weights(side: int, count: int) -> np.ndarray:
    """`(count, side)`: how much each old place counts at each new one."""
    centre = (np.arange(count) + 0.5) * side / count - 0.5
    first = np.floor(centre).astype(int) - 1
    weights = np.zeros((count, side))
    for tap in range(4):
        place = first + tap
        column = np.clip(place, 0, side - 1)  # the border repeats
        value = _cubic(np.abs(centre - place), CUBIC)
        np.add.at(weights, (np.arange(count), column), value)
    return weights


def _smooth_weights(side: int, count: int) -> np.ndarray:
    """The same with antialiasing: as wide as what falls on one new place."""
    centre = (np.arange(count)[:, None] + 0.5) * side / count - 0.5
    distance = np.abs(np.arange(side) - centre) / max(side / count, 1.0)
    weights = _cubic(distance, SMOOTH_CUBIC)
    return weights / weights.sum(axis=1, keepdims=True)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys 1981, "Cubic convolution interpolation", equation 15 where `a` is -0.5."""
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
