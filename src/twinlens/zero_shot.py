"""A ready pair as it comes: retrieval and classification without any training."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from twinlens.encoders import ImageEncoder, TextEncoder
from twinlens.errors import InputError
from twinlens.heads import Similarity, UnitHead
from twinlens.model import Heads

BATCH = 64  # pictures or texts a forward pass
TEMPLATES = (  # the seven that OpenAI found best for CLIP on ImageNet
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def zero_shot(image_encoder: ImageEncoder, text_encoder: TextEncoder) -> Heads:
    """The heads of a ready pair, without any training.

    Args:
        image_encoder: of a pair, with pooling `"projection"`.
        text_encoder: of the same pair, with the same pooling.

    Returns:
        Heads that only normalise, with the pair's own scale and bias.

    Raises:
        InputError: the two are no pair.

    Example:
        ```python
        experiment = Experiment(config)  # with config.pair.name = "clip"
        heads = zero_shot(experiment.image_encoder, experiment.text_encoder)
        evaluate(heads, experiment, config.evaluation)
        ```
    """
    names = [e.description["encoder"] for e in (image_encoder, text_encoder)]
    if image_encoder.similarity is None or names[0] != names[1]:
        raise InputError(
            f"Without training, both encoders have to come from one pair, but these "
            f"are {names[0]!r} and {names[1]!r}. Set pair.name and pair.weights."
        )
    dims = (image_encoder.feature_dim, text_encoder.feature_dim)
    if dims[0] != dims[1]:
        raise InputError(
            f"The pictures of this pair have {dims[0]} numbers, its texts {dims[1]}. "
            "Give both the weights of the same checkpoint."
        )
    scale, bias = image_encoder.similarity
    similarity = Similarity(
        1 / scale, bias, learn=False, max_scale=scale, name="similarity"
    )
    heads = Heads(
        UnitHead(name="image_head"),
        UnitHead(name="text_head"),
        similarity,
        name="heads",
    )
    heads.build(((None, dims[0]), (None, dims[1])))
    return heads


def classify(
    images: np.ndarray,
    class_names: Sequence[str],
    heads: Heads,
    text_encoder: TextEncoder,
    templates: Sequence[str] = TEMPLATES,
    image_encoder: ImageEncoder | None = None,
) -> np.ndarray:
    """Probabilities of classes that are known by their names only.

    Args:
        images: `(n, embedding_dim)` unit vectors; or with an `image_encoder`
            `(n, size, size, 3)` pixels from 0 to 255.
        class_names: what to put into the templates.
        heads: of `zero_shot`, or trained ones.
        text_encoder: that the heads belong to.
        templates: texts with `{}` in place of the name.
        image_encoder: that the heads belong to, where `images` are pixels.

    Returns:
        `(n, classes)` float32; each row sums to one.

    Raises:
        InputError: no classes, no templates, or a template without `{}`.

    Reference:
        Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 3.1.4.
    """
    classes = class_embeddings(class_names, heads, text_encoder, templates)
    if image_encoder is not None:
        starts = range(0, len(images), BATCH)
        features = [image_encoder.model(images[s : s + BATCH]) for s in starts]
        images = heads.image_head(tf.concat(features, axis=0))
    logits = heads.similarity(tf.cast(images, tf.float32), tf.constant(classes))
    return tf.nn.softmax(logits).numpy()


def class_embeddings(
    class_names: Sequence[str],
    heads: Heads,
    text_encoder: TextEncoder,
    templates: Sequence[str] = TEMPLATES,
) -> np.ndarray:
    """Each class as the mean of its texts: `(classes, embedding_dim)` unit vectors."""
    wrong = [template for template in templates if "{}" not in template]
    if wrong or not len(templates) or not len(class_names):
        raise InputError(
            f"Got {len(class_names)} class names and {len(templates)} templates"
            + (f", of which {wrong[0]!r} has no {{}}" if wrong else "")
            + ". Expected at least one of each, with {} in place of the name."
        )
    texts = [each.replace("{}", name) for name in class_names for each in templates]
    starts = range(0, len(texts), BATCH)
    features = [
        text_encoder.model(text_encoder.inputs_of(tf.constant(texts[s : s + BATCH])))
        for s in starts
    ]
    embedded = heads.text_head(tf.concat(features, axis=0)).numpy()
    means = embedded.reshape(len(class_names), len(templates), -1).mean(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)
