"""Search: queries in the shared space, weights, stages, filters, other models."""

import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from searching import BOTH
from tiny import train

from twinlens.config import Config, IndexSettings
from twinlens.errors import InputError
from twinlens.search import (
    Query,
    SearchIndex,
    add_items,
    build_index,
    items_of,
    pictures_in,
)
from twinlens.search.build import as_numbers
from twinlens.search.fields import principal_components


def block(index, name):
    return index.vectors.vectors[:, index.vectors.fields[name]]


# === The model ===


def test_items_have_one_title_and_numbers_where_all_are(items):
    assert list(items.columns[:4]) == ["id", "image_path", "title", "split"]
    assert len(items) == 24 and items["title"].iloc[0] == "a red disc"
    assert items["number"].tolist() == list(range(24))
    mixed = pd.Series(["1", "x", None])
    assert as_numbers(mixed).tolist()[:2] == ["1", "x"]
    assert as_numbers(pd.Series(["a", ""])).isna().tolist() == [False, True]
    for text in (["007", "8"], ["12345678901234567", "1"], ["1e999", "2"]):
        assert as_numbers(pd.Series(text)).tolist() == text  # no number keeps them
    assert as_numbers(pd.Series(["1.5", "", None])).tolist()[0] == 1.5


def test_an_index_holds_the_embeddings_of_the_evaluation(index, model, items):
    pictures = model.image_features(items["image_path"].tolist())
    embedded = model.embed_image_features(pictures, np.arange(24))
    np.testing.assert_allclose(block(index, "image"), embedded, atol=1e-4)
    titles = model.embed_texts(items["title"].tolist())
    np.testing.assert_allclose(block(index, "title"), titles, atol=1e-5)


def test_bytes_and_files_are_the_same_picture(model, items):
    path = items["image_path"].iloc[3]
    contents = open(path, "rb").read()
    np.testing.assert_array_equal(*model.image_features([path, contents]))


def test_a_text_needs_no_picture_encoder_and_a_picture_checks_it(
    index, model, items, monkeypatch
):
    def built(*_, **__):
        raise AssertionError("the picture encoder was built")

    loaded = SearchIndex.load(index.vectors.folder, model.folder)
    with monkeypatch.context() as patch:
        patch.setattr("twinlens.experiment.image_encoder", built)
        found = loaded.search(text="a red disc")
    pd.testing.assert_frame_equal(found, index.search(text="a red disc"))
    loaded.vectors.info["model"] |= {"digest": "f" * 32}
    with pytest.raises(InputError, match="is another model"):
        loaded.search(image=items["image_path"].iloc[0])


@pytest.mark.parametrize("known", ["text_digest", "digest"])
def test_a_text_is_not_compared_with_vectors_of_another_model(index, model, known):
    loaded = SearchIndex.load(index.vectors.folder, model.folder)
    made_by = loaded.vectors.info["model"] | {known: "f" * 32}
    if known == "digest":  # as indexes were written before there were two
        del made_by["text_digest"]
    loaded.vectors.info["model"] = made_by
    with pytest.raises(InputError, match="is another model"):
        loaded.search(text="a red disc")


# === Queries ===


def test_a_text_is_compared_with_pictures_and_titles_by_weight(index, model):
    text = model.embed_texts(["a blue square"])[0]
    for weight in (0.0, 0.3, 1.0):
        weights = {"image": 1 - weight, "title": weight}
        found = index.search("a blue square", k=24, weights=weights)
        scores = (1 - weight) * block(index, "image") @ text
        scores = scores + weight * block(index, "title") @ text
        rows = index.vectors.rows(found["id"])
        np.testing.assert_allclose(found["score"], scores[rows], atol=1e-5)
        assert found["score"].is_monotonic_decreasing
        assert found["rank"].tolist() == list(range(1, 25))


def test_text_and_picture_are_added_by_weight(index, model, items):
    path = items["image_path"].iloc[5]
    picture = model.embed_image_features(model.image_features([path]), np.arange(1))[0]
    text = model.embed_texts(["a red disc"])[0]
    for weight in (0.0, 0.6, 1.0):
        found = index.search(
            "a red disc", image=path, k=24, text_weight=weight, weights={"image": 1}
        )
        joint = weight * text + (1 - weight) * picture
        scores = block(index, "image") @ (joint / np.linalg.norm(joint))
        rows = index.vectors.rows(found["id"])
        np.testing.assert_allclose(found["score"], scores[rows], atol=1e-4)


def test_an_item_finds_others_by_the_joined_vector_and_never_itself(index):
    found = index.search(item="07.png", k=24)
    assert len(found) == 23 and "07.png" not in set(found["id"])
    own = index.vectors.vectors[7]
    scores = index.vectors.vectors @ own / 2  # both fields alike
    rows = index.vectors.rows(found["id"])
    np.testing.assert_allclose(found["score"], scores[rows], atol=1e-5)


def test_filters_hold_and_many_queries_are_each_alone(index, items):
    queries = [Query("a red disc"), Query(item="03.png"), Query("a green square")]
    where = 'colour != "red" and number >= 4'
    together = index.search_many(queries, where, k=30)
    passing = items[(items["colour"] != "red") & (items["number"] >= 4)]
    for query, found in zip(queries, together, strict=True):
        assert set(found["id"]) == set(passing["id"]) - {query.item}
        alone = index.search(query.text, item=query.item, where=where, k=30)
        np.testing.assert_allclose(found["score"], alone["score"], atol=1e-5)


def test_the_second_stage_orders_candidates_by_text(index, model):
    settings = {"text_to_image": 2.0, "text_to_title": 1.0, "candidates": 10}
    first = index.search(item="07.png", text="a red disc", k=10)
    found = index.search(item="07.png", text="a red disc", k=10, **settings)
    assert set(found["id"]) == set(first["id"])
    text = model.embed_texts(["a red disc"])[0]
    rows = index.vectors.rows(found["id"])
    to_image, to_title = (block(index, name)[rows] @ text for name in BOTH.fields)
    np.testing.assert_allclose(found["text_to_image"], to_image, atol=1e-5)
    np.testing.assert_allclose(found["text_to_title"], to_title, atol=1e-5)
    total = (found["joint"] + 2 * to_image + to_title) / 4
    np.testing.assert_allclose(found["score"], total, atol=1e-5)
    assert found["score"].is_monotonic_decreasing
    joint = first.set_index("id")["score"].loc[found["id"]].to_numpy()
    np.testing.assert_allclose(found["joint"], joint, atol=1e-5)


def test_an_item_without_a_text_speaks_by_its_title(index):
    titled = index.search(item="07.png", text="a green disc", candidates=8, k=8)
    silent = index.search(item="07.png", candidates=8, k=8)
    title = block(index, "title")[7]
    rows = index.vectors.rows(silent["id"])
    np.testing.assert_allclose(
        silent["text_to_title"], block(index, "title")[rows] @ title, atol=1e-5
    )
    assert not titled["text_to_title"].equals(silent["text_to_title"])
    picture = index.search(image=index.vectors.items["image_path"].iloc[0], k=3)
    again = index.search(
        image=index.vectors.items["image_path"].iloc[0], k=3, candidates=3
    )
    assert again["text_to_image"].isna().all()  # nothing was said
    np.testing.assert_allclose(again["score"], picture["score"], atol=1e-6)


def test_candidates_can_come_from_the_picture_alone(index):
    found = index.search(
        item="07.png", candidates=6, k=6, first_stage="image", text_to_title=3.0
    )
    alone = index.search(item="07.png", k=6, weights={"image": 1.0})
    assert set(found["id"]) == set(alone["id"])


def test_diversity_puts_unlike_answers_forward(index):
    plain = index.search("a red disc", k=6)
    varied = index.search("a red disc", k=6, diversity=0.9)
    assert varied["id"].iloc[0] == plain["id"].iloc[0]

    def likeness(found):
        vectors = index.vectors.vectors[index.vectors.rows(found["id"])]
        return (vectors @ vectors.T)[np.triu_indices(6, 1)].mean()

    assert likeness(varied) < likeness(plain)
    everything = index.search("a red disc", k=24, diversity=0.5)
    assert sorted(everything["id"]) == sorted(index.vectors.items["id"])


# === Building and changing ===


def test_items_are_added_replaced_and_removed_later(model, items, tmp_path):
    index = build_index(model, items.iloc[:10], tmp_path / "index", BOTH)
    assert add_items(index, items.iloc[8:]) == 2
    assert len(index) == 24
    index.remove(["00.png"])
    again = SearchIndex.load(tmp_path / "index")
    assert len(again) == 23 and "00.png" not in set(again.search("a", k=30)["id"])


def test_an_attribute_keeps_its_kind(model, items, tmp_path):
    index = build_index(model, items.iloc[:10], tmp_path / "index", BOTH)
    with pytest.raises(InputError, match="'number' holds numbers in the index, but te"):
        add_items(index, items.iloc[10:].assign(number="many"))
    assert len(SearchIndex.load(tmp_path / "index")) == 10
    add_items(index, items.iloc[10:].assign(number=""))
    assert len(index.search("a red disc", k=24, where="number < 5")) == 5


def test_pictures_without_captions_are_searchable(model, home, tmp_path):
    folder = tmp_path / "pictures"
    (folder / "inside").mkdir(parents=True)
    for number in range(6):
        name = f"{number:02}.png"
        shutil.copy(
            home.data.parent / name, folder / ("inside" if number else ".") / name
        )
    found = pictures_in(folder)
    assert found["id"].tolist()[:2] == ["00.png", "inside/01.png"]
    index = build_index(model, found, tmp_path / "index")
    assert len(index.search("a red disc", k=10)) == 6
    with pytest.raises(InputError, match="holds no picture"):
        pictures_in(home.folder / "features")


def test_further_fields_serve_items(model, items, tmp_path):
    names = ("image_feature", "title_feature:3", "tfidf:4", "attribute:colour")
    index = build_index(model, items, tmp_path / "index", IndexSettings(fields=names))
    sizes = index.vectors.info["fields"]
    assert sizes["title_feature:3"] == 3 and sizes["attribute:colour"] == 3
    for name in names:
        lengths = np.linalg.norm(block(index, name), axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-5)
    same = index.search(item="00.png", k=8, weights={"attribute:colour": 1.0})
    colour = items.set_index("id")["colour"]
    reds = set(items["id"][items["colour"] == colour["00.png"]]) - {"00.png"}
    assert set(same["id"][same["score"] > 0.99]) == reds
    with pytest.raises(InputError, match="compared with image and title only"):
        index.search("a red disc")
    with pytest.raises(InputError, match="'title_feature:3', which was learned"):
        add_items(index, items)


def test_principal_components_are_those_of_scikit_learn(random):
    from sklearn.decomposition import PCA

    values = random.normal(size=(200, 6)) * np.array([5, 4, 3, 2, 1, 0.5])
    mean, axes = principal_components(values, 3)
    reference = PCA(3).fit(values)
    np.testing.assert_allclose(mean, reference.mean_, atol=1e-6)
    overlap = np.abs(np.sum(axes * reference.components_, axis=1))
    np.testing.assert_allclose(overlap, 1, atol=1e-6)


def test_an_approximate_index_says_what_it_loses(model, items, tmp_path):
    settings = IndexSettings(fields=("image",), backend="hnsw", audit_queries=10)
    index = build_index(model, items, tmp_path / "index", settings)
    audit = SearchIndex.load(tmp_path / "index").vectors.info["audit"]
    assert audit == {
        "text_to_image": 1.0,
        "item_to_item": 1.0,
    }  # 24 items: it finds all
    assert index.search("a red disc", k=3)["score"].is_monotonic_decreasing


def test_attributes_called_like_answers_get_an_underscore(home):
    table = pd.DataFrame(
        {
            "image_id": ["a", "b"],
            "image_path": ["a.png", "b.png"],
            "caption": ["one", "two"],
            "split": "test",
            "title": ["x", "y"],
            "rank": ["3", ""],
            "query": ["q", "q"],
            "season": ["Fall", ""],
        }
    )
    items = items_of(table)
    assert list(items)[4:] == ["title_", "rank_", "query_", "season"]
    assert items["title"].tolist() == ["one", "two"]
    assert items["rank_"].isna().tolist() == [False, True]
    assert items["season"].isna().tolist() == [False, True]


def test_pictures_without_titles_join_an_index_with_titles(model, items, tmp_path):
    index = build_index(model, items.iloc[:6], tmp_path / "index", BOTH)
    silent = items.iloc[6:8].assign(title="")
    assert add_items(index, silent) == 0
    assert not block(index, "title")[6:].any()
    assert len(index.search("a red disc", k=8)) == 8
    with pytest.raises(InputError, match="none of these 2 items has a title"):
        fields = IndexSettings(fields=("image", "title_feature"))
        build_index(model, silent, tmp_path / "other", fields)


def test_many_queries_are_asked_in_blocks(index, monkeypatch):
    ids = index.vectors.items["id"]
    queries = [Query(item=each) for each in ids] + [Query("a red disc")]
    whole = index.search_many(queries, k=4, candidates=6)
    monkeypatch.setattr("twinlens.search.search_index.BLOCK", 7)
    parts = index.search_many(queries, k=4, candidates=6)
    for one, other in zip(whole, parts, strict=True):
        assert one["id"].tolist() == other["id"].tolist()


# === Mistakes ===


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "The query is empty"),
        ({"text": "   "}, "Query text 1 of 1 is empty"),
        ({"item": "99.png"}, "'99.png' is no item of"),
        ({"item": "00.png", "image": "x.png"}, "a picture or an item, not both"),
        ({"image": "/no/such.png"}, "cannot be read"),
        ({"text": "a", "weights": {"titel": 1}}, "has the fields image, title"),
        ({"text": "a", "weights": {"title": 0}}, "are all zero"),
        ({"text": "a", "k": 0}, "search setting does not fit.*greater than or equal"),
        ({"text": "a", "text_wieght": 1}, "no search setting 'text_wieght'"),
        ({"text": "a", "text_weight": 2}, "text_weight"),
        ({"text": "a", "where": "size = 3"}, "names 'size'.*colour, shape, number"),
    ],
)
def test_mistakes_are_named(index, query, message):
    with pytest.raises(InputError, match=f"(?s){message}"):
        index.search(**query)


def test_a_query_that_says_nothing_of_what_counts_is_refused(model, items, tmp_path):
    settings = IndexSettings(fields=("title", "attribute:colour"))
    index = build_index(model, items, tmp_path / "index", settings)
    only = {"attribute:colour": 1.0}
    with pytest.raises(InputError, match="Query 1 of 1 says nothing about the fields"):
        index.search("a red disc", weights=only)
    assert len(index.search(item="00.png", weights=only)) == 5
    with pytest.raises(InputError, match=r"first_stage is 'image', but .* title, attr"):
        index.search("a red disc", candidates=5, first_stage="image")


def test_without_faiss_the_extra_is_named(index, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r'pip install "twinlens\[search\]"'):
        index.search(item="00.png")


def test_a_picture_that_is_none_is_named(index, home):
    with pytest.raises(InputError, match=r"captions\.csv"):
        index.search(image=str(home.data))


def test_a_long_text_is_cut_with_a_warning(index):
    with pytest.warns(UserWarning, match="10,000 words, but .* reads 64 tokens"):
        assert len(index.search("disc " * 10_000, k=3)) == 3


def test_an_empty_index_says_so(model, items, tmp_path):
    index = build_index(model, items.iloc[:2], tmp_path / "index")
    index.remove(items["id"][:2])
    with pytest.raises(InputError, match="is empty. Add items"):
        index.search("a red disc")
    with pytest.raises(InputError, match="no items to index"):
        build_index(model, items.iloc[:0], tmp_path / "other")
    with pytest.raises(InputError, match="is there already"):
        build_index(model, items, tmp_path / "index")


def test_an_index_in_its_run_is_found_by_the_run(model, items, trained, monkeypatch):
    build_index(model, items, trained.folder / "index")
    opened = SearchIndex.load(trained.folder)
    assert opened.run == str(trained.folder) and len(opened) == 24
    monkeypatch.setattr(
        "twinlens.search.search_index.Config",
        lambda: Config(runs=str(trained.folder.parent)),
    )
    assert len(SearchIndex.load(trained.folder.name)) == 24
    shutil.rmtree(trained.folder / "index")


@pytest.mark.slow
def test_another_model_is_refused_with_both_names(home, index, trained, tmp_path):
    other = train([*home.settings, "name=other", "seed=3", "phase1.epochs=1"])
    assert other.code == 0, other.err
    opened = SearchIndex.load(index.vectors.folder, home.folder / "runs/other-phase1")
    with pytest.raises(InputError, match="made by tiny-phase1 .* but other-phase1 is"):
        opened.search("a red disc")
    gone = SearchIndex.load(index.vectors.folder, tmp_path / "gone")
    with pytest.raises(InputError, match="run tiny-phase1, which cannot be opened"):
        gone.search("a red disc")
    assert len(gone.search(item="00.png")) == 5  # needs no model


def test_too_many_broken_pictures_stop_the_build(model, items, home, tmp_path):
    bad = items.iloc[:4].assign(image_path=str(home.data.parent / "broken.png"))
    with pytest.raises(
        InputError, match=r"(?s)4 of 4 pictures are broken.*broken\.png"
    ):
        build_index(model, bad, tmp_path / "index")
    assert not (tmp_path / "index").exists()
