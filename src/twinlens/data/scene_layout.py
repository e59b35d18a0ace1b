"""What a drawn scene holds, and how one is made up by chance.

A scene is plain data: change a field with `dataclasses.replace`, draw it again, and
it is another scene.
"""

import math
from dataclasses import dataclass
from random import Random

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "pentagon",
    "ring",
    "cross",
    "heart",
    "crescent",
    "diamond",
)
COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
)
TEXTURES = ("plain", "striped", "dotted", "checked")
RADII = {"small": 0.08, "medium": 0.115, "large": 0.15}  # of the picture's side
BACKGROUNDS = {  # with the colours that would not stand out there
    "cream": ("white", "yellow"),
    "mint": ("green", "white"),
    "lilac": ("purple", "pink"),
    "peach": ("orange", "pink"),
    "grey": ("white",),
    "navy": ("blue", "black", "purple"),
    "charcoal": ("black", "brown"),
    "sunset": ("orange", "pink", "purple"),
    "sand": ("yellow", "white", "brown"),
    "meadow": ("green", "blue"),
    "sea": ("blue",),
    "snow": ("white",),
    "brick": ("red", "brown", "orange"),
    "graph paper": ("white",),
    "wood": ("brown", "orange"),
}
COUNT_WEIGHTS = {1: 1, 2: 3, 3: 4, 4: 2}  # most scenes have two or three objects
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "middle", "right")
CELLS = [(row, column) for row in ROWS for column in COLUMNS]
CENTRES = (0.175, 0.5, 0.825)  # of the cells; a large object keeps off the edge
JITTER = 0.008  # away from the centre of a cell; even large neighbours do not touch
INSIDE_CHANCE = 0.5  # that a small object goes into a large ring that is there


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene.

    Attributes:
        shape, colour, size, texture: words from `SHAPES`, `COLOURS`, `RADII`,
            `TEXTURES`.
        x, y: its centre, as shares of the picture's side from the top left.
    """

    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float

    @property
    def place(self) -> tuple[str, str]:
        """Row and column of the ninth of the picture that holds its centre."""
        row, column = min(int(self.y * 3), 2), min(int(self.x * 3), 2)
        return ROWS[row], COLUMNS[column]


@dataclass(frozen=True)
class Scene:
    """Objects on a background; `seed` decides the grain of the background only."""

    objects: tuple[SceneObject, ...]
    background: str
    seed: int = 0

    @property
    def description(self) -> tuple:
        """What can be said of it: two scenes that differ here look different."""
        return self.background, tuple(
            sorted(
                (o.shape, o.colour, o.size, o.texture, *o.place) for o in self.objects
            )
        )


def sample_scene(random: Random) -> Scene:
    """A scene made up by chance: the same state of `random` gives the same one."""
    background = random.choice(list(BACKGROUNDS))
    counts = list(COUNT_WEIGHTS)
    (count,) = random.choices(counts, list(COUNT_WEIGHTS.values()))
    colours = [c for c in COLOURS if c not in BACKGROUNDS[background]]
    objects: list[SceneObject] = []
    for row, column in random.sample(CELLS, count):
        x, y = CENTRES[COLUMNS.index(column)], CENTRES[ROWS.index(row)]
        new = SceneObject(
            shape=random.choice(SHAPES),
            colour=random.choice(colours),
            size=random.choice(list(RADII)),
            texture=random.choice(TEXTURES),
            x=round(x + random.uniform(-JITTER, JITTER), 4),
            y=round(y + random.uniform(-JITTER, JITTER), 4),
        )
        objects.append(_moved_inside(new, objects, random))
    return Scene(tuple(objects), background, random.randrange(2**31))


def sample_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes of which no two have the same description; fewer are a part of more."""
    random, found = Random(seed), {}
    while len(found) < count:
        scene = sample_scene(random)
        found.setdefault(scene.description, scene)
    return list(found.values())


def relation(first: SceneObject, second: SceneObject) -> str:
    """Where `first` is as seen from `second`.

    Returns:
        `"inside"`, `"left"`, `"right"`, `"above"` or `"below"`: the larger of the two
        distances decides; empty where none does clearly.
    """
    right, down = first.x - second.x, first.y - second.y
    if second.shape == "ring" and math.hypot(right, down) < RADII[second.size] / 2:
        return "inside"
    if max(abs(right), abs(down)) < 1.5 * min(abs(right), abs(down)):
        return ""
    if abs(right) > abs(down):
        return "right" if right > 0 else "left"
    return "below" if down > 0 else "above"


def _moved_inside(
    new: SceneObject, objects: list[SceneObject], random: Random
) -> SceneObject:
    """A small object sometimes goes into a large empty ring of another colour."""
    rings = [
        ring
        for ring in objects
        if (ring.shape, ring.size) == ("ring", "large")
        and all(relation(other, ring) != "inside" for other in objects if other != ring)
    ]
    fits = new.size == "small" and rings and new.colour != rings[0].colour
    if not fits or random.random() > INSIDE_CHANCE:
        return new
    ring = rings[0]
    return SceneObject(new.shape, new.colour, "small", new.texture, ring.x, ring.y)
