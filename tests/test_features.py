"""The feature cache: once each, complete or absent, resumable to the same bits."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from twinlens.data import images
from twinlens.encoders import ImageEncoder, text_encoder
from twinlens.encoders.pooling import SpatialPooling
from twinlens.encoders.random_text import RandomSize
from twinlens.errors import InputError
from twinlens.features import encode_images, encode_texts, pictures
from twinlens.features import texts as texts_module
from twinlens.features.contents import content_digests

TEXTS = ["a red circle", "two blue squares on sand", "a star", "a red circle"]


def small_encoder(size=8, seed=0, pooling="avg"):
    """A real, tiny network: one convolution, averaged."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((size, size, 3))
    grid = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    model = keras.Model(inputs, SpatialPooling(pooling)(grid))
    model.trainable = False
    key = {"encoder": "tiny", "seed": seed, "pooling": pooling}
    return ImageEncoder(model, size, "stretch", key, "")


def small_text_encoder(**settings):
    size = RandomSize(60, 1, 2, 8)
    return text_encoder(weights="none", size=size, corpus=TEXTS, **settings)


def draw(folder: Path, count: int) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    paths = {}
    for number in range(count):
        path = folder / f"{number:03d}.png"
        Image.fromarray(random.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(path)
        paths[f"picture {number}"] = str(path)
    return paths


def folders(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.iterdir() if p.is_dir())


def test_cached_features_are_what_the_encoder_gives(tmp_path):
    encoder, paths = small_encoder(), draw(tmp_path / "pictures", 5)
    features = encode_images(encoder, paths, tmp_path / "cache", batch_size=2)
    for row, name in enumerate(features.ids):
        pixels = images.load(paths[name], 8, "stretch")
        expected = encoder.model(pixels[None])[0]
        np.testing.assert_allclose(features.values[row], expected, rtol=1e-5)


def test_a_second_run_reads_and_does_not_encode(tmp_path):
    encoder, paths = small_encoder(), draw(tmp_path / "pictures", 4)
    first = encode_images(encoder, paths, tmp_path / "cache")
    stamp = (first.folder / "features.npy").stat().st_mtime_ns
    backwards = dict(reversed(paths.items()))
    second = encode_images(encoder, backwards, tmp_path / "cache")
    assert second.folder == first.folder
    assert (second.folder / "features.npy").stat().st_mtime_ns == stamp


def test_complete_features_are_read_without_building_a_graph(tmp_path, monkeypatch):
    encoder, texts = small_encoder(), small_text_encoder()
    paths = draw(tmp_path / "pictures", 2)
    encode_images(encoder, paths, tmp_path / "cache")
    encode_texts(texts, TEXTS, tmp_path / "cache")
    monkeypatch.setattr(pictures, "frozen", lambda *_: pytest.fail("built"))
    monkeypatch.setattr(texts_module, "_forward", lambda _: pytest.fail)
    encode_images(encoder, paths, tmp_path / "cache")
    encode_texts(texts, TEXTS, tmp_path / "cache")


@pytest.mark.parametrize("change", ["weights", "pixels", "dtype", "views", "one more"])
def test_whatever_changes_the_features_changes_the_folder(tmp_path, change):
    encoder, paths = small_encoder(), draw(tmp_path / "pictures", 3)
    before = encode_images(encoder, paths, tmp_path / "cache")
    options = {}
    if change == "weights":
        encoder = small_encoder(seed=1)
    elif change == "pixels":
        Image.new("RGB", (9, 9), "red").save(paths["picture 1"])
    elif change == "dtype":
        options = {"dtype": "float16"}
    elif change == "views":
        options = {"views": 2}
    else:
        paths = draw(tmp_path / "pictures", 4)
    after = encode_images(encoder, paths, tmp_path / "cache", **options)
    assert after.folder != before.folder
    assert len(folders(tmp_path / "cache")) == 2


def test_broken_pictures_are_named_and_the_others_keep_their_features(tmp_path):
    encoder, paths = small_encoder(), draw(tmp_path / "pictures", 5)
    whole = encode_images(encoder, paths, tmp_path / "cache")
    Path(paths["picture 2"]).write_bytes(b"")
    os.unlink(paths["picture 4"])
    features = encode_images(encoder, paths, tmp_path / "cache")
    rows = features.rows(np.array(sorted(paths), dtype=object))
    np.testing.assert_array_equal(rows, [0, 1, -1, 3, -1])
    np.testing.assert_array_equal(features.values[[0, 1, 3]], whole.values[[0, 1, 3]])
    assert "002.png" in features.errors[2] and "004.png" in features.errors[4]


def test_an_unknown_picture_has_no_row(tmp_path):
    paths = draw(tmp_path / "pictures", 2)
    features = encode_images(small_encoder(), paths, tmp_path / "cache")
    rows = features.rows(np.array(["picture 1", "nothing"], dtype=object))
    np.testing.assert_array_equal(rows, [1, -1])


def test_the_first_view_is_the_plain_picture_and_the_others_are_repeatable(tmp_path):
    encoder, paths = small_encoder(), draw(tmp_path / "pictures", 3)
    plain = encode_images(encoder, paths, tmp_path / "a")
    views = encode_images(encoder, paths, tmp_path / "a", views=3)
    again = encode_images(encoder, paths, tmp_path / "b", views=3)
    assert views.values.shape == (3, 3, 4)
    np.testing.assert_array_equal(views.values[:, 0], plain.values)
    np.testing.assert_array_equal(views.values, again.values)
    assert np.abs(views.values[:, 1] - views.values[:, 2]).max() > 1e-3


def test_each_distinct_text_is_encoded_once_whatever_its_neighbours(tmp_path):
    encoder = small_text_encoder()
    features = encode_texts(encoder, TEXTS, tmp_path, batch_size=2)
    alone = encode_texts(encoder, TEXTS[:1], tmp_path, batch_size=2)
    assert sorted(features.ids) == sorted(set(TEXTS))
    row = features.rows(np.array(TEXTS[:1], dtype=object))
    np.testing.assert_allclose(features.values[row], alone.values, atol=1e-6)


def test_float16_is_half_the_size_and_close(tmp_path):
    encoder = small_text_encoder()
    full = encode_texts(encoder, TEXTS, tmp_path)
    half = encode_texts(encoder, TEXTS, tmp_path, dtype="float16")
    assert half.values.nbytes * 2 == full.values.nbytes
    np.testing.assert_allclose(half.values, full.values, atol=2e-3)


def test_a_trainable_encoder_is_not_cached(tmp_path):
    encoder = small_encoder()
    encoder.model.trainable = True
    with pytest.raises(ValueError, match="Only a frozen encoder can be cached"):
        encode_images(encoder, {}, tmp_path)


PROGRAM = """
    import sys, time
    sys.path[:0] = [{tests!r}, {source!r}]
    from conftest import *
    import test_features as t
    from twinlens.features import store
    from pathlib import Path
    root = Path(sys.argv[1])
    log = store._log_block
    def halting(*arguments):
        log(*arguments)
        print("block", flush=True)
        while not (root / "go").exists():
            time.sleep(0.05)
    store._log_block = halting
    paths = {{p.stem: str(p) for p in sorted((root / "pictures").iterdir())}}
    t.encode_images(t.small_encoder(), paths, root / "cache", batch_size=2)
    print("done", flush=True)
"""


def encoding_process(root: Path, **options):
    """Encodes `root/pictures`; halts behind each block until `root/go` exists."""
    tests = Path(__file__).parent
    names = {"tests": str(tests), "source": str(tests.parent / "src")}
    program = textwrap.dedent(PROGRAM).format(**names)
    command = [sys.executable, "-c", program, str(root)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **options)


@pytest.mark.slow
def test_a_killed_encoding_goes_on_and_ends_with_the_same_bits(tmp_path):
    draw(tmp_path / "pictures", 60)  # blocks of sixteen
    process = encoding_process(tmp_path)
    assert process.stdout.readline() == "block\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    (partial,) = folders(tmp_path / "cache")
    assert partial.endswith(".partial")
    with open(tmp_path / "cache" / partial / "journal.jsonl", "a") as journal:
        journal.write('{"first": 16, "la')  # the line it was writing
    paths = {p.stem: str(p) for p in sorted((tmp_path / "pictures").iterdir())}
    resumed = encode_images(small_encoder(), paths, tmp_path / "cache", batch_size=2)
    whole = encode_images(small_encoder(), paths, tmp_path / "other", batch_size=2)
    assert resumed.values.tobytes() == whole.values.tobytes()
    assert folders(tmp_path / "cache") == [whole.folder.name]


@pytest.mark.slow
def test_two_processes_on_one_cache_encode_once(tmp_path):
    draw(tmp_path / "pictures", 40)
    first = encoding_process(tmp_path)
    assert first.stdout.readline() == "block\n"
    second = encoding_process(tmp_path)
    assert "another process is at it" in second.stdout.readline()
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert outputs[0].count("block") == 2  # and the one that was read above
    assert outputs[1] == "done\n"


def limit_file_size():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


@pytest.mark.slow
def test_a_full_disk_is_an_error_in_words_before_the_work(tmp_path):
    draw(tmp_path / "pictures", 600)  # 600 rows of 16 bytes are too many for 8 kB
    (tmp_path / "go").touch()
    process = encoding_process(tmp_path, preexec_fn=limit_file_size)
    output, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "block" not in output
    assert "InputError" in errors and "no room for" in errors, errors


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Set cache.path"):
        encode_texts(small_text_encoder(), TEXTS, tmp_path / "file" / "cache")


def test_the_key_says_what_made_the_features(tmp_path):
    features = encode_texts(small_text_encoder(), TEXTS, tmp_path)
    key = json.loads((features.folder / "key.json").read_text())
    assert key["encoder"] == "bert" and len(key["weights"]) == 32


def test_a_digest_is_remembered_until_the_file_changes(tmp_path):
    path, memory = tmp_path / "a", tmp_path / "memory.sqlite"
    path.write_bytes(b"one")
    (one,) = content_digests([str(path)], memory)
    assert content_digests([str(path)], memory) == [one]
    time.sleep(0.01)
    path.write_bytes(b"two")
    (two,) = content_digests([str(path)], memory)
    assert one != two and content_digests([str(tmp_path / "none")], memory) == [""]


# === Every place and every token by itself ===


def test_places_average_to_the_pooled_feature(tmp_path):
    paths = draw(tmp_path / "pictures", 2)
    pooled = encode_images(small_encoder(), paths, tmp_path / "cache")
    places = encode_images(small_encoder(pooling="tokens"), paths, tmp_path / "cache")
    assert places.values.shape[2] == pooled.values.shape[1]
    np.testing.assert_allclose(places.values.mean(axis=1), pooled.values, atol=1e-5)
    views = encode_images(
        small_encoder(pooling="tokens"), paths, tmp_path / "cache", views=2
    )
    np.testing.assert_allclose(views.values[:, 0], places.values, atol=1e-5)


def test_tokens_average_to_the_pooled_feature_and_end_in_zeros(tmp_path):
    pooled = encode_texts(small_text_encoder(), TEXTS, tmp_path)
    made = small_text_encoder(pooling="tokens")
    tokens = encode_texts(made, TEXTS, tmp_path, batch_size=2)
    lengths = made.tokenize(tf.constant(list(tokens.ids))).row_lengths().numpy()
    assert tokens.values.shape == (len(set(TEXTS)), lengths.max(), 8)
    assert (np.abs(tokens.values).max(axis=2) > 0).sum(axis=1).tolist() == list(lengths)
    means = tokens.values.sum(axis=1) / lengths[:, None]
    rows = pooled.rows(tokens.ids)
    np.testing.assert_allclose(means, pooled.values[rows], atol=1e-5)
