"""Ranks of both directions against the bare matrix product and other libraries.

`python -m experiments.benchmarks.ranks`. The matrix product is what no exact ranking
can do without: the figure is its share of our time, so 1.0 would mean that counting,
ties, both directions and all right answers cost nothing. torchmetrics and
sentence-transformers' evaluator compute recall at 1, 5 and 10 from the same embeddings.
"""

import tracemalloc
from collections.abc import Iterator
from functools import partial

import numpy as np
from experiments.benchmarks.rounds import Job, alternate_apart
from experiments.benchmarks.rows import Row, command, compared, measured

NUM_TEXTS, NUM_IMAGES, DIM = 25_000, 5_000, 512  # COCO's 5K test set, CLIP's dim
CUTS = (1, 5, 10)
AT_ONCE = 256  # queries whose scores a peer is given together


def embeddings(texts: int, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors of pictures and captions, and the picture of each caption."""
    generator = np.random.default_rng(0)
    image_embeddings = unit_vectors(generator, images)
    rows = np.arange(texts) % images
    noise = unit_vectors(generator, texts)
    return image_embeddings, normalised(0.3 * image_embeddings[rows] + noise), rows


def unit_vectors(generator: np.random.Generator, count: int) -> np.ndarray:
    """`(count, DIM)` random unit vectors."""
    return normalised(generator.standard_normal((count, DIM), dtype=np.float32))


def normalised(vectors: np.ndarray) -> np.ndarray:
    """The vectors with length one."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ours(texts: int, images: int) -> Job:
    """Ranks of both directions, all right answers counted."""
    from twinlens.metrics.ranks import retrieval_ranks

    pictures, captions, rows = embeddings(texts, images)
    return lambda: retrieval_ranks(pictures, range(images), captions, rows)


def whole(texts: int, images: int) -> Job:
    """All scores at once."""
    pictures, captions, _ = embeddings(texts, images)
    return lambda: pictures @ captions.T


def blocked(texts: int, images: int) -> Job:
    """All scores, in one buffer of the size that ours uses, looked at by nobody."""
    from twinlens.metrics.scores import BLOCK_BYTES

    pictures, captions, _ = embeddings(texts, images)
    size = BLOCK_BYTES // 4 // texts
    buffer = np.empty((size, texts), np.float32)

    def multiply() -> None:
        for start in range(0, images, size):
            block = pictures[start : start + size]
            np.matmul(block, captions.T, out=buffer[: len(block)])

    return multiply


def torchmetrics(texts: int, images: int) -> Job:
    """`torchmetrics.retrieval`, query by query, as its functions are meant."""
    import torch
    from experiments.benchmarks import vision  # noqa: F401
    from torchmetrics.functional.retrieval import retrieval_hit_rate

    pictures, captions, rows = map(torch.from_numpy, embeddings(texts, images))
    every = torch.arange(images)
    directions = [  # queries, gallery, and which of it is right for some queries
        (captions, pictures, lambda part: rows[part, None] == every),
        (pictures, captions, lambda part: every[part, None] == rows),
    ]

    def measure() -> None:
        for queries, gallery, relevant in directions:
            hits = torch.zeros(len(CUTS))
            for start in range(0, len(queries), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                scores, right = queries[part] @ gallery.T, relevant(part)
                for row in zip(scores, right, strict=True):
                    found = [retrieval_hit_rate(*row, top_k=cut) for cut in CUTS]
                    hits += torch.stack(found)

    return measure


def sentence_transformers(texts: int, images: int) -> Job:
    """`InformationRetrievalEvaluator` on embeddings that are there already."""
    import torch
    from experiments.benchmarks import vision  # noqa: F401
    from sentence_transformers import evaluation

    pictures, captions, rows = embeddings(texts, images)
    pictures, captions = torch.from_numpy(pictures), torch.from_numpy(captions)
    names = [f"i{row}" for row in range(images)], [f"t{row}" for row in range(texts)]
    forward = {f"t{text}": {f"i{row}"} for text, row in enumerate(rows)}
    backward: dict[str, set[str]] = {name: set() for name in names[0]}
    for text, row in enumerate(rows):
        backward[f"i{row}"].add(f"t{text}")
    cuts = dict.fromkeys(("mrr_at_k", "ndcg_at_k", "map_at_k"), [10])
    cuts |= dict.fromkeys(("accuracy_at_k", "precision_recall_at_k"), list(CUTS))

    class Evaluator(evaluation.InformationRetrievalEvaluator):
        """Takes what was embedded before instead of embedding it."""

        def embed_inputs(self, model, sentences, **_):
            return model[sentences[0][0]]

    def evaluator(queries: list[str], gallery: list[str], right: dict) -> Evaluator:
        named = {name: name for name in queries}, {name: name for name in gallery}
        score = {"cosine": lambda a, b: a @ b.T}
        return Evaluator(*named, right, **cuts, score_functions=score)

    both = [evaluator(names[1], names[0], forward), evaluator(*names, backward)]

    def measure() -> None:
        there = {"i": pictures, "t": captions}
        for each, gallery in zip(both, (pictures, captions), strict=True):
            each.compute_all_metrics(there, corpus_embeddings=gallery)

    return measure


def peak_mib(run: Job) -> float:
    """The most memory one call holds above what was there before, in MiB."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def rows(
    rounds: int = 5, texts: int = NUM_TEXTS, images: int = NUM_IMAGES
) -> Iterator[Row]:
    """Compares ranking `texts` captions and `images` pictures with one another."""
    peers = {
        "bare matrix product": (whole, 0.6),
        "the same in blocks": (blocked, None),
        "torchmetrics, recall at 1, 5, 10": (torchmetrics, 5.0),
        "sentence-transformers' evaluator": (sentence_transformers, 3.0),
    }
    makers = {name: partial(maker, texts, images) for name, (maker, _) in peers.items()}
    makers["ours"] = partial(ours, texts, images)
    seconds = alternate_apart(makers, rounds, seconds=180)
    question, units = f"rank {texts:,} × {images:,} both ways", (texts, "captions")
    for name, (_, reach) in peers.items():
        yield compared(question, name, (seconds["ours"], seconds[name]), units, reach)
    memory = [peak_mib(ours(texts, images))]
    yield measured(f"{question}: memory above the embeddings", memory, 1024, "MB")


if __name__ == "__main__":
    command(rows)
