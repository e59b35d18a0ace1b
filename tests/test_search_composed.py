"""Search with a fusion: composed queries, one side alone, and mistakes."""

from dataclasses import replace

import numpy as np
import pytest
from composed_searching import composed as composed
from PIL import Image
from tiny import run

from twinlens.config import IndexSettings
from twinlens.errors import InputError
from twinlens.fusion import make_fusion
from twinlens.index import create
from twinlens.search import Query, build_index

WISH = "make the circle red and remove the square"


@pytest.fixture
def index(composed):
    return composed.index


@pytest.fixture
def path(index):
    return index.vectors.items["image_path"].iloc[5]


def direct(model, path, text, **sides):
    """A query without any of the search's own code."""
    pixels = model.image_encoder.load(path)[None]
    words = model.text_encoder.model(model.text_encoder.inputs_of([text]))
    images = model.image_encoder.model(pixels)
    return model.heads.compose(images, words, **sides).numpy()[0]


def check(found, index, query, of="score"):
    """Every answer's score is its inner product with the query."""
    rows = index.vectors.rows(found["id"])
    expected = index.vectors.vectors[rows] @ query
    np.testing.assert_allclose(found[of], expected, atol=1e-5)
    if of == "score":
        assert found["score"].is_monotonic_decreasing


# === Queries ===


def test_a_picture_with_a_text_is_the_composed_query(composed, index, path):
    query = direct(composed.model, path, WISH)
    other = index.vectors.items["image_path"].iloc[30]
    for changed in ((path, "x"), (other, WISH)):  # both sides count
        assert np.abs(direct(composed.model, *changed) - query).max() > 0.01
    for fusion in ("auto", "trained"):
        found = index.search(WISH, image=path, k=36, fusion=fusion)
        assert len(found) == 36
        check(found, index, query)
    contents = open(path, "rb").read()
    check(index.search(WISH, image=contents, k=36), index, query)


def test_one_side_alone_is_composed_without_the_other(composed, index, path):
    model = composed.model
    text = direct(model, path, WISH, has_image=np.array([False]))
    check(index.search(WISH, k=36), index, text)
    picture = direct(model, path, WISH, has_text=np.array([False]))
    check(index.search(image=path, k=36), index, picture)
    pixels = model.image_encoder.load(path)[None]
    head = model.heads.image_head(model.image_encoder.model(pixels))[0]
    np.testing.assert_allclose(picture, head, atol=1e-6)


def test_an_item_is_its_vector_and_with_a_text_its_file(index, path):
    own = index.vectors.items["id"].iloc[5]
    check(index.search(item=own, k=36), index, index.vectors.vectors[5])
    by_item = index.search(WISH, item=own, k=36)
    by_file = index.search(WISH, image=path, k=36)
    others = by_file[by_file["id"] != own]
    assert by_item["id"].tolist() == others["id"].tolist()
    np.testing.assert_allclose(by_item["score"], others["score"], atol=1e-6)


def test_the_sum_adds_both_sides_by_weight(composed, index, path):
    model = composed.model
    text = direct(model, path, WISH, has_image=np.array([False]))
    picture = direct(model, path, WISH, has_text=np.array([False]))
    for weight in (0.0, 0.3, 1.0):
        both = weight * text + (1 - weight) * picture
        settings = {"fusion": "sum", "text_weight": weight}
        found = index.search(WISH, image=path, k=36, **settings)
        check(found, index, both / np.linalg.norm(both))


def test_many_queries_are_each_alone(index, path, monkeypatch):
    own = index.vectors.items["id"].iloc[7]
    queries = [Query(WISH), Query("a longer wish, with many more words", path)]
    queries += [Query(item=own), Query("blue", item=own), Query(image=path)]
    queries += [Query("red", path)]
    monkeypatch.setattr("twinlens.search.search_index.BLOCK", 4)
    together = index.search_many(queries, k=5, candidates=8)
    for query, found in zip(queries, together, strict=True):
        alone = index.search(query.text, query.image, query.item, k=5, candidates=8)
        assert found["id"].tolist() == alone["id"].tolist()
        np.testing.assert_allclose(found["score"], alone["score"], atol=1e-5)


def test_the_second_stage_goes_by_the_wish_alone(composed, index, path):
    settings = {"candidates": 8, "text_to_image": 2.0, "k": 8}
    found = index.search(WISH, image=path, **settings)
    first = index.search(WISH, image=path, k=8)
    assert set(found["id"]) == set(first["id"])
    text = direct(composed.model, path, WISH, has_image=np.array([False]))
    check(found, index, text, of="text_to_image")
    check(found, index, direct(composed.model, path, WISH), of="joint")
    silent = index.search(item=index.vectors.items["id"].iloc[0], **settings)
    assert silent["text_to_image"].isna().all()  # nothing was said


# === The model and its fields ===


def test_another_fusion_is_another_model(composed):
    heads = composed.model.heads
    digests = {composed.model.digest}
    for kind in ("sum", "image", "text"):  # one weight each, alike at the start
        other = heads.from_config(heads.get_config())
        other.fusion = make_fusion(kind, name=kind)
        other.build(((None, 4, 128), (None, None, 8)))
        for mine, theirs in (
            (other.image_head, heads.image_head),
            (other.text_head, heads.text_head),
        ):
            mine.set_weights(theirs.get_weights())
        digests.add(replace(composed.model, heads=other).digest)
    assert len(digests) == 4


def test_pictures_belong_to_the_split_of_their_triplets(index):
    items = index.vectors.items
    assert items["split"].value_counts().to_dict() == {
        "train": 16,
        "test": 12,
        "val": 8,
    }
    assert (items["id"].str.split("_").str[0] == items["split"]).all()
    assert (items["title"] == "").all()


def test_attributes_and_words_stand_beside_the_fused_picture(composed, index, tmp_path):
    items = index.vectors.items.iloc[:6].assign(kind=list("aabbcc"))
    items["title"] = ["a red disc", "a blue disc", "square", "red", "green", "big"]
    fields = IndexSettings(fields=("image", "attribute:kind", "tfidf:2"))
    made = build_index(composed.model, items, tmp_path / "index", fields)
    found = made.search(WISH, item=items["id"].iloc[0], k=5)
    assert len(found) == 5
    silent = made.search(item=items["id"].iloc[0], candidates=4)
    assert silent["text_to_image"].isna().all()  # a title is no wish
    alike = made.search(WISH, item=items["id"].iloc[0], weights={"attribute:kind": 1})
    assert alike["id"].iloc[0] == items["id"].iloc[1]


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("title", "reads wishes"),
        ("title_feature:8", "reads wishes"),
        ("image_feature", "features of places"),
    ],
)
def test_fields_that_a_fusion_has_not_are_refused(composed, tmp_path, field, why):
    items = composed.index.vectors.items.assign(title="x")
    settings = IndexSettings(fields=("image", field))
    with pytest.raises(InputError, match=f"{field}.*tiny-phase1 has a fusion.*{why}"):
        build_index(composed.model, items, tmp_path / "index", settings)


# === Mistakes ===


def test_mistakes_are_named(index, path, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no picture")
    for query, message in (
        ({}, "The query is empty"),
        ({"text": " ", "image": path}, "Query text 1 of 1 is empty"),
        ({"text": WISH, "image": tmp_path / "no.png"}, r"no\.png"),
        ({"text": WISH, "image": path, "text_weight": 0.3}, "--set fusion=sum"),
        ({"text": WISH, "image": path, "fusion": "some"}, "fusion"),
        ({"text": WISH, "item": "nobody"}, "'nobody' is no item of"),
    ):
        with pytest.raises(InputError, match=f"(?s){message}"):
            index.search(**query)


def test_an_item_whose_file_is_gone_is_named(composed, index, tmp_path):
    gone = tmp_path / "gone.png"
    Image.new("RGB", (40, 40), "red").save(gone)
    items = index.vectors.items.iloc[:3].assign(image_path=str(gone))
    made = build_index(composed.model, items, tmp_path / "index")
    gone.unlink()
    first = items["id"].iloc[0]
    assert len(made.search(item=first)) == 2  # its vector is there
    with pytest.raises(InputError, match=r"gone\.png"):
        made.search(WISH, item=first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("search", "{pairs}", "x", "--set", "fusion=trained"),
            "fusion.name=attention",
        ),
        (("index", "--index", "{pairs}", "--tune", "triplets"), "run without a fusion"),
        (("evaluate", "{pairs}", "--triplets"), "run without a fusion"),
        (("evaluate", "{fused}", "--triplets", "--label", "a"), "do not go with it"),
        (("evaluate", "{fused}", "--triplets", "--set", "seed=1"), "as it is"),
        (("evaluate", "{fused}", "{pairs}", "--triplets"), "one index"),
        (("evaluate", "--triplets"), "Name a run"),
    ],
)
def test_mistakes_of_commands_are_sentences(composed, tmp_path, arguments, message):
    made_by = {"name": "m", "digest": "", "run": "nowhere"}
    pairs = create(tmp_path / "index", {"image": 8}, IndexSettings(), made_by)
    items = composed.index.vectors.items[:4]
    pairs.add(items, [np.eye(4, 8, dtype=np.float32)])
    known = {"pairs": pairs.folder, "fused": composed.folder}
    said = run(*(each.format(**known) for each in arguments))
    assert said.code == 1 and message in said.err
