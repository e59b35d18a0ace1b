"""Embeddings of a whole data set, as a file and for TensorBoard's projector."""

import numpy as np
import pandas as pd
import pytest
import tiny
from PIL import Image

from twinlens.errors import InputError
from twinlens.export import projector, write_embeddings, write_projector


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("twinlens.experiment.image_encoder", tiny._image_encoder)
    monkeypatch.setattr("twinlens.experiment.text_encoder", tiny._text_encoder_of)


def test_every_picture_and_every_caption_has_its_embedding(
    trained, model, items, tmp_path
):
    rows = write_embeddings(trained.folder, tmp_path / "e.parquet")
    found = pd.read_parquet(tmp_path / "e.parquet")
    pd.testing.assert_frame_equal(found.drop(columns="embedding"), rows)
    assert rows["kind"].value_counts().to_dict() == {"text": 49, "picture": 24}
    vectors = np.stack(found["embedding"])
    assert vectors.dtype == np.float32
    pictures = found[found["kind"] == "picture"]
    assert pictures["id"].tolist() == items["id"].tolist()  # the broken one is none
    features = model.image_features(items["image_path"].tolist())
    right = model.embed_image_features(features, np.arange(24))
    np.testing.assert_allclose(vectors[:24], right, atol=1e-5)
    texts = found["text"][24:].tolist()
    assert "square number 3 is red" in texts
    np.testing.assert_allclose(vectors[24:], model.embed_texts(texts), atol=1e-5)


def test_numpy_has_the_same_rows_beside(trained, tmp_path):
    rows = write_embeddings(trained.folder, tmp_path / "e.npy")
    write_embeddings(trained.folder, tmp_path / "e.parquet")
    table = pd.read_parquet(tmp_path / "e.parquet")
    np.testing.assert_array_equal(
        np.load(tmp_path / "e.npy"), np.stack(table["embedding"])
    )
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "e.rows.parquet"), rows)


def test_a_file_that_is_there_or_of_another_kind_is_refused(trained, tmp_path):
    with pytest.raises(InputError, match="as .parquet or .npy"):
        write_embeddings(trained.folder, tmp_path / "e.csv")
    (tmp_path / "e.npy").write_bytes(b"mine")
    with pytest.raises(InputError, match="is there already"):
        write_embeddings(trained.folder, tmp_path / "e.npy")
    assert (tmp_path / "e.npy").read_bytes() == b"mine"


def test_tensorboard_reads_the_projector_s_files(trained, items, tmp_path):
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
    from werkzeug.test import Client

    folder = tmp_path / "projector"
    assert write_projector(trained.folder, folder) == 24
    plugin = ProjectorPlugin(TBContext(logdir=str(folder)))
    plugin._update_configs()
    apps = plugin.get_plugin_apps()
    asked = {"run": ".", "name": "pictures"}
    tensor = Client(apps["/tensor"]).get("/tensor", query_string=asked)
    vectors = np.frombuffer(tensor.data, np.float32).reshape(24, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    metadata = Client(apps["/metadata"]).get("/metadata", query_string=asked)
    lines = metadata.data.decode().splitlines()
    assert lines[0].split("\t") == ["id", "title", "split", "colour", "shape"]
    assert [line.split("\t")[0] for line in lines[1:]] == items["id"].tolist()
    sprite = Client(apps["/sprite_image"]).get("/sprite_image", query_string=asked)
    assert sprite.status_code == 200
    assert sprite.data == (folder / "sprite.png").read_bytes()


def test_thumbnails_stand_row_by_row_in_a_square(tmp_path):
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]
    files = []
    for number, colour in enumerate(colours):
        files.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (20, 20), colour).save(files[-1])
    files[3] = str(tmp_path / "gone.png")
    sheet = projector.sprite(files, 8)
    assert sheet.size == (24, 24)
    found = [sheet.getpixel((8 * (n % 3) + 4, 8 * (n // 3) + 4)) for n in range(6)]
    assert found == [*colours[:3], (128, 128, 128), colours[4], (0, 0, 0)]


def test_more_pictures_than_a_browser_moves_are_a_sample(
    trained, tmp_path, monkeypatch
):
    monkeypatch.setattr(projector, "MOST", 5)
    assert write_projector(trained.folder, tmp_path / "p") == 5
    assert len(np.loadtxt(tmp_path / "p" / "tensors.tsv")) == 5
    assert len(pd.read_csv(tmp_path / "p" / "metadata.tsv", sep="\t")) == 5
