"""Scenes to pictures, with Pillow: drawn at twice the size, then made smaller."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from twinlens.data.scene_layout import RADII, Scene, SceneObject

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

SUPERSAMPLING = 2  # smooth edges at a quarter of the cost of four times
COLOUR_VALUES: dict[str, Colour] = {
    "red": (214, 40, 40),
    "orange": (245, 133, 24),
    "yellow": (250, 214, 40),
    "green": (46, 155, 70),
    "blue": (36, 99, 214),
    "purple": (122, 55, 175),
    "pink": (247, 130, 180),
    "brown": (128, 78, 42),
    "black": (26, 26, 30),
    "white": (250, 250, 250),
}
LIGHT_PATTERN = (255, 240, 225)
DARK_PATTERNS = {"white": (160, 160, 170), "yellow": (196, 140, 10)}  # too light for it
RING_HOLE = 0.62  # of its radius; a small object fits into a large ring


def draw_scene(scene: Scene, image_size: int = 128) -> Image.Image:
    """The scene as an RGB picture of `image_size` pixels a side."""
    side = image_size * SUPERSAMPLING
    canvas = draw_background(scene.background, side, scene.seed)
    for thing in scene.objects:
        _draw_object(canvas, thing)
    return canvas.resize((image_size, image_size), Image.Resampling.BOX)


def draw_background(name: str, side: int, seed: int) -> Image.Image:
    """A background of `side` pixels; the seed moves its grain."""
    if name in PLAIN:
        return Image.new("RGB", (side, side), PLAIN[name])
    if name in GRAINY:
        return _grain(_PAINTERS[name](side).copy(), GRAINY[name], seed)
    return _PAINTERS[name](side).copy()


def _draw_object(canvas: Image.Image, thing: SceneObject) -> None:
    side = canvas.width
    radius = RADII[thing.size] * side
    border = max(2, side // 64)
    half = math.ceil(radius) + 2 * border
    mask = shape_mask(thing.shape, radius, half)
    corner = round(thing.x * side) - half, round(thing.y * side) - half
    shadow = mask.filter(ImageFilter.GaussianBlur(border)).point(lambda v: v * 2 // 5)
    shadow_corner = corner[0] + border, corner[1] + border
    canvas.paste((0, 0, 0), shadow_corner, shadow)
    colour = COLOUR_VALUES[thing.colour]
    outline = mask.filter(ImageFilter.MaxFilter(border // 2 * 2 + 1))
    canvas.paste(_outline_colour(colour), corner, outline)
    canvas.paste(_textured(thing, colour, half, side), corner, mask)


def _outline_colour(colour: Colour) -> Colour:
    if max(colour) < 60:  # black: a light outline, to stand out on dark grounds
        return 150, 150, 155
    return tuple(value // 2 for value in colour)


@cache
def shape_mask(shape: str, radius: float, half: int) -> Image.Image:
    """`(2 half, 2 half)` grey picture, 255 within the shape, around its middle."""
    mask = Image.new("L", (2 * half, 2 * half))
    draw = ImageDraw.Draw(mask)
    if shape in POLYGONS:
        points = [(half + radius * x, half + radius * y) for x, y in POLYGONS[shape]]
        draw.polygon(points, fill=255)
        return mask
    draw.circle((half, half), 0.95 * radius, fill=255)
    if shape == "ring":
        draw.circle((half, half), RING_HOLE * radius, fill=0)
    if shape == "crescent":
        draw.circle((half + 0.5 * radius, half - 0.2 * radius), 0.75 * radius, fill=0)
    return mask


def _textured(thing: SceneObject, colour: Colour, half: int, side: int) -> Image.Image:
    pattern = DARK_PATTERNS.get(thing.colour, LIGHT_PATTERN)
    step = max(4, side // 26)  # about ten pixels a period, at 256 pixels
    marks = _pattern_mask(thing.texture, 2 * half, step)
    tile = Image.new("RGB", (2 * half, 2 * half), colour)
    tile.paste(pattern, (0, 0), marks)
    return tile


@cache
def _pattern_mask(texture: str, side: int, step: int) -> Image.Image:
    """Where the second colour of a texture goes; a mark is never at the middle."""
    rows, columns = np.mgrid[:side, :side] - side // 2
    if texture == "striped":
        marks = (rows + columns + step // 4) % step >= step // 2
    elif texture == "dotted":
        shift = np.where((rows // step) % 2, step // 2, 0)
        down, right = rows % step - step / 2, (columns + shift) % step - step / 2
        marks = np.hypot(down, right) < 0.33 * step
    elif texture == "checked":
        marks = (rows // step + columns // step) % 2 == 1
    else:
        marks = np.zeros((side, side), bool)
    return Image.fromarray(np.uint8(marks) * 255)


def _ray_polygon(corners: int, inner: float = 1.0) -> Points:
    """A regular polygon, or a star where every other point is nearer; one up."""
    count = corners if inner == 1.0 else 2 * corners
    angles = [2 * math.pi * k / count - math.pi / 2 for k in range(count)]
    lengths = [inner if inner != 1.0 and k % 2 else 1.0 for k in range(count)]
    return [
        (length * math.cos(a), length * math.sin(a))
        for length, a in zip(lengths, angles, strict=True)
    ]


def _heart() -> Points:
    """The usual curve, 16 sin³ t and four cosines; https://mathworld.wolfram.com."""
    turns = [2 * math.pi * k / 60 for k in range(60)]
    return [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)) / 16
            + math.cos(4 * t) / 16
            - 0.1,
        )
        for t in turns
    ]


def _cross(arm: float) -> Points:
    corner = [(arm, -1), (arm, -arm), (1, -arm)]
    turned = [[(x, y), (-y, x), (-x, -y), (y, -x)] for x, y in corner]
    return [turned[point][quarter] for quarter in range(4) for point in range(3)]


POLYGONS: dict[str, Points] = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": [(x, y + 0.15) for x, y in _ray_polygon(3)],
    "star": _ray_polygon(5, inner=0.42),
    "pentagon": _ray_polygon(5),
    "cross": _cross(0.34),
    "heart": _heart(),
    "diamond": [(0, -1), (0.68, 0), (0, 1), (-0.68, 0)],
}
PLAIN: dict[str, Colour] = {
    "cream": (252, 244, 220),
    "mint": (190, 232, 208),
    "lilac": (214, 200, 236),
    "peach": (252, 208, 180),
    "grey": (188, 190, 194),
    "navy": (24, 34, 74),
    "charcoal": (62, 64, 70),
}
GRAINY = {"sand": 14, "meadow": 7, "sea": 5, "snow": 4}  # spread, in grey levels


def _grain(picture: Image.Image, spread: float, seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    noise = random.normal(128, spread, (picture.height // 2, picture.width // 2))
    grain = Image.fromarray(np.uint8(noise.clip(0, 255))).resize(picture.size)
    return ImageChops.add(picture, grain.convert("RGB"), offset=-128)


def _bands(side: int, stops: list[tuple[float, Colour]]) -> Image.Image:
    """Colours that pass into each other from the top to the bottom."""
    heights, colours = zip(*stops, strict=True)
    rows = np.linspace(0, 1, side)
    channels = [
        np.interp(rows, heights, values) for values in zip(*colours, strict=True)
    ]
    column = np.uint8(np.round(np.stack(channels, axis=-1)))
    return Image.fromarray(np.repeat(column[:, None], side, axis=1))


@cache
def _sunset(side: int) -> Image.Image:
    return _bands(
        side, [(0, (88, 62, 120)), (0.6, (226, 132, 120)), (1, (252, 200, 130))]
    )


@cache
def _sand(side: int) -> Image.Image:
    return Image.new("RGB", (side, side), (226, 202, 156))


@cache
def _meadow(side: int) -> Image.Image:
    sky = [(0, (150, 205, 245)), (0.5, (214, 236, 250))]
    return _bands(side, [*sky, (0.505, (150, 196, 100)), (1, (96, 160, 66))])


@cache
def _sea(side: int) -> Image.Image:
    sky = [(0, (236, 240, 240)), (0.5, (250, 240, 220))]
    return _bands(side, [*sky, (0.505, (92, 168, 190)), (1, (30, 100, 140))])


@cache
def _snow(side: int) -> Image.Image:
    sky = [(0, (120, 136, 156)), (0.5, (176, 188, 202))]
    return _bands(side, [*sky, (0.505, (236, 240, 246)), (1, (250, 252, 255))])


@cache
def _brick(side: int) -> Image.Image:
    wall = Image.new("RGB", (side, side), (216, 202, 190))
    draw = ImageDraw.Draw(wall)
    height, width, gap = side / 12, side / 6, side / 100
    shades = [(172, 92, 76), (182, 100, 82), (164, 86, 72)]
    for row in range(12):
        for column in range(-1, 7):
            x, y = (column + row % 2 / 2) * width, row * height
            shade = shades[(row * 5 + column * 3) % 3]
            draw.rectangle((x, y, x + width - gap, y + height - gap), fill=shade)
    return wall


@cache
def _graph_paper(side: int) -> Image.Image:
    paper = Image.new("RGB", (side, side), (250, 251, 253))
    draw = ImageDraw.Draw(paper)
    for line in range(17):
        at = round(line * side / 16)
        draw.line((at, 0, at, side), fill=(158, 190, 220), width=max(1, side // 128))
        draw.line((0, at, side, at), fill=(158, 190, 220), width=max(1, side // 128))
    return paper


@cache
def _wood(side: int) -> Image.Image:
    rows, columns = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    board = np.floor(rows * 5)
    wave = np.sin(60 * rows + 3 * np.sin(5 * columns + 2 * board) + 1.7 * board)
    light = 1 + 0.05 * wave + 0.05 * np.cos(2.3 * board)
    light[(rows * 5) % 1 < 0.03] = 0.6
    colour = np.array([206, 164, 112])
    return Image.fromarray(np.uint8((light[..., None] * colour).clip(0, 255)))


_PAINTERS: dict[str, Callable[[int], Image.Image]] = {
    "sunset": _sunset,
    "sand": _sand,
    "meadow": _meadow,
    "sea": _sea,
    "snow": _snow,
    "brick": _brick,
    "graph paper": _graph_paper,
    "wood": _wood,
}
