"""Encoding captions: ours beside sentence-transformers, same checkpoint, float32.

`python -m experiments.benchmarks.captions CAPTIONS_FILE MODEL_FOLDER`. The file has
one caption a line, or Flickr's `name<TAB>caption`. sentence-transformers sorts by
length too; a row for each of two batch sizes, and one for the ceiling of this machine:
the bare matrix products in PyTorch. Each in a process of its own, in turn.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from experiments.benchmarks.rounds import CORES, Job, alternate_apart
from experiments.benchmarks.rows import Row, command, compared

PEER_BATCHES = (32, 128)  # its default, and the larger one that ours takes
LENGTH = 64


def ours(model: Path, dtype: str, texts: list[str]) -> Job:
    """Everything from texts to a finished cache folder."""
    from twinlens import encode_texts, text_encoder

    encoder = text_encoder(weights=str(model), sequence_length=LENGTH, dtype=dtype)

    def encode() -> None:
        with tempfile.TemporaryDirectory() as cache:
            encode_texts(encoder, texts, cache)

    return encode


def sentence_transformers(model: Path, batch_size: int, texts: list[str]) -> Job:
    """The peer's own loop."""
    import torch
    from experiments.benchmarks import vision  # noqa: F401
    from sentence_transformers import SentenceTransformer, models

    torch.set_num_threads(CORES)
    words = models.Transformer(str(model), max_seq_length=LENGTH)
    pooling = models.Pooling(words.get_word_embedding_dimension())
    peer = SentenceTransformer(modules=[words, pooling], device="cpu").float()
    return lambda: peer.encode(texts, batch_size=batch_size, show_progress_bar=False)


def bare_products(model: Path, texts: list[str]) -> Job:
    """Only the matrix products of the network's layers, on every real token.

    What any implementation has to compute; the rest of the network takes no time.
    """
    import torch
    from experiments.benchmarks import vision  # noqa: F401
    from transformers import AutoConfig, AutoTokenizer

    torch.set_num_threads(CORES)
    network = AutoConfig.from_pretrained(model)
    ids = AutoTokenizer.from_pretrained(model)(
        texts, max_length=LENGTH, truncation=True
    )
    tokens = sum(map(len, ids["input_ids"]))
    dim, wide, some = network.hidden_size, network.intermediate_size, 2048
    shapes = [(dim, 3 * dim), (dim, dim), (dim, wide), (wide, dim)]
    pairs = [(torch.rand(some, a), torch.rand(a, b)) for a, b in shapes]

    def multiply() -> None:
        for _ in range(network.num_hidden_layers * tokens // some):
            for left, right in pairs:
                left @ right

    return multiply


def rows(
    captions: Path, model: Path, count: int = 4096, rounds: int = 3
) -> Iterator[Row]:
    """Compares encoding `count` distinct captions."""
    lines = captions.read_text("utf-8").splitlines()
    texts = list(dict.fromkeys(line.split("\t")[-1] for line in lines))[:count]
    makers = {
        "float32": partial(ours, model, "float32", texts),
        "bfloat16": partial(ours, model, "bfloat16", texts),
        "bare": partial(bare_products, model, texts),
        **{
            size: partial(sentence_transformers, model, size, texts)
            for size in PEER_BATCHES
        },
    }
    seconds = alternate_apart(makers, rounds)
    units = len(texts), "captions"
    for dtype in ("float32", "bfloat16"):
        question = f"encode {len(texts):,} captions, {dtype}"
        for size in PEER_BATCHES:
            peer, both = f"sentence-transformers, batch {size}", seconds[size]
            yield compared(question, peer, (seconds[dtype], both), units, 2.0)
    question = f"encode {len(texts):,} captions, float32"
    both = seconds["float32"], seconds["bare"]
    yield compared(question, "bare matrix products of the network", both, units)


if __name__ == "__main__":
    command(rows)
