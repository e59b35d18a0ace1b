"""Compares a text with pictures: `python use.py "two dogs" one.jpg two.png`.

It needs tensorflow and tensorflow-text only.
"""

import sys
from pathlib import Path

import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the operations that cut texts


def main(text: str, *files: str) -> None:
    """Prints how well each picture fits the text: a cosine."""
    model = tf.saved_model.load(str(Path(__file__).resolve().parent))
    pictures = tf.constant([Path(file).read_bytes() for file in files])
    images = model.signatures["encode_image"](images=pictures)["embedding"]
    texts = model.signatures["encode_text"](texts=tf.constant([text]))["embedding"]
    for file, score in zip(files, tf.linalg.matvec(images, texts[0]), strict=True):
        print(f"{score:.3f}  {file}")


if __name__ == "__main__":
    main(*sys.argv[1:])
