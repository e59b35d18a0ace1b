"""Where a composed query looks: at which places of the picture, with which words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from twinlens.errors import InputError
from twinlens.report.panels import LIGHT, Theme
from twinlens.report.pictures import SIDE, Written, frame, open_picture, show, written

WIDTHS = (1.0, 1.05, 1.7)  # picture, words, places × words
WIDTH, LOW, LINE = 11.0, 2.9, 0.19  # inches: all, a row at least, a word


@dataclass(frozen=True)
class AttentionExample:
    """How one composed query weighs its words and places.

    Attributes:
        reference_path: file of the reference.
        words: of the wish, as the text encoder divides it.
        over_words: `(places, words)` weights; each row sums to one.
        of_places: `(places,)` weights that sum to one.
        grid: rows and columns of the places, first row first; none where they do not
            lie on the picture.
        padded: whether the encoder saw the picture in a square with a border, not
            stretched to it.
    """

    reference_path: str | Path
    words: Sequence[str]
    over_words: np.ndarray
    of_places: np.ndarray
    grid: tuple[int, int] | None
    padded: bool = False


def draw_attention(
    examples: Sequence[AttentionExample],
    path: Written | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """One row a query: where it looks, at which words, and both.

    The first panel dims the reference where it has little weight, the second has
    the weight of each word over all places, the third of each word at each place.

    Args:
        examples: at least one.
        path: PNG file to write, if any.
        theme: colours of the page it stands on.

    Raises:
        InputError: there is no example, or its shapes do not fit each other.
    """
    if not examples:
        raise InputError("There are no attention examples to draw; give one or more.")
    for example in examples:
        _check(example)
    heights = [max(LOW, 1 + LINE * len(each.words)) for each in examples]
    size = (WIDTH, sum(heights))
    figure = Figure(size, dpi=130, layout="constrained", facecolor=theme.paper)
    ratios = {"width_ratios": WIDTHS, "height_ratios": heights}
    lines = figure.subplots(len(examples), 3, squeeze=False, gridspec_kw=ratios)
    for line, example in zip(lines, examples, strict=True):
        _draw_example(line, example, theme)
    return written(figure, path)


def word_weights(example: AttentionExample) -> np.ndarray:
    """`(words,)` weight of each word over all places; they sum to one."""
    return np.asarray(example.of_places) @ np.asarray(example.over_words)


def place_heat(example: AttentionExample, size: tuple[int, int]) -> np.ndarray:
    """`(height, width)` heat of a picture's pixels, 0 to 1, between places bilinear.

    The warmest place has 1, but none that weighs less than twice its even share: even
    weights are lukewarm.

    Args:
        example: with a grid.
        size: width and height of the picture.
    """
    weights = np.reshape(example.of_places, example.grid).astype(np.float32)
    weights /= max(weights.max(), 2 / weights.size)
    large = Image.fromarray(weights).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(large)


def _check(example: AttentionExample) -> None:
    over_words, of_places = np.shape(example.over_words), np.shape(example.of_places)
    places = int(np.prod(example.grid)) if example.grid else sum(of_places[:1])
    fits = over_words == (places, len(example.words)) and of_places == (places,)
    if not fits or not places or not len(example.words):
        raise InputError(
            f"Attention of {example.reference_path}: `over_words` is {over_words} and "
            f"`of_places` {of_places} for {len(example.words)} words and the grid "
            f"{example.grid}; they must be (places, words) and (places,), none of them "
            "empty, with as many places as the grid has."
        )


def _draw_example(
    line: Sequence[Axes], example: AttentionExample, theme: Theme
) -> None:
    picture, bars, matrix = line
    _draw_places(picture, example, theme)
    words, weights = np.arange(len(example.words)), word_weights(example)
    colours = _shades(theme)
    thick = min(0.82, 0.1 + 0.12 * len(words))  # no slab for a single word
    bars.barh(words, weights, thick, color=colours(weights / weights.max()))
    bars.set_yticks(words, example.words, parse_math=False)
    bars.set_ylim(len(words) - 0.5, -0.5)
    bars.locator_params(axis="x", nbins=4)
    bars.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    _plain(bars, theme, "words, over all places together")
    options = {"cmap": colours, "vmin": 0, "aspect": "auto"}
    matrix.imshow(np.transpose(example.over_words), **options, interpolation="nearest")
    matrix.set_yticks(words, example.words, parse_math=False)
    _plain(matrix, theme, "words at each place")
    matrix.set_xlabel(
        f"{len(example.of_places)} places"
        + (", row after row of the picture" if example.grid else "")
    )


def _draw_places(axes: Axes, example: AttentionExample, theme: Theme) -> None:
    """The reference, dim where it has little weight; plain without a grid."""
    title = "reference"
    show(axes, example.reference_path)
    opened = open_picture(example.reference_path, SIDE)
    if example.grid and opened:
        title = "places it looks at"
        if example.padded:
            opened = ImageOps.pad(opened, (max(opened.size),) * 2)
        axes.clear()
        axes.imshow(np.asarray(opened))
        heat = {"cmap": "inferno", "vmin": 0, "vmax": 1, "alpha": 0.55}
        axes.imshow(place_heat(example, opened.size), **heat)
    frame(axes, theme.grid, 0.8)
    axes.set_title(title, loc="left", color=theme.faint, fontsize=9)


def _plain(axes: Axes, theme: Theme, title: str) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_title(title, loc="left", color=theme.faint, fontsize=9)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(colors=theme.faint, labelsize=9, length=0)
    axes.tick_params(axis="y", labelcolor=theme.ink)
    axes.xaxis.label.set(color=theme.faint, size=9)


def _shades(theme: Theme) -> LinearSegmentedColormap:
    """From nothing to much, in the colour of composed queries."""
    ends = [theme.grid, theme.text_to_image]
    return LinearSegmentedColormap.from_list("weights", ends)
