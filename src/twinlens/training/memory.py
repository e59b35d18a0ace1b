"""The memory of feature arrays, read in place by whatever computes."""

import numpy as np

ALIGNMENT = 64  # bytes; TensorFlow aborts on tensors that start elsewhere


class _Shared:
    """The memory of an array, whether or not the array may be written.

    DLPack has no word for memory that is only read; nothing here writes to it.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # lives as long as what shares it
        interface = array.__array_interface__
        address, _ = interface["data"]
        self.__array_interface__ = interface | {"data": (address, False)}


def shared_rows(
    features: np.ndarray, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Features `(n, *shape)` or `(n, views, *shape)` as `(rows, *shape)`, not copied.

    What comes back speaks DLPack, memory maps included. Only an array whose rows lie
    apart, or which starts at an address that TensorFlow refuses, is copied.
    """
    rows = np.ascontiguousarray(features).reshape(-1, *(shape or features.shape[-1:]))
    if rows.ctypes.data % ALIGNMENT:
        rows = _aligned(rows)
    return np.asarray(_Shared(rows))


def _aligned(rows: np.ndarray) -> np.ndarray:
    memory = np.empty(rows.nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + rows.nbytes].view(rows.dtype).reshape(rows.shape)
    copy[:] = rows
    return copy
