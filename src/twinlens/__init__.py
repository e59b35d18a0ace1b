"""Image-text dual encoders: train them, measure them, search with them.

Names are imported when they are first used, so that `import twinlens` is quick.
"""

import importlib
from typing import Any

_HOME = {  # public name: the module it lives in
    "Config": "twinlens.config",
    "load_config": "twinlens.config",
    "read": "twinlens.data.table",
    "find_broken": "twinlens.data.broken",
    "find_leaks": "twinlens.data.near_duplicates",
    "image_encoder": "twinlens.encoders",
    "text_encoder": "twinlens.encoders",
    "encode_images": "twinlens.features",
    "encode_texts": "twinlens.features",
    "InfoNCELoss": "twinlens.losses",
    "SigmoidLoss": "twinlens.losses",
    "SoftTargetLoss": "twinlens.losses",
    "SupervisedContrastiveLoss": "twinlens.losses",
    "TripletLoss": "twinlens.losses",
    "ProjectionHead": "twinlens.heads",
    "Heads": "twinlens.model",
    "Experiment": "twinlens.experiment",
    "ComposedExperiment": "twinlens.composed_experiment",
    "HeadTraining": "twinlens.training",
    "train_phase1": "twinlens.training",
    "load_heads": "twinlens.training",
    "DualEncoder": "twinlens.model",
    "FineTuning": "twinlens.training.finetuning",
    "load_model": "twinlens.training.phase2",
    "classify": "twinlens.zero_shot",
    "zero_shot": "twinlens.zero_shot",
    "evaluate": "twinlens.evaluation",
    "evaluate_run": "twinlens.evaluation",
    "compare": "twinlens.evaluation",
    "Query": "twinlens.search",
    "SearchIndex": "twinlens.search",
    "add_items": "twinlens.search",
    "build_index": "twinlens.search",
    "items_of": "twinlens.search",
    "items_of_triplets": "twinlens.search",
    "open_model": "twinlens.search",
    "pictures_in": "twinlens.search",
    "start_run": "twinlens.runs",
    "open_run": "twinlens.runs",
    "Export": "twinlens.export",
    "export_model": "twinlens.export",
    "load_export": "twinlens.export",
    "write_embeddings": "twinlens.export",
    "write_projector": "twinlens.export",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """The public name, from its module."""
    if name not in _HOME:
        raise AttributeError(
            f"twinlens has no {name!r}. Its names: {', '.join(__all__)}."
        )
    from twinlens.quiet import import_tensorflow

    import_tensorflow()
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
