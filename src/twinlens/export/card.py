"""What stands beside an exported model, for people: `MODEL_CARD.md`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from twinlens.config import Config, differences
from twinlens.experiment import Experiment
from twinlens.export.manifest import PICTURE_STEPS
from twinlens.runs import Run
from twinlens.search import SearchModel

SHOWN = ("head.", "fusion.", "loss.", "pair.", "image_encoder.", "text_encoder.")
PHASES = ("phase1.", "phase2.")
UNKNOWN = "unknown here: ask where you got them"
PUBLISHERS = {"imagenet": "ImageNet weights that Keras publishes (keras.applications)"}


def model_card(
    run: Run,
    model: SearchModel,
    experiment: Experiment,
    manifest: Mapping[str, Any],
) -> str:
    """The card in Markdown.

    Args:
        run: whose settings and evaluation it tells.
        model: that was exported.
        experiment: the run's data.
        manifest: with what the check found.
    """
    sections = {
        "What it is": _what(run, model, experiment),
        "Data": _data(run.config, experiment.table),
        "Settings that differ from the defaults": _settings(run),
        "Measured": _metrics(run),
        "Limits": _limits(model, manifest),
        "Weights": _weights(run.config),
        "Identity": _identity(manifest),
    }
    parts = [f"## {title}\n\n{text}" for title, text in sections.items()]
    return "\n\n".join([f"# {run.name}", *parts]) + "\n"


def _what(run: Run, model: SearchModel, experiment: Experiment) -> str:
    phase = "fine-tuned end to end" if run.model_path.exists() else "heads trained only"
    encoders = (
        f"{_named(model.image_encoder.description['encoder'])} and "
        f"{_named(model.text_encoder.description['encoder'])}"
    )
    fusion = f", and the fusion `{model.fusion}` makes one query of both"
    return (
        f"An image-text dual encoder made with twinlens: {encoders} ({phase}) place "
        f"pictures and texts in one space of {model.embedding_dim} numbers"
        f"{fusion if model.fusion else ''}. Likeness is the cosine."
    )


def _named(encoder: str | list[str]) -> str:
    names = [encoder] if isinstance(encoder, str) else encoder
    return " + ".join(_last(name) for name in names)


def _last(value: str) -> str:
    """A path's last part: others' folders are nobody's business."""
    kind, colon, path = value.rpartition(":")
    return (
        kind + colon + (Path(path).name if path.startswith(("/", ".", "~")) else path)
    )


def _data(config: Config, table: pd.DataFrame) -> str:
    counts = table.groupby("split", sort=False).agg(
        pictures=("image_id", "nunique"), texts=("caption", "size")
    )
    rows = [
        f"| {split} | {pictures:,} | {texts:,} |"
        for split, pictures, texts in counts.itertuples()
    ]
    head = [
        f"Reader `{config.data.reader}`. The data set's own licence holds for what is "
        "made of it; look it up where you got the data.",
        "",
        "| split | pictures | texts |",
        "|---|---:|---:|",
    ]
    return "\n".join([*head, *rows])


def _settings(run: Run) -> str:
    sections = (*SHOWN, *(PHASES if run.model_path.exists() else PHASES[:1]))
    changed = differences(Config(), run.config)
    rows = [
        f"- `{name} = {_shown(value)}`"
        for name, (_, value) in changed.items()
        if name.startswith(sections)
    ]
    return "\n".join([*rows, f"- `seed = {run.config.seed}`"])


def _shown(value: Any) -> str:
    if isinstance(value, str):
        value = _last(value)
    if isinstance(value, tuple | list):
        value = [_last(each) if isinstance(each, str) else each for each in value]
    return json.dumps(value, ensure_ascii=False)


def _metrics(run: Run) -> str:
    if not (run.folder / "evaluation.json").exists():
        return "Not measured: the run has no evaluation.json. `twinlens evaluate` it."
    found = run.read_json("evaluation.json")
    rows = [
        f"| {name} | {each['value']:.4f} | {each['low']:.4f} to {each['high']:.4f} |"
        for name, each in found["metrics"].items()
        if "success@" not in name or name.endswith("%")  # the same as recall@K
    ]
    sizes = ", ".join(
        f"{count:,} queries in {found['gallery'][name]:,} ({name.replace('_', ' ')})"
        for name, count in found["queries"].items()
    )
    return "\n".join(
        [
            f"Split `{found['split']}`: {sizes}; {found['protocol']}. Bootstrap "
            "intervals of 95 %, drawn by picture.",
            "",
            "| metric | value | interval |",
            "|---|---:|---:|",
            *rows,
        ]
    )


def _limits(model: SearchModel, manifest: Mapping[str, Any]) -> str:
    pictures = manifest["preprocessing"]["pictures"]
    texts = manifest["preprocessing"]["texts"]
    lines = [
        "It knows the kinds of pictures and the language of its training data; "
        "measure it on yours before you rely on it.",
        "Scores order answers; they are no probabilities, and those of texts and of "
        "pictures are not comparable.",
        f"Pictures are {PICTURE_STEPS[pictures['resize']]} of "
        f"{pictures['image_size']} pixels; details smaller than that are lost.",
        f"Of a text {texts['sequence_length']} tokens are read; what follows does not "
        "count.",
        "It repeats what its data and its pretrained weights hold, prejudices too. "
        "It was made for search, not for decisions about people.",
    ]
    if model.fusion:
        lines.append("Its texts are wishes, which say what should change.")
    if manifest["collection"]:
        lines.append(f"Searches inside it are {manifest['collection']['search']}.")
    return "\n".join(f"- {line}" for line in lines)


# === Where the weights come from ===


def _weights(config: Config) -> str:
    if config.pair.name:
        return f"- both encoders: {_source(config.pair.weights, config.seed)}"
    names = config.image_encoder.name
    names = [names] if isinstance(names, str) else list(names)
    sources = config.image_encoder.weights
    sources = [sources] * len(names) if isinstance(sources, str) else list(sources)
    pairs = [*zip(names, sources, strict=True)]
    pairs.append((config.text_encoder.name, config.text_encoder.weights))
    rows = [f"- {_last(n)}: {_source(w, config.seed, n)}" for n, w in pairs]
    return "\n".join([*rows, "- heads: trained from random weights in this run"])


def _source(weights: str, seed: int, name: str = "") -> str:
    if name == "tfidf":
        return "fitted on the training captions"
    if name.startswith("hub:"):
        weights = name.removeprefix("hub:")
    if weights == "none":
        return f"random, of seed {seed}; nobody's licence"
    if weights in PUBLISHERS:
        return f"{PUBLISHERS[weights]}; licence: {UNKNOWN}"
    path = Path(weights)
    if not path.exists():
        return f"`{weights}`, by that name; licence: see the page that it names"
    return f"`{path.name}`; licence: {_licence_in(path) or UNKNOWN}"


def _licence_in(folder: Path) -> str:
    """What the front matter of a Hugging Face folder's README says; else nothing."""
    readme = folder / "README.md"
    lines = readme.read_text("utf-8").splitlines() if readme.is_file() else []
    found = [x.partition(":")[2] for x in lines[:100] if x.startswith("license:")]
    return found[0].strip(" '\"") if found else ""


def _identity(manifest: Mapping[str, Any]) -> str:
    made_with = ", ".join(f"{k} {v}" for k, v in manifest["versions"].items())
    largest = max(manifest["check"]["differences"].values())
    return (
        f"Model digest `{manifest['model']['digest']}`. Made with {made_with}. In a "
        "process of its own it gave the run's numbers within "
        f"{largest:.1g} on {manifest['check']['texts']} texts and "
        f"{manifest['check']['pictures']} pictures of the data."
    )
