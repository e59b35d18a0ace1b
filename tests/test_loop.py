"""The features that the compiled loop reads: shared with the arrays, or copied."""

import gc

import numpy as np
import pytest
import tensorflow as tf

from twinlens.training.memory import ALIGNMENT, shared_rows


def test_a_memory_map_is_read_in_place(tmp_path):
    path = tmp_path / "features.npy"
    np.save(path, np.arange(24, dtype="float32").reshape(6, 4))
    rows = shared_rows(np.load(path, mmap_mode="r"))
    tensor = tf.experimental.dlpack.from_dlpack(rows.__dlpack__())
    del rows
    gc.collect()  # the tensor keeps the map
    np.load(path, mmap_mode="r+")[2, 1] = -1.0
    assert float(tensor[2, 1]) == -1.0


def test_views_are_rows_picture_by_picture():
    features = np.arange(24, dtype="float16").reshape(3, 4, 2)
    rows = shared_rows(features)
    assert rows.dtype == "float16"
    np.testing.assert_array_equal(rows[2 * 4 + 1], features[2, 1])


@pytest.mark.parametrize("offset", [0, 4, ALIGNMENT - 4])
@pytest.mark.parametrize("writeable", [True, False])
def test_an_array_at_any_address_becomes_a_tensor(offset, writeable):
    memory = np.zeros(1024, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT + offset
    features = memory[start : start + 96].view("float32").reshape(6, 4)
    features[:] = np.arange(24).reshape(6, 4)
    features.flags.writeable = writeable
    rows = shared_rows(features)
    assert rows.ctypes.data % ALIGNMENT == 0
    np.testing.assert_array_equal(
        tf.experimental.dlpack.from_dlpack(rows.__dlpack__()), features
    )


def test_rows_that_lie_apart_are_gathered():
    features = np.arange(48, dtype="float32").reshape(6, 8)[:, ::2]
    np.testing.assert_array_equal(shared_rows(features), features)
