"""Settings of indexes and of searching them."""

from typing import Literal

from twinlens.config.section import Section, setting


class IndexSettings(Section):
    """How a collection becomes searchable."""

    fields: tuple[str, ...] = setting(
        ("image",),
        "what an item's vector holds: image, title, image_feature, title_feature[:N], "
        "tfidf[:N], attribute:NAME",
        min_length=1,
    )
    backend: Literal["flat", "hnsw", "ivf_pq", "milvus"] = setting(
        "flat",
        "flat: exact; hnsw: a graph, fast; ivf_pq: compressed, small; milvus: a server",
    )
    address: str = setting(
        "", "of Milvus, as http://host:19530; empty: Milvus Lite inside the index"
    )
    hnsw_links: int = setting(32, "neighbours a vector has in the graph", ge=2)
    hnsw_build: int = setting(200, "candidates while the graph is built", ge=1)
    hnsw_search: int = setting(128, "candidates of a query; more finds more", ge=1)
    ivf_lists: int = setting(0, "cells of ivf_pq; 0: four times the root of n", ge=0)
    ivf_probes: int = setting(32, "cells a query looks into", ge=1)
    ivf_pq_refine: int = setting(8, "times k that are compared exactly", ge=1)
    pq_bytes: int = setting(64, "of a compressed vector, at most", ge=1)
    audit_queries: int = setting(
        200, "on which an approximate index is compared with exact search", ge=0
    )


class SearchSettings(Section):
    """How an index is asked; each can be given with a query."""

    k: int = setting(5, "answers", ge=1)
    text_weight: float = setting(
        0.5, "of a query's text beside its picture", ge=0, le=1
    )
    fusion: Literal["auto", "trained", "sum"] = setting(
        "auto",
        "a picture with a text: the run's trained fusion where it has one, or the "
        "weighted sum",
    )
    weights: dict[str, float] = setting(
        {}, "of an item's fields, by name; fields alike where empty"
    )
    candidates: int = setting(
        0, "items of the first stage that are ranked again; 0: one stage", ge=0
    )
    first_stage: Literal["joint", "image"] = setting(
        "joint", "what finds the candidates: all fields, or the picture alone"
    )
    text_to_image: float = setting(
        0.5, "second stage: weight of the query's text against the picture", ge=0
    )
    text_to_title: float = setting(
        0.5, "second stage: weight of the query's text against the title", ge=0
    )
    diversity: float = setting(
        0.0, "how much likeness to answers above counts against one (MMR)", ge=0, le=1
    )
