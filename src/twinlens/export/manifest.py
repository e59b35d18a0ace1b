"""What stands beside an exported model, for programs: `manifest.json`."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinlens.data import images
from twinlens.export.endpoints import Endpoint
from twinlens.export.saved import FORMAT, PLAIN, file_digest
from twinlens.export.towers import Towers
from twinlens.runs import versions
from twinlens.search import SearchIndex, SearchModel
from twinlens.search.ranking import field_weights

PICTURE_STEPS = {
    "stretch": "stretched to the square",
    "pad": "made as large as fits into the square, with a black border",
}


def manifest_of(
    model: SearchModel,
    towers: Towers,
    endpoints: Mapping[str, Endpoint],
    custom: tuple[str, ...],
    index: SearchIndex | None,
) -> dict[str, Any]:
    """All but the files and what the check found.

    Args:
        model: that was exported.
        towers: its graph code.
        endpoints: by name.
        custom: operations that TensorFlow alone does not have.
        index: the collection inside, if any.
    """
    return {
        "format": FORMAT,
        "model": {
            "run": model.name,
            "digest": model.digest,
            "embedding_dim": model.embedding_dim,
            "fusion": model.fusion,
            "image_encoder": model.image_encoder.description,
            "text_encoder": model.text_encoder.description,
        },
        "endpoints": {
            name: _described(each, custom) for name, each in endpoints.items()
        },
        "preprocessing": {
            "pictures": _of_pictures(model),
            "texts": _of_texts(model, towers),
        },
        "collection": _of_collection(index) if index is not None else None,
        "custom_operations": list(custom),
        "packages": _packages(custom),
        "versions": versions(),
    }


def _described(endpoint: Endpoint, custom: tuple[str, ...]) -> dict[str, Any]:
    inputs = dict(zip(endpoint.inputs, endpoint.specs, strict=True))
    outputs = endpoint.function.structured_outputs
    needs_text = endpoint.reads_texts and bool(custom)
    return {
        "folders": ["."] if needs_text or not custom else [".", PLAIN],
        "needs_tensorflow_text": needs_text,
        "inputs": {n: _tensor(inputs[n], said) for n, said in endpoint.inputs.items()},
        "outputs": {
            n: _tensor(outputs[n], said) for n, said in endpoint.outputs.items()
        },
    }


def _tensor(spec: Any, meaning: str) -> dict[str, Any]:
    shape = spec.shape.as_list()
    return {"dtype": spec.dtype.name, "shape": shape, "meaning": meaning}


def _of_pictures(model: SearchModel) -> dict[str, Any]:
    encoder = model.image_encoder
    return {
        "steps": "turned as Exif says; transparency over white; the first frame of "
        f"what moves; {PICTURE_STEPS[encoder.resize]}, bilinear, antialiased where it "
        "shrinks; red, green, blue. The network's own scaling is inside.",
        "image_size": encoder.image_size,
        "resize": encoder.resize,
        "range": [0.0, 255.0],
        "max_pixels": images.MAX_PIXELS,
        "version": images.PREPROCESSING_VERSION,
    }


def _of_texts(model: SearchModel, towers: Towers) -> dict[str, Any]:
    return {
        "steps": "`tokenize` cuts a text into tokens, with those that stand around "
        "it; what is longer is cut off.",
        "sequence_length": towers.sequence_length,
        "fixed_length": bool(model.text_encoder.length),
        "pad_id": model.text_encoder.pad_id,
    }


def _of_collection(index: SearchIndex) -> dict[str, Any]:
    return {
        "items": len(index),
        "fields": list(index.vectors.fields),
        "weights": field_weights(index.vectors, index.defaults.weights),
        "search": "exact, in one stage; second stages, diversity and filters are not "
        "in the model",
    }


def _packages(custom: tuple[str, ...]) -> list[str]:
    names = ["tensorflow", *(["tensorflow-text"] if custom else [])]
    return [f"{name}=={importlib.metadata.version(name)}" for name in names]


def files_in(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file in a folder and those below it, by its path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in paths
    }
