"""Products cut out: what is kept, always the same, and the same on every path."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw
from test_features import draw, small_encoder
from test_raw import PLAIN, batches
from test_raw import encoders as encoders
from test_raw import table as table
from tiny import run, train

from twinlens.data import images
from twinlens.data.segmentation import GrabCut
from twinlens.encoders import image_encoder
from twinlens.encoders.segmentation import segment_of
from twinlens.errors import InputError
from twinlens.features import encode_images
from twinlens.features.contents import content_digests
from twinlens.training.encoding import SplitEncoder

SHIRT = [(0.3, 0.15), (0.7, 0.15), (0.9, 0.4), (0.75, 0.48), (0.7, 0.85)]
SHIRT += [(1 - x, y) for x, y in reversed(SHIRT[2:])]  # the other sleeve


def shirt(sides=(224, 224), background="white", seed=0):
    """A shirt on white, or on a wall with stripes and grain; and its mask."""
    random = np.random.default_rng(seed)
    width, height = sides
    mask = Image.new("L", sides)
    ImageDraw.Draw(mask).polygon([(x * width, y * height) for x, y in SHIRT], fill=255)
    wall = np.full((height, width, 3), 255.0)
    if background != "white":
        stripes = 20 * np.sign(np.sin(np.arange(width) / 6))[None, :, None]
        wall = np.array([150, 140, 110]) + stripes + random.normal(0, 8, wall.shape)
    cloth = np.array([40, 60, 160]) + random.normal(0, 10, wall.shape)
    mask = np.asarray(mask) > 0
    picture = np.where(mask[..., None], cloth, wall)
    return picture.clip(0, 255).astype(np.uint8), mask


@dataclass(frozen=True)
class LeftAway:
    """Cuts away the left half of every picture."""

    @property
    def description(self):
        return {"name": "left away"}

    def __call__(self, image):
        width = tf.shape(image)[1]
        right = tf.range(width) >= width // 2
        return tf.where(right[None, :, None], image, tf.constant(255, tf.uint8))


def left_away(picture):
    cut = np.array(picture)
    cut[:, : cut.shape[1] // 2] = 255
    return cut


# === GrabCut ===


@pytest.mark.parametrize("background", ["white", "striped"])
@pytest.mark.parametrize("sides", [(224, 224), (90, 120), (750, 1101)])
def test_a_shirt_is_found_on_a_quiet_background(sides, background):
    picture, truth = shirt(sides, background)
    found = GrabCut().mask(picture)
    assert (found & truth).sum() / (found | truth).sum() >= 0.9
    cut = GrabCut().cut(picture)
    np.testing.assert_array_equal(cut[found], picture[found])
    assert (cut[~found] == 255).all() and cut.dtype == np.uint8


@pytest.mark.parametrize(
    "picture",
    [
        shirt((15, 15))[0],
        shirt((2000, 190))[0],  # 160 × 15 when reduced
        np.full((1, 1, 3), 7, np.uint8),
        np.full((100, 100, 3), 90, np.uint8),  # nothing stands out
    ],
    ids=["small", "oblong", "pixel", "empty"],
)
def test_a_picture_in_which_nothing_is_found_stays_as_it_is(picture):
    np.testing.assert_array_equal(GrabCut().cut(picture), picture)


def test_the_same_is_found_at_every_call_and_in_every_thread():
    pictures = [shirt(background="striped", seed=seed)[0] for seed in range(8)]
    expected = [GrabCut().mask(picture) for picture in pictures]
    cv2.setRNGSeed(123)
    cv2.randu(np.empty(9, np.float32), 0, 1)  # somebody else draws numbers, too
    assert (GrabCut().mask(pictures[0]) == expected[0]).all()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(GrabCut().mask, pictures * 3))
    np.testing.assert_array_equal(found, expected * 3)


def test_without_opencv_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r'pip install "twinlens\[segment\]"'):
        segment_of("grabcut")


def test_an_unknown_name_is_answered_with_those_there_are():
    assert segment_of("") is None
    with pytest.raises(InputError, match="'grab_cut'. Take 'grabcut', 'mask_rcnn:"):
        segment_of("grab_cut")


# === On every path ===


def test_a_file_is_cut_out_before_it_becomes_square(tmp_path):
    picture, _ = shirt((120, 90), "striped")
    Image.fromarray(picture).save(tmp_path / "shirt.png")
    for resize in ("stretch", "pad"):
        found = images.load(tmp_path / "shirt.png", 60, resize, GrabCut())
        expected = images.fit(GrabCut().cut(picture), 60, resize)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_a_broken_picture_is_told_from_a_failure_of_the_segmentation(tmp_path):
    def fails(_):
        raise RuntimeError("out of memory")

    def segment(image):
        cut = tf.numpy_function(fails, [image], tf.uint8)
        return tf.ensure_shape(cut, image.shape)

    def load():
        images.load(tmp_path / "shirt.png", 8, segment=segment)

    Image.fromarray(shirt()[0]).save(tmp_path / "shirt.png")
    with pytest.raises(tf.errors.OpError, match="out of memory"):
        load()
    whole = (tmp_path / "shirt.png").read_bytes()
    (tmp_path / "shirt.png").write_bytes(whole[:200])
    with pytest.raises(images.BrokenImageError, match="PNG data are damaged"):
        load()


@pytest.mark.slow
def test_all_views_in_the_cache_are_of_cut_out_pictures(tmp_path):
    (path,) = draw(tmp_path / "pictures", 1).values()
    encoder = replace(small_encoder(), segment=LeftAway())
    (views,) = encode_images(encoder, {"a": path}, tmp_path, views=2).values
    (content,) = content_digests([path], tmp_path / "contents.sqlite")
    cut = left_away(Image.open(path))
    changed = images.augment(cut, [int(content[:7], 16), 1])
    expected = encoder.model(np.stack([images.fit(each, 8) for each in (cut, changed)]))
    np.testing.assert_allclose(views, expected, rtol=1e-5)


@pytest.mark.slow
def test_phase_2_trains_and_measures_on_what_the_cache_has(table, encoders):
    segment = GrabCut()
    encoders = replace(encoders[0], segment=segment), encoders[1]
    pairs, order, made = batches(table, encoders, **PLAIN)
    (batch,) = made(0, 1)
    for row, place in enumerate(order.pictures[0]):
        expected = images.load(pairs.paths[place], 32, "stretch", segment)
        np.testing.assert_array_equal(batch.pixels[row], expected)
    (changed,) = batches(table, encoders, colour=0.0)[2](0, 1)
    shares = (changed.pixels.numpy() == 255).all(-1).mean((1, 2))
    assert (shares > 0.1).all()  # cropped and mirrored, but on white, not on grey

    class Pixels:
        encode_image = staticmethod(lambda pixels: tf.reshape(pixels, [-1, 3072]))

    found = SplitEncoder(Pixels, *encoders).encode_images(pairs.paths[:2])
    expected = [images.load(path, 32, segment=segment) for path in pairs.paths[:2]]
    np.testing.assert_array_equal(found, np.reshape(expected, (2, -1)))


def test_the_key_names_the_segmentation_where_there_is_one():
    def described(**settings):
        made = image_encoder(
            "mobilenet", "none", "conv_pw_1_relu", image_size=32, **settings
        )
        return made.description

    plain, cut = described(), described(segment="grabcut")
    assert "segment" not in plain  # older caches stay valid
    assert cut == plain | {"segment": GrabCut().description}
    assert cut["segment"]["opencv"] == int(cv2.__version__.split(".")[0])
    json.dumps(cut)


# === Commands ===


@pytest.mark.slow
def test_phase_1_trains_on_cut_out_pictures(home, tmp_path):
    more = [f"runs={tmp_path}", "phase1.epochs=1", "image_encoder.segment=grabcut"]
    said = train([*home.settings, *more])
    assert said.code == 0, said.err
    keys = (home.folder / "features").glob("*/key.json")
    found = [json.loads(path.read_text("utf-8")) for path in keys]
    assert any(str(GrabCut().side) in json.dumps(key.get("segment")) for key in found)


def test_data_shows_what_is_cut_out(home, tmp_path):
    options = ("--no-check-images", "--show", tmp_path / "show.png")
    said = run("data", "table", home.data, *options)
    assert said.code == 1 and "--set image_encoder.segment=grabcut" in said.err
    cut = ("--set", "image_encoder.segment=grabcut")
    said = run("data", "table", home.data, *options, *cut)
    assert said.code == 0, said.err
    assert "11 of 11 pictures were changed: " in said.out
    with Image.open(tmp_path / "show.png") as drawn:
        assert drawn.size == (1040, 840)  # three a line; one is broken
