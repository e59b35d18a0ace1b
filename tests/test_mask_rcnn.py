"""The best detection of a saved Mask R-CNN cuts the product out, to the pixel."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from saved_models import PIXELS, save_detector, save_picture, save_signature

from twinlens.encoders import image_encoder
from twinlens.encoders.segmentation import segment_of
from twinlens.errors import InputError

HEIGHT, WIDTH = 9, 5  # pixels lie at 0, 1/8, … 1 and at 0, 1/4, … 1 of the sides
FULL = [[1, 1], [1, 1]]
PERSON, TIE = 1, 32
SMALL = ((0.2, 0.3, 0.8, 0.9), TIE, 0.9, FULL)  # rows 2 to 6, columns 2 and 3
LARGE = ((0.1, 0.1, 0.9, 0.9), PERSON, 0.6, FULL)  # rows 1 to 7, columns 1 to 3
INSIDE_SMALL = np.s_[2:7, 2:4]
INSIDE_LARGE = np.s_[1:8, 1:4]


@pytest.fixture
def picture(random):
    return random.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def cut(folder, picture, detections, **settings):
    save_detector(folder, detections)
    return segment_of(f"mask_rcnn:{folder}", **settings)(picture).numpy()


def kept(picture, inside):
    expected = np.full_like(picture, 255)
    expected[inside] = picture[inside]
    return expected


@pytest.mark.parametrize(
    ("detections", "settings", "inside"),
    [
        ([SMALL], {}, INSIDE_SMALL),
        ([SMALL, LARGE], {}, INSIDE_LARGE),  # 0.6 × 0.64 is more than 0.9 × 0.36
        ([SMALL, LARGE], {"score": 0.7}, INSIDE_SMALL),
        ([SMALL, LARGE], {"classes": (TIE,)}, INSIDE_SMALL),
        ([SMALL, LARGE], {"classes": (TIE, PERSON)}, INSIDE_LARGE),
        ([((0.9, 0.9, 0.1, 0.1), 1, 1.0, FULL), SMALL], {}, INSIDE_SMALL),  # no box
    ],
    ids=["one", "merit", "score", "class", "classes", "turned"],
)
def test_the_best_detection_is_kept(tmp_path, picture, detections, settings, inside):
    found = cut(tmp_path, picture, detections, **settings)
    np.testing.assert_array_equal(found, kept(picture, inside))


def test_a_mask_is_spread_over_its_box(tmp_path, picture):
    # From 1 at 0.2 to 0 at 0.84 it is 0.53 at 4/8, and 0.34 at 5/8 of the height.
    half = ((0.2, 0.3, 0.84, 0.9), 1, 1.0, [[1, 1], [0, 0]])
    found = cut(tmp_path, picture, [half])
    np.testing.assert_array_equal(found, kept(picture, np.s_[2:5, 2:4]))


@pytest.mark.parametrize(
    ("detections", "settings"),
    [
        ([SMALL], {"score": 0.95}),
        ([SMALL], {"classes": (PERSON,)}),
        ([((0.2, 0.3, 0.2, 0.9), 1, 1.0, FULL)], {}),  # a box of no height
        ([((0.2, 0.3, 0.8, 0.9), 1, 1.0, [[0, 0], [0, 0]])], {}),  # an empty mask
    ],
    ids=["score", "class", "flat", "empty"],
)
def test_where_nothing_is_found_the_picture_stays(
    tmp_path, picture, detections, settings
):
    found = cut(tmp_path, picture, detections, **settings)
    np.testing.assert_array_equal(found, picture)


def test_a_network_may_find_nothing_at_all(tmp_path, picture):
    def nothing(input_tensor):
        return {
            "detection_boxes": tf.zeros((1, 0, 4)),
            "detection_classes": tf.zeros((1, 0)),
            "detection_scores": tf.zeros((1, 0)),
            "detection_masks": tf.zeros((1, 0, 33, 33)),
        }

    spec = tf.TensorSpec([1, None, None, 3], tf.uint8)
    save_signature(tmp_path, nothing, spec)  # called by its signature
    found = segment_of(f"mask_rcnn:{tmp_path}")(picture)
    np.testing.assert_array_equal(found, picture)


def test_threads_and_data_pipelines_cut_the_same(tmp_path, picture):
    segment = segment_of(f"mask_rcnn:{save_detector(tmp_path, [SMALL, LARGE])}")
    expected = kept(picture, INSIDE_LARGE)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(segment, [picture] * 16))
    np.testing.assert_array_equal(found, [expected] * 16)
    data = tf.data.Dataset.from_tensors(picture).repeat(16)
    found = list(data.map(segment, num_parallel_calls=4))
    np.testing.assert_array_equal(found, [expected] * 16)


def test_the_key_names_what_the_folder_holds_not_where_it_is(tmp_path):
    def described(folder, **settings):
        return segment_of(f"mask_rcnn:{folder}", **settings).description

    one = save_detector(tmp_path / "one", [SMALL])
    other = save_detector(tmp_path / "other", [LARGE])
    shutil.copytree(one, tmp_path / "copy")
    assert described(one) == described(tmp_path / "copy")
    keys = [described(one), described(other), described(one, score=0.6)]
    keys.append(described(one, classes=(TIE,)))
    assert len({str(key) for key in keys}) == 4
    made = image_encoder(
        "mobilenet",
        "none",
        "conv_pw_1_relu",
        image_size=32,
        segment=f"mask_rcnn:{one}",
        segment_classes=(TIE,),
    )
    assert made.description["segment"] == described(one, classes=(TIE,))


def test_what_is_no_mask_rcnn_is_refused_with_what_it_gives(tmp_path):
    def boxes(images):
        return {"detection_boxes": tf.zeros((1, 1, 4)), "raw": tf.zeros(1)}

    spec = tf.TensorSpec([1, None, None, 3], tf.uint8)
    save_signature(tmp_path / "boxes", boxes, spec)
    message = "gives detection_boxes, raw, but not detection_classes, detection_scores"
    with pytest.raises(InputError, match=message):
        segment_of(f"mask_rcnn:{tmp_path / 'boxes'}")
    save_picture(tmp_path / "picture", PIXELS)
    with pytest.raises(InputError, match=r"called on uint8 of the shape \(1, None"):
        segment_of(f"mask_rcnn:{tmp_path / 'picture'}")
    with pytest.raises(InputError, match="image_encoder.segment names the SavedModel"):
        segment_of("mask_rcnn:nowhere")
