"""Near-duplicates: copies are found, look-alikes are not, nothing is missed."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from twinlens.data import near_duplicates
from twinlens.data.near_duplicates import find_leaks
from twinlens.data.scenes import draw_scene, sample_scenes
from twinlens.errors import InputError


def photo(seed: int, side: int = 96) -> Image.Image:
    """Soft blobs of colour, as in a photograph out of focus."""
    blobs = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(blobs).resize((side, side), Image.Resampling.BICUBIC)


def table_of(folder, pictures: dict[str, tuple[str, Image.Image]], **options):
    """Writes `{id: (split, picture)}` as JPEG; two captions each."""
    rows = []
    for name, (split, picture) in pictures.items():
        path = folder / f"{name}.jpg"
        if picture is not None:
            picture.save(path, **options)
        rows += [(name, str(path), f"caption {n}", split) for n in range(2)]
    return pd.DataFrame(rows, columns=["image_id", "image_path", "caption", "split"])


def test_a_copy_in_another_split_is_found_however_it_was_saved(tmp_path):
    original = photo(1)
    small = original.resize((50, 50), Image.Resampling.LANCZOS)
    pictures = {f"other{n}": ("train", photo(n)) for n in range(2, 12)}
    pictures |= {"original": ("train", original), "small": ("test", small)}
    pictures |= {"same": ("val", original), "twin": ("train", original)}
    leaks = find_leaks(table_of(tmp_path, pictures, quality=60))
    pairs = set(zip(leaks["image_id_a"], leaks["image_id_b"], strict=True))
    assert pairs == {
        ("small", "original"),
        ("small", "same"),
        ("small", "twin"),
        ("original", "same"),
        ("twin", "same"),
    }  # but not original and twin: both are in train
    assert (leaks["split_a"] != leaks["split_b"]).all()
    assert leaks["distance"].is_monotonic_increasing
    assert leaks["distance"].iloc[0] == 0


def test_different_photographs_and_scenes_are_not_leaks(tmp_path):
    scenes = [draw_scene(scene) for scene in sample_scenes(60, seed=1)]
    pictures = {
        f"scene{n}": (("train", "test")[n % 2], s) for n, s in enumerate(scenes)
    }
    pictures |= {f"photo{n}": (("train", "val")[n % 2], photo(n)) for n in range(40)}
    assert find_leaks(table_of(tmp_path, pictures)).empty


def test_the_same_shapes_in_another_colour_are_not_leaks(tmp_path):
    grey = np.asarray(photo(1).convert("L"))
    reddish = np.stack([grey, grey // 2, grey // 2], axis=-1)
    blueish = np.stack([grey // 2, grey // 2, grey], axis=-1)
    pictures = {
        "red": ("train", Image.fromarray(reddish)),
        "blue": ("test", Image.fromarray(blueish)),
    }
    assert find_leaks(table_of(tmp_path, pictures)).empty


def test_flat_pictures_are_like_nothing(tmp_path):
    noise = np.random.default_rng(0).normal(128, 2, (2, 96, 96, 3)).astype(np.uint8)
    pictures = {
        "white": ("train", Image.new("RGB", (90, 90), "white")),
        "white too": ("test", Image.new("RGB", (90, 90), "white")),
        "noise": ("train", Image.fromarray(noise[0])),
        "noise too": ("test", Image.fromarray(noise[1])),
    }
    assert find_leaks(table_of(tmp_path, pictures)).empty


def test_unreadable_pictures_are_left_out(tmp_path):
    pictures = {"a": ("train", photo(1)), "b": ("test", photo(1)), "c": ("val", None)}
    table = table_of(tmp_path, pictures | {"d": ("val", None)})
    (tmp_path / "d.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:700])
    leaks = find_leaks(table)
    assert list(leaks.iloc[0]) == ["b", "test", "a", "train", 0]
    assert len(leaks) == 1


@pytest.mark.parametrize("max_distance", [0, 20, 40])
def test_no_close_pair_is_missed(monkeypatch, max_distance):
    monkeypatch.setattr(near_duplicates, "BLOCK", 7)
    random = np.random.default_rng(0)
    bits = np.repeat(random.integers(0, 2, (10, 256)), 6, axis=0).astype(bool)
    bits ^= random.random(bits.shape) < random.choice([0, 0.02, 0.1], (60, 1))
    splits = random.choice(["train", "val", "test"], 60).astype(object)
    expected = {
        (i, j, int((bits[i] != bits[j]).sum()))
        for i in range(60)
        for j in range(60)
        if splits[i] < splits[j] and (bits[i] != bits[j]).sum() <= max_distance
    }
    blocks = near_duplicates._close_pairs(bits, splits, max_distance)
    found = [tuple(map(int, pair)) for block in blocks for pair in block.T]
    assert sorted(found) == sorted(expected)
    assert len(expected) >= 5


def test_the_hash_is_whether_it_gets_brighter_to_the_right():
    row = np.arange(17) * 5
    rising = np.broadcast_to(row[None, None, :, None], (1, 16, 17, 3)).astype(np.uint8)
    assert near_duplicates.difference_hash(rising).all()
    assert not near_duplicates.difference_hash(rising[:, :, ::-1]).any()
    assert near_duplicates.is_flat(near_duplicates.difference_hash(rising))[0]


def test_an_impossible_distance_is_refused():
    with pytest.raises(
        InputError, match="max_distance is 300, but a hash has 256 bits"
    ):
        find_leaks(pd.DataFrame(), max_distance=300)


def test_one_split_has_no_leaks(tmp_path):
    pictures = {"a": ("train", photo(1)), "b": ("train", photo(1))}
    leaks = find_leaks(table_of(tmp_path, pictures))
    assert list(leaks) == ["image_id_a", "split_a", "image_id_b", "split_b", "distance"]
    assert leaks.empty


@pytest.mark.real
def test_flickr_has_few_leaks_and_copies_are_found(shared, tmp_path):
    files = sorted((shared / "data" / "flickr8k" / "Images").glob("*.jpg"))[:120]
    pictures = {f.stem: ("train", Image.open(f).convert("RGB")) for f in files}
    for name, (_, picture) in list(pictures.items()):
        half = picture.resize((picture.width // 2, picture.height // 2))
        pictures[f"{name} copy"] = "test", half
    leaks = find_leaks(table_of(tmp_path, pictures, quality=50))
    assert (leaks["image_id_a"] == leaks["image_id_b"] + " copy").all()
    assert len(leaks) >= 0.98 * len(files)
