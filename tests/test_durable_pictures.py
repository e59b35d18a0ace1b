"""Pictures that a fuzzer has damaged, among good ones."""

import sys
from pathlib import Path

import numpy as np
import pytest
from test_features import small_encoder

sys.path.append(str(Path(__file__).parents[1]))

from experiments.benchmarks.damaged import KINDS, damaged, picture

from twinlens.data import images
from twinlens.errors import BrokenImageError
from twinlens.features import encode_images

GOOD, BAD = 120, 240
MANY = 3000


def verdict(source):
    """Why a picture cannot be read; empty if it can."""
    try:
        pixels = images.load(source, 8)
    except BrokenImageError as error:
        return str(error)
    assert pixels.shape == (8, 8, 3)
    assert -0.01 < pixels.min() <= pixels.max() < 255.01  # resizing rounds
    return ""


def test_the_fuzzer_makes_pictures_of_all_kinds_and_always_the_same():
    made = [picture(np.random.default_rng(seed), 20) for seed in range(40)]
    starts = {each[:2] for each in made}
    assert len(starts) == len(KINDS)
    again = [damaged(made[0], np.random.default_rng(3)) for _ in range(2)]
    assert again[0] == again[1] != made[0]


@pytest.mark.slow
@pytest.mark.long
def test_all_broken_pictures_are_counted_and_named_and_the_others_encoded(tmp_path):
    random, paths = np.random.default_rng(0), {}
    for number in range(GOOD + BAD):
        contents = picture(random, 24)
        path = tmp_path / f"{number:04}"
        path.write_bytes(damaged(contents, random) if number >= GOOD else contents)
        paths[path.name] = str(path)
    features = encode_images(small_encoder(), paths, tmp_path / "cache", batch_size=16)
    reasons = dict(zip(features.ids, features.errors, strict=True))
    assert reasons == {name: verdict(path) for name, path in paths.items()}
    wrong = [name for name, reason in reasons.items() if reason]
    assert min(map(int, wrong)) >= GOOD and len(wrong) > BAD / 2
    assert all(paths[name] in reasons[name] for name in wrong)
    good = [name for name in paths if not reasons[name]]
    alone = encode_images(
        small_encoder(), {n: paths[n] for n in good}, tmp_path / "other", batch_size=16
    )
    rows = features.rows(np.array(good, dtype=object))
    np.testing.assert_allclose(features.values[rows], alone.values, atol=1e-4)


@pytest.mark.slow
@pytest.mark.long
def test_no_damage_ends_the_process_or_escapes_as_another_error():
    random, reasons = np.random.default_rng(1), []
    for _ in range(MANY):
        reasons.append(verdict(damaged(picture(random, 24), random)))
    assert 0.3 * MANY < sum(map(bool, reasons)) < MANY
    assert max(map(len, reasons)) < 300  # sentences, not the file
