"""Encoding captions: ours beside sentence-transformers, same checkpoint, float32.

`python -m experiments.benchmarks.captions CAPTIONS_FILE MODEL_FOLDER`. The file has
one caption a line, or Flickr's `name<TAB>caption`. sentence-transformers sorts by
length too; a row for each of two batch sizes, and one for the ceiling of this machine:
the bare matrix products in PyTorch.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tempfile
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
import torch
import typer
from experiments.benchmarks.rounds import alternate, rate, ratio
from sentence_transformers import SentenceTransformer, models

from twinlens import encode_texts, text_encoder

PEER_BATCHES = (32, 128)


def bare_products(encoder, texts: list[str]) -> Callable[[], None]:
    """Only the matrix products of the network's layers, on every real token.

    What any implementation has to compute; the rest of the network takes no time.
    """
    backbone = encoder.model
    blocks = [x for x in backbone.layers if x.name.startswith("transformer_layer")]
    tokens = int(encoder.tokenize(tf.constant(texts)).row_lengths().numpy().sum())
    dim, rows = backbone.output_shape[-1], 2048
    shapes = [(dim, 3 * dim), (dim, dim), (dim, 4 * dim), (4 * dim, dim)]
    pairs = [(torch.rand(rows, a), torch.rand(a, b)) for a, b in shapes]

    def multiply() -> None:
        for _ in range(len(blocks) * tokens // rows):
            for left, right in pairs:
                left @ right

    return multiply


def main(captions: Path, model: Path, count: int = 4096, rounds: int = 3) -> None:
    """Prints one Markdown row a comparison."""
    lines = captions.read_text("utf-8").splitlines()
    texts = list(dict.fromkeys(line.split("\t")[-1] for line in lines))[:count]
    count = len(texts)
    torch.set_num_threads(os.cpu_count() or 1)
    words = models.Transformer(str(model))
    pooling = models.Pooling(words.get_word_embedding_dimension())
    peer = SentenceTransformer(modules=[words, pooling], device="cpu").float()
    encoder = text_encoder(weights=str(model), sequence_length=64)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as cache:
            encode_texts(encoder, texts, cache)

    products = bare_products(encoder, texts)
    jobs = {"ours": ours, "bare matrix products": products}
    for size in PEER_BATCHES:
        jobs[f"sentence-transformers, batch {size}"] = lambda b=size: peer.encode(
            texts, batch_size=b, show_progress_bar=False
        )
    seconds = alternate(jobs, rounds)
    mine = seconds.pop("ours")
    print("| peer | ours, captions/s | peer, captions/s | ratio |\n|---|---|---|---|")
    for name, theirs in seconds.items():
        print(
            f"| {name} | {rate(mine, count):,.0f} | {rate(theirs, count):,.0f} "
            f"| {ratio(theirs, mine):.2f} |"
        )


if __name__ == "__main__":
    typer.run(main)
