import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from twinlens.config import load_config, override
from twinlens.data.table import CaptionData, Problem
from twinlens.errors import InputError
from twinlens.evaluation import DIRECTIONS, Evaluation
from twinlens.evaluation.breakdown import by_label, by_slice, intervals
from twinlens.evaluation.measure import Embedded, _measure
from twinlens.report import draw_retrieved, draw_samples, write_report
from twinlens.report.composed_examples import GREEN
from twinlens.report.figures import chance_curve, sample_cosines
from twinlens.report.pictures import open_picture
from twinlens.runs import start_run

PICTURES = 8
HOSTILE = "<script>alert('x')</script> & \"more\" of picture 0"
IDS = np.array([f"p{i}" for i in range(PICTURES)], object)
OWNERS = np.repeat(np.arange(PICTURES), 2)
HISTORY = [
    {"epoch": i + 1, "loss": 4 / (i + 1), "scale": 14.0, "learning_rate": 1e-3}
    | {"pairs_per_second": 1000.0}
    | {f"val/{d}/recall@{k}": 0.1 * k / (6 - i) for d in DIRECTIONS for k in (1, 5)}
    for i in range(5)
]


def embedded():
    """Pictures on the axes; a caption's part on an axis is that picture's score."""
    texts = np.eye(PICTURES)[OWNERS]
    texts[0] = np.arange(PICTURES)  # its own picture, the first, comes last of all
    texts[2, :5] = 0.1, 0.5, 0.2, 0.3, 0.7  # its own, the second, comes second
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    captions = [f"caption {i} of picture {owner}" for i, owner in enumerate(OWNERS)]
    captions = np.array([HOSTILE, *captions[1:]], object)
    return Embedded(np.eye(PICTURES), texts, OWNERS, IDS, captions)


def make(folder, overrides=(), history=HISTORY, noise=False):
    """A run, its data and its evaluation, as the jobs would leave them."""
    where = [f"runs={folder / 'runs'}", "phase1.batch_size=64", "name=small"]
    config = override(load_config(), [*where, *overrides])
    run = start_run(config, phase=1)
    run.write_metrics(history)
    training = {"epochs": len(history), "kept_epoch": len(history)}
    run.write_json(
        "training.json", training | {"seconds": 75.0, "pairs_per_second": 12345.6}
    )
    table = pd.DataFrame({"image_id": IDS[OWNERS], "caption": embedded().captions})
    table["image_path"] = [str(folder / f"{name}.jpg") for name in table["image_id"]]
    table["split"] = "test"
    table["colour"] = np.where(OWNERS < 3, "red", "blue")
    random = np.random.default_rng(0)
    for number, path in enumerate(table["image_path"].unique()):
        pixels = random.integers(0, 256, (240, 240, 3), np.uint8)
        plain = Image.new("RGB", (40, 30), (30 * number, 90, 120))
        (Image.fromarray(pixels) if noise else plain).save(path)
    problems = [Problem("empty caption", "captions.txt, row 3", "picture p1")]
    data = CaptionData(table, problems, "table reader, somewhere")
    broken = pd.DataFrame({"image_id": ["p99"], "reason": ["cut short"]})
    experiment = SimpleNamespace(
        config=config, data=data, table=table, broken_images=broken
    )
    return run, experiment, evaluation_of(config.evaluation, table)


def evaluation_of(settings, table):
    found = embedded()
    values, galleries, ranks = _measure(found, settings)
    summary = {"split": "test", "protocol": "full gallery", "gallery": galleries}
    summary["queries"] = ranks["direction"].value_counts().to_dict()
    summary["metrics"] = {
        f"{direction}/{name}": entry
        for direction in DIRECTIONS
        for name, entry in intervals(values[direction], None, settings).items()
    }
    attributes = table.drop_duplicates("image_id").set_index("image_id")
    if settings.slices:
        summary["slices"] = by_slice(values, ranks, attributes, settings)
    if settings.label:
        sides = found.images, found.texts, OWNERS, attributes.loc[IDS]
        summary["labels"] = by_label(*sides, settings)
    return Evaluation(summary, ranks, found)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    parts = make(tmp_path_factory.mktemp("report"))
    path = write_report(*parts)
    return SimpleNamespace(run=parts[0], path=path, page=path.read_text("utf-8"))


def articles(page, section):
    part = page.split(f'<section id="{section}">')[1].split("</section>")[0]
    return part.split("<article")[1:]


def marks(article):
    return [bool(mark) for mark in re.findall(r'<figure( class="is-right")?>', article)]


def test_the_page_needs_no_other_file_and_no_network(report):
    links = re.findall(r'(?:src|srcset|href|data)\s*=\s*"([^"]*)"', report.page)
    assert links
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert not re.search(r"https?://|url\(|@import|<script|<link", report.page)


def test_a_caption_cannot_run_as_a_script(report):
    assert "<script" not in report.page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp;" in report.page


def test_every_figure_is_a_png_for_light_and_for_dark_pages(report):
    names = ["loss", "cosines"]
    names += [
        f"{what}-{side}"
        for what in ("recall", "success")
        for side in ("text-to-image", "image-to-text")
    ]
    files = {path.name: path for path in (report.run.folder / "figures").iterdir()}
    assert set(files) == {f"{n}{t}.png" for n in names for t in ("", "-dark")}
    corners = {}
    for name, path in files.items():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert len(picture.convert("RGB").getcolors(10**6)) > 5  # not empty
            corners[name] = sum(picture.convert("RGB").getpixel((0, 0)))
    assert all((corners[n] < 200) == n.endswith("-dark.png") for n in corners)
    assert report.page.count("data:image/png") == len(files)


def test_the_right_picture_is_marked_at_its_place(report):
    found = [a for a in articles(report.page, "captions") if "caption 2 of" in a]
    assert found
    for article in found:
        assert marks(article) == [False, True, False, False, False]
        assert "right one at rank 2 of 8" in " ".join(article.split())


def test_a_right_picture_that_comes_last_stands_behind_the_five(report):
    article = [a for a in articles(report.page, "captions") if "alert" in a][-1]
    assert marks(article) == [False] * 5 + [True]
    assert "… 8" in article


def test_the_worst_captions_are_those_of_the_largest_rank(report):
    worst = report.page.split("<h3>The worst: ")[1].split("<article")
    assert "alert" in worst[1]  # rank 8
    assert "caption 2 of" in worst[2]  # rank 2
    assert "found first" in worst[3]


def test_own_captions_of_a_picture_are_marked(report):
    for article in articles(report.page, "pictures"):
        line = r"(?s)<li( class=.is-right.)?>.*?of picture (\d)<"
        lines = re.findall(line, article)
        owners = [owner for mark, owner in lines if mark]
        assert len(set(owners)) == 1
        assert not set(owners) & {owner for mark, owner in lines if not mark}


def test_the_first_sentence_says_how_often_the_first_picture_is_right(report):
    lead = re.search(r'class="lead">(.*?)</p>', report.page)[1]
    assert "first of 8 " in lead
    assert "<strong>88\xa0%</strong>" in lead  # 14 of 16 captions


def test_settings_that_differ_are_shown_and_no_others(report):
    table = report.page.split('settings">')[1].split("</table>")[0]
    row = r"<td>phase1.batch_size</td><td>64</td><td[^>]*>256</td>"
    assert re.search(row, table)
    assert "phase1.learning_rate" not in table


def test_data_speed_and_versions_are_told(report):
    for text in ("empty caption", "1 min 15 s", "12,346 pairs", "tensorflow-text"):
        assert text in report.page


def test_folds_are_searched_apart_and_all_tables_are_shown(tmp_path):
    folds = "evaluation.fold_size=4", "evaluation.slices=['colour']"
    run, *parts = make(tmp_path, [*folds, "evaluation.label=colour"])
    entry = {"mean": 0.5, "std": 0.0123, "values": [0.4877, 0.5123]}
    metrics = {"text_to_image/recall@1": entry}
    run.write_json("seeds.json", {"seeds": [0, 1], "split": "test", "metrics": metrics})
    page = write_report(run, *parts).read_text("utf-8")
    assert "50.0 ± 1.2" in page
    assert page.count(">red</th>") == 1
    assert "precision@5" in page
    for article in articles(page, "pictures"):
        owners = re.findall(r"of picture (\d)<", article)
        assert len({int(owner) // 4 for owner in owners}) == 1


def test_one_epoch_without_validation_makes_a_report(tmp_path):
    history = [{name: HISTORY[0][name] for name in ("epoch", "loss")}]
    run, *parts = make(tmp_path, ["loss.name=triplet"], history)
    write_report(run, *parts)
    names = {path.stem for path in (run.folder / "figures").iterdir()}
    assert "loss" in names
    assert not any(name.startswith("recall") for name in names)


def test_missing_pictures_leave_a_placeholder_and_noise_stays_small(tmp_path):
    run, experiment, evaluation = make(tmp_path, noise=True)
    path = write_report(run, experiment, evaluation)
    assert path.stat().st_size < 3_000_000
    assert "picture not found" not in path.read_text("utf-8")
    (tmp_path / "p1.jpg").unlink()
    (tmp_path / "p2.jpg").write_bytes(b"not a picture")
    write_report(run, experiment, evaluation)
    assert "picture not found" in path.read_text("utf-8")


def test_a_report_that_fails_leaves_the_old_one_whole(tmp_path):
    run, experiment, evaluation = make(tmp_path, history=HISTORY[:1])
    path = write_report(run, experiment, evaluation)
    before = {p: p.read_bytes() for p in (path, *(path.parent / "figures").iterdir())}
    run.write_metrics(HISTORY)  # other figures
    (run.folder / "versions.json").unlink()
    with pytest.raises(FileNotFoundError):
        write_report(run, experiment, evaluation)
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ([1], [1 / 4, 2 / 4, 3 / 4, 1]),
        ([2], [1 / 2, 5 / 6, 1, 1]),  # two misses: 2/4 * 1/3
        ([1, 2], [3 / 8, 4 / 6, 7 / 8, 1]),  # the mean of both
    ],
)
def test_chance_is_that_of_drawing_without_putting_back(right, expected):
    np.testing.assert_allclose(chance_curve(np.array(right), 4), expected)


def test_no_pair_is_sampled_among_the_others():
    found = embedded()
    perfect = Embedded(np.eye(PICTURES), np.eye(PICTURES)[OWNERS], OWNERS, IDS, found)
    pairs, others = sample_cosines(SimpleNamespace(embedded=perfect))
    assert (pairs == 1).all()
    assert (others == 0).all()


def test_pictures_are_turned_upright(tmp_path):
    picture = Image.new("RGB", (400, 200), "red")
    picture.paste("blue", (200, 0, 400, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: its left side is up
    picture.save(tmp_path / "turned.jpg", exif=exif)
    upright = open_picture(tmp_path / "turned.jpg", 100)
    assert upright.size == (50, 100)
    red, _, blue = upright.getpixel((25, 10))
    assert red > 200 > blue


def test_samples_are_drawn_even_if_a_picture_is_missing(tmp_path):
    _, experiment, _ = make(tmp_path)
    (tmp_path / "p3.jpg").unlink()
    figure = draw_samples(experiment.table, tmp_path / "samples.png")
    assert len(figure.axes) == PICTURES
    with Image.open(tmp_path / "samples.png") as drawn:
        assert drawn.size == (1040, 640)  # eight pictures, two rows of four


# === Captions and what several models find ===


def retrieved(folder, queries, names=("it",)):
    """The figure's panels as `(lines, columns)`, of models that find the same."""
    _, experiment, evaluation = make(folder)
    found = dict.fromkeys(names, evaluation)
    figure = draw_retrieved(found, queries, experiment.table, folder / "drawn.png")
    with Image.open(folder / "drawn.png") as drawn:
        assert drawn.format == "PNG"
    return np.array(figure.axes).reshape(len(queries) * len(names), -1)


def words(axes):
    return " ".join(" ".join(text.get_text().split()) for text in axes.texts)


def test_the_right_picture_is_framed_at_its_place_or_behind_the_answers(tmp_path):
    lines = retrieved(tmp_path, [4, 2, 0])  # found first, second, last of eight
    green = [
        [to_hex(axes.spines["top"].get_edgecolor()) == GREEN for axes in line[1:]]
        for line in lines
    ]
    assert [line.index(True) for line in green] == [0, 1, 5]
    assert [sum(line) for line in green] == [1, 1, 1]
    ranks = [words(line[0]).split("rank ")[1] for line in lines]
    assert ranks == ["1 of 8", "2 of 8", "8 of 8"]
    assert words(lines[2][-1]) == "right: 0.00"  # its cosine: nothing in common


def test_models_stand_one_below_the_other_and_the_caption_once(tmp_path):
    lines = retrieved(tmp_path, [2], ("before", "after"))
    assert words(lines[0][0]) == "“caption 2 of picture 1” before rank 2 of 8"
    assert words(lines[1][0]) == "after rank 2 of 8"


def test_queries_that_are_no_captions_are_named(tmp_path):
    _, experiment, evaluation = make(tmp_path)
    table = experiment.table
    with pytest.raises(InputError, match="query 16 is no caption: rows 0 to 15"):
        draw_retrieved({"it": evaluation}, [0, 16], table)
    with pytest.raises(InputError, match="0 queries and evaluations of 16 captions"):
        draw_retrieved({"it": evaluation}, [], table)
    with pytest.raises(InputError, match="of no captions"):
        draw_retrieved({}, [0], table)
