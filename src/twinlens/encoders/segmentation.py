"""What cuts products out of their background, by name."""

from collections.abc import Callable

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from twinlens.data.segmentation import VERSION, WHITE, GrabCut, Segment
from twinlens.encoders.saved_endpoint import endpoint
from twinlens.encoders.saved_program import find_folder, folder_digest, open_folder
from twinlens.errors import InputError

SETTING = "image_encoder.segment"
PREFIX = "mask_rcnn:"  # before a handle or a folder
PICTURE = tf.TensorSpec([1, None, None, 3], tf.uint8)
OUTPUTS = (
    "detection_boxes",
    "detection_classes",
    "detection_scores",
    "detection_masks",
)
INSIDE = 0.5  # a mask above belongs to the product


def segment_of(
    name: str, score: float = 0.5, classes: tuple[int, ...] = ()
) -> Segment | None:
    """What cuts products out, by its name.

    Args:
        name: empty for nothing, `"grabcut"`, or `"mask_rcnn:HANDLE_OR_PATH"`.
        score: of `MaskRCNN`.
        classes: of `MaskRCNN`.

    Raises:
        InputError: unknown name; no such SavedModel, or one that gives no masks;
            OpenCV is missing.
    """
    if not name:
        return None
    if name == "grabcut":
        return GrabCut()
    if name.startswith(PREFIX):
        return MaskRCNN(name.removeprefix(PREFIX), score, classes)
    raise InputError(
        f"{SETTING} is {name!r}. Take 'grabcut', 'mask_rcnn:HANDLE_OR_PATH', or '' to "
        "leave pictures as they are."
    )


class MaskRCNN:
    """The product as the best detection of a Mask R-CNN of TF-Hub or of a folder.

    The best one is that of the highest score × area of its box. Its network runs
    wherever a picture is read, in phase 2 again in every epoch.

    Args:
        handle: of a SavedModel from a `(1, height, width, 3)` uint8 picture to, of
            each of `n` detections, `detection_boxes` `(1, n, 4)`: top, left, bottom,
            right, of the picture's sides; `detection_classes` and
            `detection_scores` `(1, n)`; `detection_masks` `(1, n, rows, columns)`
            from 0 to 1, within the box.
        score: the least that counts.
        classes: numbers that count; empty: all.

    Raises:
        InputError: no such SavedModel; it takes or gives something else.

    Reference:
        https://tfhub.dev/tensorflow/mask_rcnn/inception_resnet_v2_1024x1024/1.
    """

    def __init__(
        self, handle: str, score: float = 0.5, classes: tuple[int, ...] = ()
    ) -> None:
        folder = find_folder(handle, SETTING)
        what = f"{SETTING}={PREFIX + handle!r}"
        self.score, self.classes = score, tuple(sorted(classes))
        self.description = {
            "name": "mask_rcnn",
            "version": VERSION,
            "program": folder_digest(folder),
            "score": score,
            "classes": list(self.classes),
        }
        self._detect = _detector(open_folder(folder, what)[1], what)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        """As `Segment`."""
        image = tf.convert_to_tensor(image)
        boxes, classes, scores, masks = (
            tf.cast(each[0], tf.float32) for each in self._detect(image[None])
        )
        sides = tf.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
        counts = scores >= self.score
        if self.classes:
            wanted = tf.constant(self.classes, tf.float32)
            counts &= tf.reduce_any(classes[:, None] == wanted, axis=1)
        merits = tf.where(counts, scores * tf.reduce_prod(sides, axis=1), 0.0)

        def cut() -> tf.Tensor:
            best = tf.argmax(merits)
            mask = _spread(masks[best], boxes[best], tf.shape(image)[:2])
            product = mask[..., None] > INSIDE
            empty = ~tf.reduce_any(product)  # nothing found
            return tf.where(product | empty, image, tf.constant(WHITE, tf.uint8))

        return tf.cond(tf.reduce_any(merits > 0), cut, lambda: image)


def _detector(loaded, what: str) -> Callable:
    """A picture to `OUTPUTS`, with the weights as constants.

    Variables would lie on a GPU where there is one, and `tf.data` could not use them.
    """
    found = endpoint(loaded, PICTURE, what)
    missing = [name for name in OUTPUTS if name not in found.outputs]
    if missing:
        raise InputError(
            f"{what} gives {', '.join(sorted(found.outputs))}, but not "
            f"{', '.join(missing)}. Take a Mask R-CNN with TF-Hub's outputs."
        )

    @tf.function(input_signature=[PICTURE], autograph=False)
    def detect(pictures):
        outputs = found.inference(pictures)
        return tuple(tf.identity(outputs[name]) for name in OUTPUTS)

    return convert_variables_to_constants_v2(
        detect.get_concrete_function(), lower_control_flow=False
    )


def _spread(mask: tf.Tensor, box: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """A mask `(rows, columns)` within its box as `(height, width)`, 0 outside.

    It is `crop_and_resize` with the whole picture as seen from the box, as in
    TensorFlow's Object Detection API (`reframe_box_masks_to_image_masks`).
    """
    start, end = box[:2], box[2:]
    picture = tf.concat([-start, 1.0 - start], 0) / tf.tile(end - start, [2])
    spread = tf.image.crop_and_resize(
        mask[None, ..., None], picture[None], [0], sides, extrapolation_value=0.0
    )
    return spread[0, ..., 0]
