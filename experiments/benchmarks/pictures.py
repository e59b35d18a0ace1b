"""Encoding pictures: the cache beside the bare network and the prototype's way.

`python -m experiments.benchmarks.pictures IMAGES_FOLDER [--weights FILE]`. Jobs take
turns in one process:

- bare: the same network under `tf.function` on a batch in memory, nothing else;
- ours: `encode_images` into a new cache (read, decode, resize, encode, write);
- prototype: one forward pass per caption, five a picture, through `tf.data`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import typer
from experiments.benchmarks.rounds import alternate, rate, ratio

from twinlens import encode_images, image_encoder
from twinlens.encoders.forward import frozen

CAPTIONS = 5  # a picture, in COCO and Flickr
BATCH = 32


def bare(network: keras.Model, size: int, count: int) -> None:
    """The network alone, on random pixels."""
    pixels = tf.random.uniform((BATCH, size, size, 3), 0, 255)
    forward = tf.function(lambda x: network(x, training=False))
    for _ in range(count // BATCH):
        forward(pixels).numpy()


def mixed_policy(size: int) -> keras.Model:
    """The same network in Keras' own bfloat16."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    whole = keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg"
    )
    keras.config.set_dtype_policy("float32")
    grid = whole.get_layer("mixed8").output
    return keras.Model(whole.input, keras.layers.GlobalAveragePooling2D()(grid))


def ours(encoder, paths: list[str]) -> None:
    """Everything from files to a finished cache folder."""
    with tempfile.TemporaryDirectory() as cache:
        encode_images(encoder, {path: path for path in paths}, cache, batch_size=BATCH)


def prototype(encoder, paths: list[str]) -> None:
    """Each picture once per caption, as the first prototype did."""
    size = encoder.image_size

    def pixels(path):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize_with_pad(image, size, size)

    data = tf.data.Dataset.from_tensor_slices(np.repeat(paths, CAPTIONS))
    data = data.map(pixels, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
    encoder.model.predict(data.prefetch(tf.data.AUTOTUNE), verbose=0)


def main(folder: Path, weights: str = "none", count: int = 256, rounds: int = 3):
    """Prints one Markdown row a comparison."""
    paths = sorted(map(str, folder.iterdir()))[:count]
    count = len(paths) // BATCH * BATCH
    paths = paths[:count]
    few = paths[: count // 4]
    networks = {
        dtype: image_encoder(weights=weights, layer="mixed8", dtype=dtype)
        for dtype in ("float32", "bfloat16")
    }
    size = networks["float32"].image_size
    jobs = {}
    bares = {"float32": networks["float32"].model, "bfloat16": mixed_policy(size)}
    for dtype, encoder in networks.items():
        jobs[f"bare {dtype}"] = lambda n=bares[dtype]: bare(n, size, count)
        jobs[f"ours {dtype}"] = lambda e=encoder: ours(e, paths)
    shape = tf.TensorSpec([None, size, size, 3])
    lowered = frozen(networks["float32"].model, shape, "bfloat16")
    jobs["graph bfloat16"] = lambda: bare(lambda x, training: lowered(x), size, count)
    jobs["prototype"] = lambda: prototype(networks["float32"], few)
    seconds = alternate(jobs, rounds)
    peer_half = seconds["bare bfloat16"]
    whole_prototype = [4 * each for each in seconds["prototype"]]
    print("| comparison | pictures/s | peer, pictures/s | ratio |\n|---|---|---|---|")
    rows = [
        ("ours / bare, float32", "ours float32", seconds["bare float32"]),
        ("ours / bare (Keras' policy), bfloat16", "ours bfloat16", peer_half),
        (
            "ours / bare (our graph), bfloat16",
            "ours bfloat16",
            seconds["graph bfloat16"],
        ),
        ("bfloat16 / float32", "ours bfloat16", seconds["ours float32"]),
        ("ours / prototype's way, float32", "ours float32", whole_prototype),
    ]
    for title, name, peer in rows:
        mine = seconds[name]
        print(
            f"| {title} | {rate(mine, count):.1f} | {rate(peer, count):.1f} "
            f"| {ratio(peer, mine):.2f} |"
        )


if __name__ == "__main__":
    typer.run(main)
