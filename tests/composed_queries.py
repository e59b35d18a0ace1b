"""Composed queries, made up: the pictures are axes, so scores are written by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from PIL import Image

from twinlens.report import AttentionExample

HOSTILE = "<script>alert('x')</script> & costs $5, not $6"
IDS = np.array([f"p{i}" for i in range(9)], object)
GALLERIES = {"dress": np.arange(3, 9), "shirt": np.arange(4)}
QUERIES = [  # reference, target, category, scores of the pictures (they are axes)
    ("p3", "p4", "dress", [9, 9, 9, 5, 4, 3, 2, 1, 0]),  # its reference is before it
    ("p5", "p8", "dress", [0, 0, 0, 8, 7, 6, 5, 4, 3]),  # the last of six
    ("p0", "p1", "shirt", [1, 2, 0, 0, 9, 9, 9, 9, 9]),  # first in its gallery
    ("p6", "p7", "dress", [0, 0, 0, 0, 0, 0, 1, 8, 0]),  # first, with more certainty
    ("p6", "p3", "dress", [0, 0, 0, 1, 0, 0, 2, 0, 0]),  # the same reference again
]
RANKS = {True: [2, 6, 1, 1, 2], False: [1, 5, 1, 1, 1]}


def entry(value):
    return {"value": value, "low": value / 2, "high": min(1.0, value * 2)}


def measured(ranks, ks=(1, 10, 50)):
    """Names and values as an evaluation has them; 50 is where all are found."""
    found = {}
    for k in ks:
        hits = np.asarray(ranks) <= k
        found[f"composed/recall@{k}"] = found[f"composed/success@{k}"] = hits.mean()
        found[f"composed/precision@{k}"] = hits.mean() / k
        found[f"composed/f1@{k}"] = 2 * hits.mean() / (k + 1)
    found["composed/map"] = found["composed/mrr"] = np.mean(1 / np.asarray(ranks))
    found["composed/median_rank"] = np.median(ranks)
    return found


def evaluation_of(queries=QUERIES, keeps_reference=True, ranks=None):
    ranks = ranks or RANKS[keeps_reference]
    vectors = np.array([scores for *_, scores in queries], float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = ["reference_id", "target_id", "category"]
    triplets = pd.DataFrame([query[:3] for query in queries], columns=columns)
    triplets["wish"] = [HOSTILE, *(f"wish {i}" for i in range(1, len(queries)))]
    frame = triplets.rename(columns={"reference_id": "image_id", "wish": "caption"})
    sizes = [len(GALLERIES[name]) for name in frame["category"]]
    frame = frame.assign(rank=ranks, gallery=np.array(sizes) - (not keeps_reference))
    parts = {
        category: {
            "queries": len(rows),
            "gallery": len(GALLERIES[category]),
            "metrics": {n: entry(v) for n, v in measured(rows["rank"]).items()},
        }
        for category, rows in frame.groupby("category")
    }
    means = pd.DataFrame([measured(r["rank"]) for _, r in frame.groupby("category")])
    summary = {
        "split": "test",
        "protocol": "gallery: original split; wish: both; the reference stays",
        "queries": {"composed": len(queries)},
        "gallery": {"composed": 9},
        "metrics": {name: entry(value) for name, value in measured(ranks).items()},
        "categories": parts,
        "category_mean": means.mean().to_dict(),
    }
    embedded = SimpleNamespace(
        queries=vectors,
        triplets=triplets,
        pictures=np.eye(9),
        image_ids=IDS,
        galleries=GALLERIES,
    )
    return SimpleNamespace(summary=summary, ranks=frame, embedded=embedded)


def draw_pictures(folder):
    files = {name: folder / f"{name}.png" for name in IDS}
    for number, path in enumerate(files.values()):
        Image.new("RGB", (30, 40), (200, 25 * number, 90)).save(path)
    return files


def attention_of(path, grid=(2, 3), words=("$5", "red"), places=6, padded=False):
    over_words = np.full((places, len(words)), 1 / max(1, len(words)))
    of_places = np.arange(places) / np.arange(places).sum()
    return AttentionExample(path, words, over_words, of_places, grid, padded)
