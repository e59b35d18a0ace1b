"""Encoding pictures: the cache beside what a user would take instead.

`python -m experiments.benchmarks.pictures IMAGES_FOLDER [--weights FILE]`. All run
InceptionV3 up to `mixed8` with its mean; each in a process of its own, in turn:

- ours: `encode_images` into a new cache (set-up, read, decode, resize, encode, write);
- bare: the same network under `tf.function` on a batch in memory, nothing else;
- the prototype's way: one forward pass per caption, five a picture, through `tf.data`;
- PyTorch: torchvision's network, channels last, fed by a DataLoader;
- OpenVINO: the same network compiled for bfloat16 (that counts, as our set-up does),
  fed by the same DataLoader, several requests at a time.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from experiments.benchmarks.rounds import CORES, Job, alternate_apart
from experiments.benchmarks.rows import Row, command, compared

CAPTIONS = 5  # a picture, in COCO and Flickr
BATCH, SIZE = 32, 299
DTYPES = ("float32", "bfloat16")


# === Ours ===


def ours(weights: str, dtype: str, paths: list[str]) -> Job:
    """Everything from files to a finished cache folder."""
    from twinlens import encode_images, image_encoder

    encoder = image_encoder(weights=weights, layer="mixed8", dtype=dtype)

    def encode() -> None:
        with tempfile.TemporaryDirectory() as cache:
            encode_images(
                encoder, {path: path for path in paths}, cache, batch_size=BATCH
            )

    return encode


def bare(weights: str, form: str, count: int) -> Job:
    """The network alone, on random pixels.

    Args:
        weights: of the network.
        form: `"float32"`; `"policy"`: Keras' own bfloat16; `"graph"`: the graph that
            the cache runs in bfloat16.
        count: pictures.
    """
    import tensorflow as tf

    from twinlens import image_encoder
    from twinlens.encoders.forward import frozen

    network = mixed_policy() if form == "policy" else None
    network = network or image_encoder(weights=weights, layer="mixed8").model
    pixels = tf.random.uniform((BATCH, SIZE, SIZE, 3), 0, 255)
    forward = tf.function(lambda x: network(x, training=False))
    if form == "graph":
        forward = frozen(network, tf.TensorSpec([None, SIZE, SIZE, 3]), "bfloat16")
    return lambda: [np.asarray(forward(pixels)) for _ in range(count // BATCH)]


def mixed_policy():
    """The same network in Keras' own bfloat16."""
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    whole = keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)
    )
    keras.config.set_dtype_policy("float32")
    grid = whole.get_layer("mixed8").output
    return keras.Model(whole.input, keras.layers.GlobalAveragePooling2D()(grid))


# === Peers ===


def prototype(weights: str, paths: list[str]) -> Job:
    """Each picture once per caption, as the first prototype did."""
    import tensorflow as tf

    from twinlens import image_encoder

    encoder = image_encoder(weights=weights, layer="mixed8")

    def pixels(path):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize_with_pad(image, SIZE, SIZE)

    def encode() -> None:
        data = tf.data.Dataset.from_tensor_slices(np.repeat(paths, CAPTIONS))
        data = data.map(pixels, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
        encoder.model.predict(data.prefetch(tf.data.AUTOTUNE), verbose=0)

    return encode


class Pictures:
    """A PyTorch data set of files, as its tutorials write it."""

    def __init__(self, paths: list[str]) -> None:
        from experiments.benchmarks.vision import transforms

        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((SIZE, SIZE)),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.5,) * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int):
        from PIL import Image

        with Image.open(self.paths[row]) as image:
            return self.transform(image.convert("RGB"))


def torch_network():
    """Torchvision's InceptionV3 up to Keras' `mixed8`, ready for inference."""
    import torch
    from experiments.benchmarks.vision import torchvision

    torch.set_num_threads(CORES)
    network = torchvision.models.inception_v3(aux_logits=True, init_weights=False)
    network.AuxLogits = None
    network.Mixed_7b = network.Mixed_7c = network.fc = torch.nn.Identity()
    return network.eval()


def loader(paths: list[str]):
    """Batches of pictures, read by as many workers as there are cores."""
    import torch

    return torch.utils.data.DataLoader(
        Pictures(paths),
        BATCH,
        num_workers=CORES,
        multiprocessing_context="fork",  # its own choice in a process of a user
    )


def torch_loop(dtype: str, paths: list[str]) -> Job:
    """The loop that a PyTorch user writes."""
    import torch

    network = torch_network().to(memory_format=torch.channels_last)
    half = dtype == "bfloat16"

    def encode() -> None:
        found = []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, half):
            for pixels in loader(paths):
                pixels = pixels.to(memory_format=torch.channels_last)
                found.append(network(pixels).float().numpy())
        np.concatenate(found)

    return encode


def openvino(paths: list[str]) -> Job:
    """The network compiled by OpenVINO, with as many requests as it wants."""
    import openvino as ov
    import torch

    network, core = torch_network(), ov.Core()
    capable = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in capable:
        raise RuntimeError(f"OpenVINO has no bfloat16 on this processor: {capable}")
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "THROUGHPUT"}

    def encode() -> None:
        example = torch.zeros(BATCH, 3, SIZE, SIZE)
        with torch.inference_mode():
            converted = ov.convert_model(network, example_input=example)
        converted.reshape([BATCH, 3, SIZE, SIZE])
        requests = ov.AsyncInferQueue(core.compile_model(converted, "CPU", settings))
        found: dict[int, np.ndarray] = {}
        requests.set_callback(
            lambda request, row: found.__setitem__(
                row, request.get_output_tensor().data.copy()
            )
        )
        for row, pixels in enumerate(loader(paths)):
            requests.start_async([pixels.numpy()], row)
        requests.wait_all()
        np.concatenate([found[row] for row in sorted(found)])

    return encode


def rows(
    folder: Path, weights: str = "none", count: int = 1024, rounds: int = 2
) -> Iterator[Row]:
    """Compares encoding `count` pictures, a multiple of the batch size."""
    paths = sorted(map(str, folder.iterdir()))[:count]
    paths = paths[: len(paths) // BATCH * BATCH]
    count, few = len(paths), paths[: len(paths) // 8]
    makers: dict[str, Callable[[], Job]] = {
        **{dtype: partial(ours, weights, dtype, paths) for dtype in DTYPES},
        "prototype": partial(prototype, weights, few),
        **{f"PyTorch {d}": partial(torch_loop, d, paths) for d in DTYPES},
        "OpenVINO": partial(openvino, paths),
        "bare": partial(bare, weights, "float32", count),
        "policy": partial(bare, weights, "policy", count),
        "graph": partial(bare, weights, "graph", count),
    }
    seconds = alternate_apart(makers, rounds)
    seconds["prototype"] = [count / len(few) * each for each in seconds["prototype"]]
    for dtype, name, peer, reach in (
        ("float32", "prototype", "the prototype's way, one pass per caption", 5.0),
        ("float32", "PyTorch float32", "PyTorch and DataLoader, float32", 1.3),
        ("bfloat16", "PyTorch bfloat16", "PyTorch and DataLoader, bfloat16", 1.3),
        ("bfloat16", "OpenVINO", "OpenVINO, bfloat16", 1.2),
        ("float32", "bare", "bare network in memory, float32", 0.9),
        ("bfloat16", "policy", "bare network in Keras' mixed bfloat16", 0.9),
        ("bfloat16", "graph", "bare network on our bfloat16 graph", 0.9),
        ("bfloat16", "float32", "ours in float32", 1.4),
    ):
        both = seconds[dtype], seconds[name]
        question = f"encode {count:,} pictures, {dtype}"
        yield compared(question, peer, both, (count, "pictures"), reach)


if __name__ == "__main__":
    command(rows)
