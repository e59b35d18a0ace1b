"""A run as a folder that needs nothing of twinlens."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tensorflow as tf

from twinlens.composed_experiment import open_experiment
from twinlens.export.card import model_card
from twinlens.export.check import TOLERANCE, ask, differences, refuse_differing
from twinlens.export.collection import Collection
from twinlens.export.endpoints import Endpoint, endpoints_of
from twinlens.export.folder import check_absent, new_folder
from twinlens.export.formats import FORMATS, check_formats
from twinlens.export.manifest import files_in, manifest_of
from twinlens.export.samples import Arrays, Samples, answers, questions
from twinlens.export.saved import MANIFEST, PLAIN, write_saved_models
from twinlens.export.towers import Towers
from twinlens.runs import open_run
from twinlens.search import SearchIndex, SearchModel, open_model
from twinlens.search.search_index import check_model

USE = "use.py"
CARD = "MODEL_CARD.md"

Say = Callable[[str], None]


def export_model(
    run: str | Path,
    out: str | Path,
    index: str | Path = "",
    formats: Sequence[str] = (),
    say: Say = print,
) -> dict[str, Any]:
    """Writes a run as a SavedModel with endpoints, and what belongs beside it.

    It appears under its name when a process without twinlens has loaded it and given
    the run's numbers, and else not at all.

    Args:
        run: folder or name of a trained run.
        out: folder to write.
        index: of the same model: its collection goes into the export, too.
        formats: other forms of both towers beside it, of `FORMATS`.
        say: shows a line to the person.

    Returns:
        What `manifest.json` holds.

    Raises:
        InputError: no such run; the folder is there or cannot be written; the index
            is of another model; a package is missing; pictures are prepared by what
            cannot be exported; the export differs from the run.

    Example:
        ```python
        export_model("flickr8k-phase1", "models/flickr8k")
        export = load_export("models/flickr8k")
        export.endpoints["encode_text"](texts=tf.constant(["a dog"]))["embedding"]
        ```
    """
    out, opened = Path(out), open_run(run)
    check_absent(out)
    check_formats(formats)
    with _step(say, f"Opening {opened.name}"):
        model, experiment = open_model(opened), open_experiment(opened.config)
        searched = _index_of(index, model)
        towers = Towers(model)
        collection = None if searched is None else Collection(searched, towers)
        takes_texts = collection is not None and collection.takes_texts
        proof = Proof.of(model, experiment.table, searched, takes_texts)
    with new_folder(out) as folder:
        endpoints = endpoints_of(towers, collection)
        with _step(say, f"Writing a SavedModel with {', '.join(endpoints)}"):
            custom = write_saved_models(_all(towers, collection), endpoints, folder)
        manifest = manifest_of(model, towers, endpoints, custom, searched)
        manifest["check"] = {
            "texts": len(proof.samples.texts),
            "pictures": len(proof.samples.pictures),
            "differences": proof.check(folder, endpoints, custom, say),
            "formats": {},
        }
        for name in formats:
            with _step(say, f"Converting both towers to {FORMATS[name].title}"):
                gaps = proof.check_format(name, towers, folder / name)
            manifest["check"]["formats"][name] = gaps
        _write_beside(folder, manifest, model_card(opened, model, experiment, manifest))
    return manifest


@dataclass(frozen=True)
class Proof:
    """What an export has to answer.

    Attributes:
        samples: real texts and pictures.
        asked: inputs by endpoint.
        expected: what the run and its index answer.
    """

    samples: Samples
    asked: Mapping[str, Arrays]
    expected: Mapping[str, Arrays]

    @classmethod
    def of(
        cls,
        model: SearchModel,
        table: pd.DataFrame,
        index: SearchIndex | None,
        takes_texts: bool,
    ) -> "Proof":
        """Of texts and pictures of a caption table; see `answers`."""
        samples = Samples.of(table, model.image_encoder)
        asked = questions(samples, model)
        return cls(samples, asked, answers(asked, model, index, takes_texts))

    def check(
        self,
        folder: Path,
        endpoints: Mapping[str, Endpoint],
        custom: Sequence[str],
        say: Say,
    ) -> dict[str, float]:
        """Asks the SavedModels in processes of their own.

        Returns:
            The largest difference by endpoint; of the SavedModel without custom
            operations with its folder before the name.

        Raises:
            InputError: one differs, or cannot be used there.
        """
        packages = ["tensorflow_text"] if custom else []
        with _step(
            say, f"Asking it without twinlens, {', '.join(packages) or 'alone'}"
        ):
            found = self._asked(folder, endpoints, packages)
        if custom:
            plain = [name for name, each in endpoints.items() if not each.reads_texts]
            with _step(say, "Asking the one for TensorFlow alone"):
                gaps = self._asked(folder / PLAIN, plain, [])
            found |= {f"{PLAIN}/{name}": gap for name, gap in gaps.items()}
        refuse_differing(found, TOLERANCE, "The export")
        return found

    def check_format(self, name: str, towers: Towers, folder: Path) -> dict[str, float]:
        """Writes both towers in another form, runs them and compares.

        Returns:
            The largest difference by tower.

        Raises:
            InputError: it cannot be converted, or differs.
        """
        made = FORMATS[name]
        made.write(towers, folder)
        found = differences(made.ask(folder, self.asked), self.expected)
        refuse_differing(found, made.tolerance, f"The {made.title} model")
        return found

    def _asked(self, folder, endpoints, packages) -> dict[str, float]:
        asked = {name: self.asked[name] for name in endpoints}
        return differences(ask(folder, asked, packages), self.expected)


def _index_of(path: str | Path, model: SearchModel) -> SearchIndex | None:
    if not path:
        return None
    index = SearchIndex.load(path, model.folder)
    check_model(index.vectors, model)
    index._model = model  # the same weights need not be opened again
    return index


def _all(towers: Towers, collection: Collection | None) -> tf.Module:
    """What holds all variables and tables."""
    module = tf.Module(name="export")
    module.towers, module.collection = towers, collection
    return module


def _write_beside(folder: Path, manifest: dict[str, Any], card: str) -> None:
    shutil.copyfile(Path(__file__).with_name(USE), folder / USE)
    (folder / CARD).write_text(card, "utf-8")
    manifest["files"] = files_in(folder)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")


@contextlib.contextmanager
def _step(say: Say, what: str) -> Iterator[None]:
    """Says what is done, before and after."""
    say(f"{what} …")
    start = time.monotonic()
    yield
    say(f"  {time.monotonic() - start:.1f} s")
