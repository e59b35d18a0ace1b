"""Labels as right answers: the loss, the labels of pairs, and both trainings."""

import math

import keras
import numpy as np
import pandas as pd
import pytest
from fine_tuned import encoders_anew, fine_tune
from test_training import made_pairs
from tiny import train

from twinlens.config import Config, load_config, override
from twinlens.errors import InputError
from twinlens.heads import ProjectionHead, Similarity
from twinlens.losses import InfoNCELoss, SupervisedContrastiveLoss
from twinlens.model import Heads
from twinlens.training import HeadTrainer
from twinlens.training.build import build_loss
from twinlens.training.pairs import epoch_order, label_numbers, pair_ids
from twinlens.training.raw import raw_pairs

LABELS = ["loss.name=supervised", "loss.positives=colour"]


def ids_of(labels, images=None, texts=None):
    places = range(len(labels))
    columns = [images or places, texts or places, labels]
    return np.stack([np.array(each) for each in columns], 1).astype("int32")


def value(ids, logits):
    return float(SupervisedContrastiveLoss()(ids, np.asarray(logits, "float32")))


def slowly(ids, logits):
    """Equation 2 of the paper in both directions, one pair at a time."""

    def right(i, j):
        return ids[i][2] == ids[j][2]

    def candidate(i, j):
        twin = ids[i][0] == ids[j][0] or ids[i][1] == ids[j][1]
        return i == j or right(i, j) or not twin

    total, rows = 0.0, range(len(ids))
    for scores in (logits, logits.T):
        for i in rows:
            whole = sum(math.exp(scores[i, j]) for j in rows if candidate(i, j))
            hits = [math.exp(scores[i, j]) / whole for j in rows if right(i, j)]
            total += -sum(map(math.log, hits)) / len(hits)
    return total / (2 * len(ids))


# === The loss ===


def test_by_hand_on_three_pairs_of_which_two_are_alike():
    # Rows 0 and 1: probability 1/3 for both right answers. Row 2: e² of 1 + 1 + e².
    logits = np.diag([0.0, 0.0, 2.0])
    expected = (2 * math.log(3) + math.log(2 + math.e**2) - 2) / 3
    assert value(ids_of([5, 5, 6]), logits) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_papers_formula_pair_by_pair(seed):
    random = np.random.default_rng(seed)
    labels, texts, images = (list(random.integers(0, 5, 12)) for _ in range(3))
    logits = random.normal(size=(12, 12))
    ids = ids_of(labels, images, texts)
    assert value(ids, logits) == pytest.approx(slowly(ids, logits), rel=1e-5)


@pytest.mark.parametrize("images", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 2]])
def test_with_a_label_for_each_pair_it_is_info_nce(images, random):
    ids = ids_of([3, 1, 4, 0, 9], images, [7, 8, 7, 5, 6])
    logits = random.normal(size=(5, 5))
    plain = float(InfoNCELoss()(ids[:, :2], logits.astype("float32")))
    assert value(ids, logits) == pytest.approx(plain, rel=1e-6)
    labelled = float(InfoNCELoss()(ids, logits.astype("float32")))
    assert labelled == plain  # the third column is nothing to other losses


def test_a_label_of_all_pairs_wants_all_scores_equal(random):
    ids = ids_of([0] * 6)
    least = value(ids, np.zeros((6, 6)))
    assert least == pytest.approx(math.log(6), rel=1e-6)
    assert value(ids, random.normal(size=(6, 6))) > least + 0.1


def test_chance_level_is_the_loss_of_equal_scores():
    loss = SupervisedContrastiveLoss()
    assert value(ids_of([0, 0, 1, 2]), np.zeros((4, 4))) == pytest.approx(
        loss.chance_level(4)
    )


def test_it_is_built_again_from_its_settings():
    loss = SupervisedContrastiveLoss(0.2)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()


def test_ids_without_labels_are_refused():
    with pytest.raises(InputError, match="2 columns of ids; expected.*loss.positives"):
        SupervisedContrastiveLoss()(ids_of([0, 1])[:, :2], np.eye(2, dtype="float32"))


# === The labels of pairs ===


def table(**more):
    given = {
        "image_id": ["b", "a", "b", "c", "d", "e"],
        "image_path": ["b", "a", "b", "c", "d", "e"],
        "caption": ["1", "2", "3", "4", "5", "6"],
        "split": ["train"] * 6,
    }
    return pd.DataFrame(given | more)


def test_pictures_without_a_label_have_a_number_of_their_own():
    years = pd.array([2012, 2011, 2011, None, 2012, None], dtype="Int64")
    data = table(kind=["x", "y", "y", "", "x", ""], year=years)
    for label in ("kind", "year"):
        found = label_numbers(data, label)  # of b, a, c, d, e
        assert found[0] == found[3] and len(set(found)) == 4


def test_an_unknown_label_is_an_error_that_names_the_attributes():
    message = "loss.positives is 'shape', which is no attribute .*: kind, year."
    with pytest.raises(InputError, match=message):
        label_numbers(table(kind="x", year="y"), "shape")
    with pytest.raises(InputError, match="Its attributes: none."):
        label_numbers(table(), "caption")


def test_pairs_carry_the_labels_of_their_pictures():
    kinds = ["x", "y", "x", "y", "x", ""]
    pairs = raw_pairs(table(kind=kinds), broken=["a"], label="kind")
    assert list(pairs.image_ids) == ["b", "c", "d", "e"]
    x, y, again, own = pairs.labels
    assert x == again and len({x, y, own}) == 3
    pictures = np.array([[3, 0], [2, 1]])
    ids = pair_ids(pairs, pictures, np.array([[9, 8], [7, 6]]))
    assert ids.tolist() == [[[3, 9, own], [0, 8, x]], [[2, 7, x], [1, 6, y]]]
    plain = pair_ids(raw_pairs(table()), pictures, pictures)
    assert plain.shape == (2, 2, 2) and plain.dtype == np.int32


# === Settings ===


@pytest.mark.parametrize("alone", LABELS)
def test_loss_and_label_are_set_together(alone):
    with pytest.raises(InputError, match=f"--set: .*{alone.split('=')[1]}.*neither"):
        override(Config(), [alone])
    loss = build_loss(load_config(None, LABELS).loss)
    assert loss.name == "supervised" and loss.temperature == 0.07


# === Trainings ===


def test_the_compiled_loop_shows_the_loss_the_labels_of_its_pairs():
    """Against plain eager Keras with equation 2, without dropout."""

    def heads():
        parts = [ProjectionHead(8, 16, 1, dropout=0.0, seed=s) for s in (0, 1)]
        whole = Heads(*parts, Similarity(0.1))
        whole.build(((None, 8), (None, 8)))
        return whole

    labels = np.random.default_rng(0).integers(0, 6, 64)
    pairs = made_pairs()
    object.__setattr__(pairs, "labels", labels)
    epoch = epoch_order(pairs, 16, 0, 0)
    trainer = HeadTrainer(
        heads(), SupervisedContrastiveLoss(), keras.optimizers.SGD(0.0)
    )
    plain, losses = heads(), []
    for pictures, texts in zip(epoch.pictures, epoch.text_rows, strict=True):
        logits = plain((pairs.images[pictures], pairs.texts[texts])).numpy()
        ids = np.stack([pictures, texts, labels[pictures]], axis=1)
        losses.append(slowly(ids, logits))
    found = trainer.run_epoch(pairs, epoch)
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.fixture(scope="module")
def labelled(home):
    """The folder of a phase-1 run with labels."""
    found = train([*home.settings, "name=labels", *LABELS])
    assert found.code == 0, found.err
    return home.folder / "runs" / "labels-phase1"


@pytest.mark.slow
def test_phase_1_trains_with_labels(labelled, trained):
    losses, plain = (
        pd.read_csv(folder / "metrics.csv")["loss"]
        for folder in (labelled, trained.folder)
    )
    assert losses.iloc[-1] < losses.iloc[0] and losses[0] != plain[0]


@pytest.mark.slow
def test_phase_2_goes_on_with_labels_in_a_gradient_cache(home, labelled):
    more = ("name=labels", *LABELS, "phase2.negatives=8", "phase2.batch_size=4")
    with encoders_anew():
        found = fine_tune(home, settings=more)
    assert found.code == 0, found.err
    losses = pd.read_csv(home.folder / "runs/labels-phase2/metrics.csv")["loss"]
    # Eight pairs of three colours: not even the best model is below the mean logarithm
    # of how many are right. What a step computes is tested in test_finetune.
    assert (losses > math.log(2)).all() and np.isfinite(losses).all()


def test_an_unknown_label_stops_the_job_before_anything_is_encoded(home, tmp_path):
    wrong = ["loss.name=supervised", "loss.positives=color", "name=wrong"]
    found = train([*home.settings, *wrong, f"cache.path={tmp_path / 'cache'}"])
    assert found.code == 1 and not (tmp_path / "cache").exists()
    assert "is 'color', which is no attribute" in found.err
    assert "colour, shape" in found.err
