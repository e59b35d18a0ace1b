"""Means over a grid of cells, against PyTorch's: `pytest -m parity`."""

import numpy as np
import pytest

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("sides", [(7, 7), (8, 8), (10, 17), (35, 14)])
def test_cells_are_those_of_pytorch(sides, size):
    torch = pytest.importorskip("torch")
    from twinlens.encoders.places import GridPooling

    grid = np.random.default_rng(0).normal(size=(2, *sides, 3)).astype("float32")
    pool = torch.nn.functional.adaptive_avg_pool2d
    theirs = pool(torch.from_numpy(grid.transpose(0, 3, 1, 2).copy()), size)
    expected = theirs.numpy().transpose(0, 2, 3, 1).reshape(2, size * size, 3)
    np.testing.assert_allclose(GridPooling(size)(grid), expected, atol=1e-6)
