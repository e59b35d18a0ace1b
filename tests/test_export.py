"""An exported model gives the run's numbers; what would not is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from exported import ask_here, endpoints_here
from exported import exported as exported
from PIL import Image
from saved_models import (
    LENGTH,
    save_bert,
    save_detector,
    save_picture,
    save_preprocessor,
)

from twinlens.config import IndexSettings
from twinlens.encoders import image_encoder, text_encoder
from twinlens.encoders.segmentation import segment_of
from twinlens.errors import InputError
from twinlens.export import check, export_model, load_export
from twinlens.export.folder import new_file, new_folder
from twinlens.export.towers import Towers
from twinlens.heads import ProjectionHead, Similarity
from twinlens.model import Heads
from twinlens.search import Query, build_index

TEXTS = ["a red disc", "square number 7 is blue", "disc", "Ünknown wörds (…)"]


@pytest.fixture
def ask(exported):
    return exported.export.endpoints


@pytest.fixture
def pictures(tmp_path, random):
    """Bytes of a PNG, a larger JPEG and a grey GIF, all of other sizes."""
    found = []
    for kind, size in (("PNG", (40, 30)), ("JPEG", (333, 500)), ("GIF", (7, 9))):
        pixels = random.integers(0, 255, (*size, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels)
        path = tmp_path / f"picture.{kind.lower()}"
        picture.convert("L" if kind == "GIF" else "RGB").save(path, kind)
        found.append(path.read_bytes())
    return found


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("twinlens.export.write.ask", ask_here)


def embedding_of(model, pictures):
    features = model.image_features(pictures)
    return model.embed_image_features(features, np.arange(len(features)))


def near(found, expected):
    np.testing.assert_allclose(found["embedding"], expected, atol=1e-5)


# === Endpoints ===


def test_texts_get_the_vectors_of_the_run(model, ask):
    near(ask["encode_text"](texts=tf.constant(TEXTS)), model.embed_texts(TEXTS))


def test_pictures_of_any_sizes_in_one_batch_get_the_vectors_of_the_run(
    model, ask, pictures
):
    found = ask["encode_image"](images=tf.constant(pictures))
    near(found, embedding_of(model, pictures))


def test_pixels_get_the_vectors_of_the_run(model, ask, pictures):
    pixels = np.stack([model.image_encoder.load(each) for each in pictures])
    found = ask["encode_pixels"](pixels=tf.constant(pixels))
    near(found, embedding_of(model, pictures))


def test_tokens_get_the_vectors_of_their_texts_whatever_stands_behind_the_end(
    model, ask
):
    tokens = ask["tokenize"](texts=tf.constant(TEXTS))
    mask = tokens["padding_mask"]
    noisy = tf.where(mask > 0, tokens["token_ids"], 3)
    found = ask["encode_tokens"](token_ids=noisy, padding_mask=mask)
    near(found, model.embed_texts(TEXTS))
    assert mask.numpy().min() == 0  # there is something behind some ends


@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_may_be_empty_or_of_one(model, ask, pictures, count):
    texts, images = TEXTS[:count], pictures[:count]
    found = ask["encode_text"](texts=tf.constant(texts, tf.string))
    assert found["embedding"].shape == (count, 8)
    found = ask["encode_image"](images=tf.constant(images, tf.string))
    assert found["embedding"].shape == (count, 8)
    pixels = tf.zeros((count, 32, 32, 3))
    assert ask["encode_pixels"](pixels=pixels)["embedding"].shape == (count, 8)
    found = ask["search_text"](texts=tf.constant(texts, tf.string), k=tf.constant(3))
    assert found["ids"].shape == (count, 3)
    found = ask["search_image"](images=tf.constant(images, tf.string), k=tf.constant(3))
    assert found["ids"].shape == (count, 3)


def test_a_blank_text_is_refused(ask):
    with pytest.raises(tf.errors.InvalidArgumentError, match="A text is empty"):
        ask["encode_text"](texts=tf.constant(["a disc", "  "]))


def test_a_damaged_picture_is_refused_with_its_reason(ask, pictures):
    with pytest.raises(tf.errors.InvalidArgumentError):
        ask["encode_image"](images=tf.constant([pictures[0][:60]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="PDF"):
        ask["encode_image"](images=tf.constant([b"%PDF-1.4 and much more text"]))


# === The collection ===


def same(found, index, queries, k):
    """The index's own exact answers; those that score alike may change places."""
    right = index.ranked(queries, settings=index.settings(k=k), exactly=True)
    np.testing.assert_allclose(found["scores"], right.scores, atol=1e-6)
    ids = np.vectorize(bytes.decode)(found["ids"].numpy())
    items = index.vectors.items
    expected = items["id"].to_numpy()[right.rows]
    apart = np.abs(np.diff(right.scores, axis=1, append=-9)) > 1e-5
    apart &= np.abs(np.diff(right.scores, axis=1, prepend=9)) > 1e-5
    assert apart.mean() > 0.5
    assert (ids == expected)[apart].all()
    titles = np.vectorize(bytes.decode)(found["titles"].numpy())
    assert (titles == items["title"].to_numpy()[right.rows])[apart].all()


def test_texts_and_pictures_find_what_the_index_finds(ask, index, items):
    k = tf.constant(7)
    found = ask["search_text"](texts=tf.constant(TEXTS), k=k)
    same(found, index, [Query(each) for each in TEXTS], 7)
    contents = [Path(each).read_bytes() for each in items["image_path"][:3]]
    found = ask["search_image"](images=tf.constant(contents), k=k)
    same(found, index, [Query(image=each) for each in contents], 7)


def test_there_are_no_more_answers_than_items_and_at_least_one(ask):
    found = ask["search_text"](texts=tf.constant(TEXTS), k=tf.constant(10**9))
    assert found["ids"].shape == (4, 24)
    with pytest.raises(tf.errors.InvalidArgumentError, match="k is below 1"):
        ask["search_text"](texts=tf.constant(TEXTS), k=tf.constant(0))


# === Other encoders ===


def with_encoders(model, **encoders):
    changed = replace(model, **encoders)
    heads = Heads(ProjectionHead(4, 4), ProjectionHead(4, 4), Similarity())
    shapes = changed.image_encoder.model, changed.text_encoder.model
    heads.build(tuple(each.output_shape for each in shapes))
    return replace(changed, heads=heads)


def same_as_the_run(model, folder, pictures):
    saved = endpoints_here(model, folder)
    texts = ["a red disc", "blue", "a square"]
    expected = model.embed_texts(texts)
    assert np.ptp(expected, axis=0).max() > 1e-3  # texts are told apart
    near(saved.ask["encode_text"](texts=tf.constant(texts)), expected)
    found = saved.ask["encode_image"](images=tf.constant(pictures))
    near(found, embedding_of(model, pictures))
    tokens = saved.ask["tokenize"](texts=tf.constant(texts))
    near(saved.ask["encode_tokens"](**tokens), expected)
    return saved


@pytest.mark.slow
def test_tf_idf_needs_no_custom_operation(model, tmp_path, pictures):
    encoder = text_encoder("tfidf", corpus=["a red disc", "blue square", "red square"])
    model = with_encoders(model, text_encoder=encoder)
    saved = same_as_the_run(model, tmp_path / "x", pictures)
    assert not saved.custom
    assert not (tmp_path / "x" / "plain").exists()


@pytest.mark.slow
def test_networks_that_were_saved_models_are_exported_with_their_tables(
    model, tmp_path, pictures
):
    texts = text_encoder(
        f"hub:{save_bert(tmp_path / 'bert')}",
        weights="",
        sequence_length=LENGTH,
        preprocessor=save_preprocessor(tmp_path / "preprocessor"),
    )
    images = image_encoder(f"hub:{save_picture(tmp_path / 'picture')}", weights="")
    model = with_encoders(model, text_encoder=texts, open_image_encoder=lambda: images)
    same_as_the_run(model, tmp_path / "x", pictures)


@pytest.mark.slow
def test_pictures_with_a_border_are_padded_in_the_export_too(model, tmp_path, pictures):
    encoder = replace(model.image_encoder, resize="pad")
    model = replace(model, open_image_encoder=lambda: encoder)
    same_as_the_run(model, tmp_path / "x", pictures)


@pytest.mark.slow
def test_a_mask_rcnn_cuts_products_out_in_the_export_too(model, tmp_path, pictures):
    inside = ((0.25, 0.25, 0.75, 0.75), 1, 0.9, [[1, 1], [1, 1]])
    cutter = segment_of(f"mask_rcnn:{save_detector(tmp_path / 'cutter', [inside])}")
    encoder = replace(model.image_encoder, segment=cutter)
    cut = replace(model, open_image_encoder=lambda: encoder)
    same_as_the_run(cut, tmp_path / "x", pictures)
    assert (
        np.abs(embedding_of(cut, pictures) - embedding_of(model, pictures)).max() > 0.01
    )


@pytest.mark.slow
def test_an_index_that_texts_say_nothing_about_is_searched_by_picture(
    trained, model, items, tmp_path, quick
):
    fields = IndexSettings(fields=("title", "image_feature"))
    weights = {"weights": {"image_feature": 1.0}}
    build_index(model, items, tmp_path / "i", fields, weights)
    said = export_model(trained.folder, tmp_path / "x", tmp_path / "i", say=str)
    assert "search_image" in said["endpoints"]
    assert "search_text" not in said["endpoints"]
    assert said["check"]["differences"]["search_image"] <= 1e-5


def test_grabcut_cannot_be_exported_and_says_why(model):
    from twinlens.data.segmentation import GrabCut

    encoder = replace(model.image_encoder, segment=GrabCut())
    with pytest.raises(InputError, match="OpenCV called from Python"):
        Towers(replace(model, open_image_encoder=lambda: encoder))


# === The folder ===


def test_the_manifest_says_what_each_endpoint_takes_and_gives(exported, model):
    said = json.loads((exported.folder / "manifest.json").read_text("utf-8"))
    assert said["model"]["digest"] == model.digest
    assert said["custom_operations"] == [
        "FastWordpieceTokenizeWithOffsets",
        "NormalizeUTF8",
        "RegexSplitWithOffsets",
    ]
    for name, endpoint in said["endpoints"].items():
        function = exported.export.endpoints[name]
        (_, inputs), outputs = (
            function.structured_input_signature,
            function.structured_outputs,
        )
        for described, real in (
            (endpoint["inputs"], inputs),
            (endpoint["outputs"], outputs),
        ):
            assert described.keys() == real.keys()
            for each, spec in real.items():
                assert described[each]["dtype"] == spec.dtype.name
                assert described[each]["shape"] == spec.shape.as_list()
    pixels = said["endpoints"]["encode_pixels"]["inputs"]["pixels"]
    assert pixels["shape"] == [None, 32, 32, 3]
    assert max(said["check"]["differences"].values()) <= 1e-5


def test_what_needs_no_custom_operation_stands_apart(exported):
    endpoints = exported.export.manifest["endpoints"]
    plain = tf.saved_model.load(str(exported.folder / "plain")).signatures
    assert set(plain) == {n for n, e in endpoints.items() if "plain" in e["folders"]}
    assert set(plain) == {
        *("encode_tokens", "encode_image", "encode_pixels", "search_image")
    }
    assert endpoints["encode_text"]["needs_tensorflow_text"]


def test_the_card_tells_data_metrics_with_intervals_and_weights(exported, trained):
    card = (exported.folder / "MODEL_CARD.md").read_text("utf-8")
    found = trained.evaluation["metrics"]["text_to_image/recall@1"]
    interval = f"{found['low']:.4f} to {found['high']:.4f}"
    assert f"| text_to_image/recall@1 | {found['value']:.4f} | {interval} |" in card
    assert "| train | 13 | 25 |" in card  # with the broken one and its caption
    assert "mobilenet: random, of seed 0" in card
    assert str(trained.folder.parent) not in card  # others' folders are not told


@pytest.mark.parametrize("name", ["saved_model.pb", "use.py", "plain/saved_model.pb"])
def test_an_export_that_was_cut_short_is_refused(exported, tmp_path, name):
    folder = tmp_path / "copy"
    shutil.copytree(exported.folder, folder)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-10])
    with pytest.raises(InputError, match="cut short"):
        load_export(folder)
    (folder / name).write_bytes(data[:-1] + b"?")
    with pytest.raises(InputError, match="SHA-256"):
        load_export(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match="has 0 bytes"):
        load_export(folder)


def test_a_folder_without_an_export_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no exported model"):
        load_export(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="format 99"):
        load_export(tmp_path)


# === What is not kept ===


@pytest.mark.slow
def test_an_export_that_differs_is_deleted_and_says_by_how_much(
    trained, tmp_path, monkeypatch
):
    def spoiled(*arguments):
        found = ask_here(*arguments)
        found["encode_image"]["embedding"] += 0.25
        return found

    monkeypatch.setattr("twinlens.export.write.ask", spoiled)
    with pytest.raises(InputError, match=r"encode_image by 0\.25; at most 1e-05"):
        export_model(trained.folder, tmp_path / "x", say=lambda line: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(trained, tmp_path, monkeypatch, quick):
    def full(module, folder, **more):
        (Path(folder) / "half").write_bytes(b"1")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr("tensorflow.saved_model.save", full)
    with pytest.raises(InputError, match="No space left"):
        export_model(trained.folder, tmp_path / "x", say=lambda line: None)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(trained, tmp_path):
    with pytest.raises(InputError, match="is there already"):
        export_model(trained.folder, tmp_path)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_cannot_be_written_to_its_end_is_not_there(tmp_path, kind):
    writer = {"folder": new_folder, "file": new_file}[kind]
    for error in (
        OSError(28, "No space"),
        tf.errors.ResourceExhaustedError(*(None,) * 2, "No space"),
    ):
        with (
            pytest.raises(InputError, match="No space"),
            writer(tmp_path / "x") as path,
        ):
            (path / "half" if kind == "folder" else path).write_bytes(b"1")
            raise error
        assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), writer(tmp_path / "x"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(InputError, match="cannot be written"),
        writer(tmp_path / "file" / "x"),
    ):
        pass


# === The comparison ===


def test_differences_are_the_largest_and_unequal_words_are_infinite():
    found = {"a": {"x": np.float32([1, 2]), "ids": np.array(["u", "v"])}}
    right = {"a": {"x": np.float32([1, 2.5]), "ids": np.array(["u", "v"])}}
    assert check.differences(found, right) == {"a": 0.5}
    right["a"]["ids"] = np.array(["u", "w"])
    assert check.differences(found, right) == {"a": np.inf}
    found["a"]["x"] = np.float32([1, np.nan])
    with pytest.raises(InputError, match="a by inf"):
        check.refuse_differing(check.differences(found, right), 1e9, "It")


def test_answers_that_score_alike_may_change_places_and_others_may_not():
    scores = np.float32([[0.9, 0.5, 0.5, 0.1, 0.05]])
    right = {"s": {"scores": scores, "ids": np.array([list("abcde")])}}
    for ids, expected in (("acbde", 0), ("abcdx", 0), ("bacde", np.inf)):
        found = {"s": {"scores": scores, "ids": np.array([list(ids)])}}
        assert check.differences(found, right) == {"s": expected}


def test_every_weight_is_saved_once(exported, model, index):
    path = str(exported.folder / "plain" / "variables" / "variables")
    sizes = [np.prod(shape) for _, shape in tf.train.list_variables(path) if shape]
    parts = (model.image_encoder.model, model.text_encoder.model, model.heads)
    numbers = sum(part.count_params() for part in parts) + index.vectors.vectors.size
    assert numbers <= sum(sizes) <= 1.01 * numbers + 500  # ids, titles, the tokenizer
