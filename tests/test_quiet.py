"""TensorFlow comes quietly, and without what only other programs need."""

import subprocess
import sys

import pytest

from twinlens.quiet import FOR_OTHERS, import_tensorflow, without

PROGRAM = """
import sys
from twinlens.quiet import FOR_OTHERS, import_tensorflow

import_tensorflow(lean=True)
assert not set(FOR_OTHERS) & set(sys.modules), "imported"
import matplotlib.pyplot
import sklearn.base
assert matplotlib.pyplot.figure and sklearn.base.clone, "not whole later"
print("done")
"""


def test_a_command_starts_without_what_it_does_not_need_and_has_it_later():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_packages_that_are_imported_already_stay():
    import_tensorflow(lean=True)  # it is here already: nothing happens
    assert not [n for n in FOR_OTHERS if sys.modules.get(n, True) is None]
    assert "numpy" in sys.modules
    with without(["numpy", "pickletools"]):
        import numpy as np

        assert np.ones(2).sum() == 2
        with pytest.raises(ImportError):
            import pickletools  # noqa: F401
    import pickletools  # noqa: F401, F811
