import io

import numpy as np
import pytest
from composed_queries import (
    HOSTILE,
    attention_of,
    draw_pictures,
    evaluation_of,
)
from PIL import Image

from twinlens.errors import InputError
from twinlens.report import (
    AttentionExample,
    composed_examples,
    draw_attention,
    draw_composed,
)
from twinlens.report.attention import place_heat, word_weights


@pytest.fixture
def paths(tmp_path):
    return draw_pictures(tmp_path)


# === Examples ===


def test_answers_are_those_of_the_category_best_first(paths):
    example = next(
        e
        for e in composed_examples(evaluation_of(), paths, True)["random"]
        if e.wish == HOSTILE
    )
    assert [a.path for a in example.answers] == [paths[f"p{i}"] for i in range(3, 8)]
    assert [a.is_reference for a in example.answers] == [True] + [False] * 4
    assert [a.is_right for a in example.answers] == [False, True] + [False] * 3
    scores = [a.score for a in example.answers]
    np.testing.assert_allclose(np.array(scores) / scores[0], [1, 0.8, 0.6, 0.4, 0.2])
    assert (example.reference, example.target) == (paths["p3"], paths["p4"])
    assert (example.rank, example.gallery) == (2, 6)
    assert example.score == pytest.approx(scores[1])


def test_a_reference_that_leaves_the_gallery_is_no_answer(paths):
    found = composed_examples(evaluation_of(keeps_reference=False), paths, False)
    for example in sum(found.values(), []):
        assert not any(answer.is_reference for answer in example.answers)
        assert example.reference not in [answer.path for answer in example.answers]
    shirt = next(e for e in found["best"] if e.category == "shirt")
    assert len(shirt.answers) == 3  # all that is left of a gallery of four


def test_best_and_worst_go_by_rank_then_score_and_show_a_reference_once(paths):
    found = composed_examples(evaluation_of(), paths, True)
    assert [e.wish for e in found["best"]] == ["wish 3", "wish 2", HOSTILE]
    assert [e.wish for e in found["worst"]] == ["wish 1", HOSTILE, "wish 4", "wish 2"]
    assert composed_examples(evaluation_of(), paths, True) == found


def test_the_picture_of_examples_has_a_frame_for_each_meaning(tmp_path, paths):
    for keeps_reference in (True, False):
        evaluation = evaluation_of(keeps_reference=keeps_reference)
        found = composed_examples(evaluation, paths, keeps_reference)
        draw_composed({"best": found["best"]}, tmp_path / "drawn.png")
        pixels = np.asarray(Image.open(tmp_path / "drawn.png").convert("RGB"))
        blue, green, grey = (
            (pixels == colour).all(-1).sum()
            for colour in ((0, 114, 178), (0, 128, 93), (111, 119, 127))
        )
        assert min(blue, green) > 1000
        assert (grey > 1000) == keeps_reference  # a few are in words


# === Attention ===


def test_the_weight_of_a_word_is_its_mean_over_weighted_places():
    over_words = np.array([[0.9, 0.1], [0.5, 0.5]])
    example = AttentionExample("", "ab", over_words, np.array([0.25, 0.75]), (1, 2))
    np.testing.assert_allclose(word_weights(example), [0.6, 0.4])


def test_heat_lies_where_the_places_lie_and_even_weights_are_lukewarm():
    weights = np.array([0, 0, 0, 1.0])
    corner = AttentionExample("", "a", np.ones((4, 1)), weights, (2, 2))
    heat = place_heat(corner, (80, 40))
    assert heat.shape == (40, 80)
    assert heat[-1, -1] == 1
    assert heat[0, 0] == heat[-1, 0] == heat[0, -1] == 0
    assert heat[-1, 39:41].mean() == pytest.approx(0.5)  # between two places
    even = AttentionExample("", "a", np.ones((4, 1)), np.full(4, 0.25), (2, 2))
    np.testing.assert_allclose(place_heat(even, (5, 5)), 0.5)


def test_attention_is_drawn_on_grids_borders_and_without_either(paths):
    drawn = set()
    for options in ({}, {"grid": None}, {"padded": True}):
        contents = io.BytesIO()
        examples = [attention_of(paths["p1"], **options), attention_of("gone.jpg")]
        draw_attention(examples, contents)
        with Image.open(contents) as picture:
            assert len(picture.convert("RGB").getcolors(10**7)) > 100
        drawn.add(contents.getvalue())
    assert len(drawn) == 3


@pytest.mark.parametrize("options", [{"grid": (2, 2)}, {"places": 5}, {"words": ()}])
def test_shapes_that_do_not_fit_are_named(tmp_path, options):
    with pytest.raises(InputError, match=r"p1.png: `over_words` is \(\d, \d\)"):
        draw_attention([attention_of("p1.png", **options)], tmp_path / "drawn.png")
    with pytest.raises(InputError, match="no attention examples"):
        draw_attention([], tmp_path / "drawn.png")
