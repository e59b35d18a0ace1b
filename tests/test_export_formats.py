"""ONNX and LiteRT give the run's numbers, each in its own runtime."""

import numpy as np
import pytest
import tensorflow as tf

from twinlens.errors import InputError
from twinlens.export import check
from twinlens.export.formats import FORMATS, check_formats
from twinlens.export.onnx import _convert
from twinlens.export.samples import questions
from twinlens.export.towers import Towers

TEXTS = ["a red disc", "square number 7 is blue", "green"]


@pytest.fixture(scope="module")
def asked(model, items):
    from twinlens.export.samples import Samples

    return questions(Samples(TEXTS, items["image_path"].tolist()[:3]), model)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_both_towers_give_the_run_s_vectors(model, asked, tmp_path, name):
    made = FORMATS[name]
    made.write(Towers(model), tmp_path / name)
    found = made.ask(tmp_path / name, asked)
    features = model.image_features(asked["encode_image"]["images"].tolist())
    right = {
        "encode_pixels": {
            "embedding": model.embed_image_features(features, np.arange(3))
        },
        "encode_tokens": {"embedding": model.embed_texts(TEXTS)},
    }
    gaps = check.differences(found, right)
    assert gaps.keys() == right.keys()
    assert max(gaps.values()) < 1e-5


def test_one_minus_erf_takes_the_place_of_erfc(tmp_path):
    import onnxruntime

    spec = tf.TensorSpec([None, 3], tf.float32, "x")
    _convert(tf.math.erfc, [spec], tmp_path / "erfc.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "erfc.onnx"))
    values = np.float32([[-1, 0, 0.5], [3, 1, -4]])
    (found,) = session.run(["embedding"], {"x": values})
    np.testing.assert_allclose(found, tf.math.erfc(values), atol=1e-6)


def test_an_operation_that_onnx_has_not_is_named(tmp_path):
    spec = tf.TensorSpec([None, 3], tf.float32, "x")
    with pytest.raises(InputError, match="Lgamma"):
        _convert(tf.math.lgamma, [spec], tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf'pip install "twinlens\[{name}\]"'):
        check_formats([name])
    with pytest.raises(InputError, match="no form 'coreml'"):
        check_formats(["coreml"])
