"""Scenes to captions: five of a picture, each true, each in other words.

The first names everything but the places, the second every place; so the five
together tell a scene from every other one, while a single caption may fit several.
"""

from collections.abc import Callable
from random import Random

from twinlens.data.scene_layout import Scene, SceneObject, relation

SHAPE_WORDS = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "pentagon": ("pentagon",),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus sign"),
    "heart": ("heart",),
    "crescent": ("crescent", "half moon"),
    "diamond": ("diamond", "rhombus"),
}
COLOUR_WORDS = {
    "red": ("red",),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "brown": ("brown",),
    "black": ("black",),
    "white": ("white",),
}
SIZE_WORDS = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium-sized",),
    "large": ("large", "big"),
}
TEXTURE_WORDS = {
    "plain": ("plain",),
    "striped": ("striped",),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "chequered"),
}
BACKGROUND_WORDS = {
    "cream": ("on a cream background", "on a cream sheet"),
    "mint": ("on a mint background", "on a mint sheet"),
    "lilac": ("on a lilac background", "on a lilac sheet"),
    "peach": ("on a peach background", "on a peach sheet"),
    "grey": ("on a grey background", "on a grey sheet"),
    "navy": ("on a navy background", "against the navy night"),
    "charcoal": ("on a charcoal background", "on a charcoal sheet"),
    "sunset": ("at sunset", "against the evening sky"),
    "sand": ("on sand", "on a sandy beach"),
    "meadow": ("over a meadow", "over grass under the sky"),
    "sea": ("over the sea", "above the water"),
    "snow": ("over snow", "in a snowy field"),
    "brick": ("on a brick wall", "in front of bricks"),
    "graph paper": ("on graph paper", "on squared paper"),
    "wood": ("on wooden boards", "on a wooden table"),
}
PLACE_WORDS = {
    ("top", "left"): ("in the top left corner", "at the upper left"),
    ("top", "middle"): ("at the top", "in the upper middle"),
    ("top", "right"): ("in the top right corner", "at the upper right"),
    ("middle", "left"): ("on the left", "at the left edge"),
    ("middle", "middle"): ("in the middle", "in the centre"),
    ("middle", "right"): ("on the right", "at the right edge"),
    ("bottom", "left"): ("in the bottom left corner", "at the lower left"),
    ("bottom", "middle"): ("at the bottom", "in the lower middle"),
    ("bottom", "right"): ("in the bottom right corner", "at the lower right"),
}
RELATION_WORDS = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "inside": ("inside", "within"),
}
COUNT_WORDS = {1: "one thing", 2: "two things", 3: "three things", 4: "four things"}


def captions_of(scene: Scene, random: Random) -> list[str]:
    """Five captions of a scene; the same state of `random` gives the same ones."""
    return [_sentence(write(scene, random)) for write in _WRITERS]


def _everything(scene: Scene, random: Random) -> str:
    """All attributes of all objects, and the background."""
    things = [_noun(thing, random, 1.0, 1.0) for thing in _shuffled(scene, random)]
    return f"{_listed(things)} {_background(scene, random)}"


def _places(scene: Scene, random: Random) -> str:
    """Every object with its place and some other attributes; then the background."""
    things = [
        f"{_noun(thing, random, 0.3, 0.5)} {random.choice(PLACE_WORDS[thing.place])}"
        for thing in _shuffled(scene, random)
    ]
    return f"{_listed(things)}, {_background(scene, random)}"


def _relations(scene: Scene, random: Random) -> str:
    """Objects two by two, one as seen from the other where that is clear."""
    things = _shuffled(scene, random)
    parts = []
    for pair in filter(None, (things[:2], things[2:])):
        named = [_noun(thing, random, 0.5, 0.6) for thing in pair]
        where = relation(*pair) if len(pair) == 2 else ""
        link = random.choice(RELATION_WORDS[where]) if where else "and"
        parts.append(f" {link} ".join(named))
    start = random.choice(["there is ", "we see ", "a picture of "])
    return f"{start}{', and '.join(parts)} {_background(scene, random)}"


def _counted(scene: Scene, random: Random) -> str:
    """The background and the number first, then the objects in short."""
    things = [_noun(thing, random, 0.4, 0.7) for thing in _shuffled(scene, random)]
    count = COUNT_WORDS[len(things)]
    return f"{_background(scene, random)}, {count}: {_listed(things)}"


def _keywords(scene: Scene, random: Random) -> str:
    """As someone types into a search box: no articles, few attributes."""
    things = [
        _noun(thing, random, 0.4, 0.5).split(" ", 1)[1]
        for thing in _shuffled(scene, random)
    ]
    return ", ".join(things)


_WRITERS: tuple[Callable[[Scene, Random], str], ...] = (
    _everything,
    _places,
    _relations,
    _counted,
    _keywords,
)


def _noun(
    thing: SceneObject, random: Random, size_chance: float, texture_chance: float
) -> str:
    """`a [size] [texture] colour shape`; what is usual goes unsaid."""
    words = []
    if thing.size != "medium" and random.random() < size_chance:
        words.append(random.choice(SIZE_WORDS[thing.size]))
    if thing.texture != "plain" and random.random() < texture_chance:
        words.append(random.choice(TEXTURE_WORDS[thing.texture]))
    words.append(random.choice(COLOUR_WORDS[thing.colour]))
    words.append(random.choice(SHAPE_WORDS[thing.shape]))
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article, *words])


def _shuffled(scene: Scene, random: Random) -> list[SceneObject]:
    return random.sample(scene.objects, len(scene.objects))


def _background(scene: Scene, random: Random) -> str:
    return random.choice(BACKGROUND_WORDS[scene.background])


def _listed(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
