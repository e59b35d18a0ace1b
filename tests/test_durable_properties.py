"""Properties of readers, settings, metrics and filters, for whatever comes."""

import json
import math
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twinlens.config import Config, load_config, to_toml
from twinlens.data.readers import READERS
from twinlens.data.table import load
from twinlens.errors import InputError
from twinlens.index.filters import parse_filter
from twinlens.metrics import retrieval_metrics, retrieval_ranks
from twinlens.metrics.labels import label_metrics

few = settings(max_examples=60, deadline=None)

# === Readers ===

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
CAPTIONS = st.lists(WORDS.map(str.strip).filter(bool), min_size=1, max_size=6)


@pytest.mark.slow
@few
@given(CAPTIONS, st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]))
def test_captions_come_back_as_they_were_written(captions, suffix):
    rows = [{"image": "a.jpg", "caption": each} for each in dict.fromkeys(captions)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.jpg").touch()
        file = Path(folder) / f"captions{suffix}"
        frame = pd.DataFrame(rows)
        if suffix == ".parquet":
            frame.to_parquet(file)
        elif suffix == ".jsonl":
            file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        else:
            frame.to_csv(file, index=False, sep="\t" if suffix == ".tsv" else ",")
        found = load("table", file)
    assert not found.problems
    said = [" ".join(row["caption"].split()) for row in rows]  # spaces of any kind
    assert found.table["caption"].tolist() == list(dict.fromkeys(said))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["images", "annotations", "id", "image_id", "file_name", "caption"]
                + [
                    "sentences",
                    "raw",
                    "filename",
                    "split",
                    "imgid",
                    "candidate",
                    "target",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FILES = {
    "coco": ("captions.json", "annotations/captions_train2017.json"),
    "karpathy": ("dataset.json", "dataset_flickr8k.json"),
    "flickr8k": ("captions.txt", "Flickr8k.token.txt"),
    "flickr30k": ("results.csv", "results_20130124.token"),
    "fashion": ("styles.csv", "styles.csv"),
    "shopee": ("train.csv", "train.csv"),
    "table": ("captions.csv", "captions.jsonl"),
}
TABLES = st.binary(max_size=60) | st.text(
    st.sampled_from('image,caption|#"\t\n0123456789.jpg\r é{}[]:\x00'), max_size=80
).map(str.encode)


@few
@given(
    st.sampled_from(sorted(FILES)),
    st.integers(0, 1),
    TABLES | JSON.map(lambda value: json.dumps(value).encode()),
)
@example("table", 1, b'{"image": "a", "caption": {}}')
@example("table", 0, b"image,caption\na,b\n\na,c,d\n")
@example("coco", 0, b'{"images": 3, "annotations": [[]]}')
def test_any_file_is_read_or_refused_in_words(reader, which, contents):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILES[reader][which]
        file.parent.mkdir(exist_ok=True)
        (Path(folder) / "images").mkdir(exist_ok=True)
        (Path(folder) / "a").touch()
        file.write_bytes(contents)
        for path in (folder, file):
            try:
                table = load(reader, path).table
            except InputError as error:
                assert len(str(error)) > 20
            else:
                assert len(table) and (table["caption"].str.strip() != "").all()


def test_every_reader_of_captions_is_tried():
    assert set(READERS) - set(FILES) == {"folder", "scenes"}


# === Settings ===


@few
@given(st.text(max_size=60))
def test_any_experiment_file_is_taken_or_refused_in_words(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.toml"
        path.write_text(text, "utf-8", newline="")
        try:
            config = load_config(path)
        except InputError as error:
            assert str(path) in str(error)
        else:
            assert tomllib.loads(to_toml(config))


@pytest.mark.slow
@few
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.floats(1e-8, 1e-1),
    st.integers(2, 10**6),
    st.lists(st.text(st.characters(codec="ascii"), max_size=5), max_size=3),
)
def test_settings_written_and_read_again_are_the_same(path, rate, size, layers):
    config = Config()
    config = config.model_copy(
        update={
            "data": config.data.model_copy(update={"path": path}),
            "phase1": config.phase1.model_copy(
                update={"learning_rate": rate, "batch_size": size}
            ),
            "image_encoder": config.image_encoder.model_copy(
                update={"layer": tuple(layers)}
            ),
        }
    )
    found = Config.model_validate(tomllib.loads(to_toml(config)))
    assert found.data.path == path and found.phase1 == config.phase1
    assert tuple(found.image_encoder.layer) == tuple(layers)


# === Metrics ===


@st.composite
def problems(draw):
    """A few pictures and captions in two dimensions, so that many scores tie."""
    pictures = draw(st.integers(1, 7))
    rows = draw(st.lists(st.integers(0, pictures - 1), min_size=1, max_size=12))
    vector = st.tuples(*[st.integers(-2, 2)] * 2)
    images = draw(st.lists(vector, min_size=pictures, max_size=pictures))
    texts = draw(st.lists(vector, min_size=len(rows), max_size=len(rows)))
    return np.array(images, float), np.array(texts, float), np.array(rows)


@few
@given(problems())
def test_metrics_of_a_search_are_those_of_its_sorted_lists(problem):
    images, texts, rows = problem
    ranks = retrieval_ranks(images, range(len(images)), texts, rows).text_to_image
    found = retrieval_metrics(ranks, len(images), ks=(1, 3), percents=(50,))
    true = []
    for text, right in zip(texts, rows, strict=True):
        scores = images @ text
        true.append(sum(scores >= scores[right]))  # ties count against it
    count = len(true)
    assert math.isclose(found["recall@1"], sum(r <= 1 for r in true) / count)
    assert math.isclose(found["recall@3"], sum(r <= 3 for r in true) / count)
    most = max(1, len(images) // 2)
    assert math.isclose(found["success@50%"], sum(r <= most for r in true) / count)
    assert (
        math.isclose(found["median_rank"], sorted(true)[count // 2]) or count % 2 == 0
    )
    assert math.isclose(found["mean_rank"], sum(true) / count)
    assert math.isclose(found["mrr"], sum(1 / r for r in true) / count)


@few
@given(st.lists(st.integers(0, 3), min_size=3, max_size=10), st.integers(0, 2**32))
def test_metrics_of_labels_are_those_of_their_definition(labels, seed):
    vectors = np.random.default_rng(seed).normal(size=(len(labels), 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.array(labels)
    if not any((labels == each).sum() > 1 for each in labels):
        return
    found = label_metrics(vectors, labels, ks=(1, 2)).per_query
    precisions, averages = [], []
    for query, label in enumerate(labels):
        others = [n for n in range(len(labels)) if n != query]
        others.sort(key=lambda n: -(vectors[n] @ vectors[query]))
        right = [labels[n] == label for n in others]
        if any(right):
            precisions.append(sum(right[:2]) / 2)
            places = [n + 1 for n, each in enumerate(right) if each]
            share = [(n + 1) / place for n, place in enumerate(places)]
            averages.append(sum(share) / len(share))
    np.testing.assert_allclose(found["precision@2"], precisions, atol=1e-9)
    np.testing.assert_allclose(found["map"], averages, atol=1e-9)


# === Filters ===

ITEMS = pd.DataFrame(
    {
        "id": [str(n) for n in range(8)],
        "kind": ["a", "b", None, "a b", 'q"q', "a", "b", "it's"],
        "year": pd.array([1, 2, 3, None, 2, 1, -5, 9], "Int64"),
        "price": [0.5, None, 2.0, 3.5, -1.0, 0.5, 2.0, 1e6],
    }
)
TEXTS = st.sampled_from(["a", "b", "a b", 'q"q', "it's", "none"])
NUMBERS = st.integers(-6, 10) | st.sampled_from([0.5, 2.5, 1e6, -1.0])
SIGNS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
WHAT = {
    **{"=": lambda a, b: a == b, "!=": lambda a, b: a != b},
    **{"<": lambda a, b: a < b, "<=": lambda a, b: a <= b},
    **{">": lambda a, b: a > b, ">=": lambda a, b: a >= b},
}


def written(value):
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def compared(name, sign, value):
    def test(row):
        return not pd.isna(row[name]) and bool(WHAT[sign](row[name], value))

    return f"{name} {sign} {written(value)}", test


def inside(name, values):
    words = f"{name} in ({', '.join(map(written, values))})"
    return words, lambda row: not pd.isna(row[name]) and row[name] in values


def joined(word, one, other):
    both = {"and": lambda a, b: a and b, "or": lambda a, b: a or b}[word]
    return f"({one[0]}) {word} ({other[0]})", lambda r: both(one[1](r), other[1](r))


COMPARISONS = (
    st.builds(compared, st.just("kind"), SIGNS, TEXTS)
    | st.builds(compared, st.sampled_from(["year", "price"]), SIGNS, NUMBERS)
    | st.builds(inside, st.just("kind"), st.lists(TEXTS, min_size=1, max_size=3))
    | st.builds(inside, st.just("year"), st.lists(NUMBERS, min_size=1, max_size=3))
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: (
        st.builds(joined, st.sampled_from(["and", "or"]), inner, inner)
        | inner.map(lambda one: (f"not ({one[0]})", lambda row: not one[1](row)))
    ),
    max_leaves=5,
)


@few
@given(FILTERS)
def test_any_filter_lets_through_what_python_would(filter_):
    words, test = filter_
    expected = [test(row) for row in ITEMS.to_dict("records")]
    assert parse_filter(words, ITEMS).mask(ITEMS).tolist() == expected


@few
@given(st.text(max_size=40) | st.text('kind year=<>()"andornot12', max_size=40))
def test_any_words_are_a_filter_or_refused_in_words(words):
    try:
        mask = parse_filter(words, ITEMS).mask(ITEMS)
    except InputError as error:
        assert "filter" in str(error)
    else:
        assert len(mask) == len(ITEMS)
