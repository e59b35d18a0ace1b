"""What a person says who has one scene and wants another: the changes in words.

Things are named as they are in the scene that is there, as shortly as tells them
from the others: "make the circle red and remove the striped square". What a thing looked
like before is in the picture, not in the wish.
"""

from random import Random

from twinlens.data.scene_captions import (
    BACKGROUND_WORDS,
    COLOUR_WORDS,
    PLACE_WORDS,
    SHAPE_WORDS,
    SIZE_WORDS,
    TEXTURE_WORDS,
)
from twinlens.data.scene_edits import Change, Version, changes
from twinlens.data.scene_layout import SceneObject

SENTENCES = {
    "colour": ("make {the} {new}", "{the} should be {new}", "paint {the} {new}"),
    "shape": ("turn {the} into {new}", "replace {the} by {new}"),
    "size": ("make {the} {new}", "{the} should be {new}"),
    "texture": ("make {the} {new}", "{the} should be {new}"),
    "add": ("add {new}", "put {new}"),
    "remove": ("remove {the}", "take {the} away", "without {the}"),
    "place": ("move {the} {new}", "put {the} {new}"),
    "background": ("put everything {new}", "the same {new}"),
}
TARGETS = {  # of a move, for each place
    place: tuple(
        words.replace("in the", "into the").replace("at the", "to the").replace(
            "on the", "to the"
        )
        for words in PLACE_WORDS[place]
    )
    for place in PLACE_WORDS
}
WORDS = {
    "colour": COLOUR_WORDS,
    "size": SIZE_WORDS,
    "texture": TEXTURE_WORDS,
    "background": BACKGROUND_WORDS,
    "place": TARGETS,
}
NAMES = (  # what a thing is called by, the shortest first
    ("shape",),
    ("colour", "shape"),
    ("size", "shape"),
    ("texture", "shape"),
    ("size", "colour", "shape"),
    ("texture", "colour", "shape"),
    ("size", "texture", "colour", "shape"),
)


def wish(reference: Version, target: Version, random: Random) -> str:
    """The changes from one scene to another of its family, in words.

    Returns:
        A sentence; empty where a thing cannot be told from another.
    """
    parts = []
    for change in changes(reference, target):
        parts.append(_said(change, reference, random))
    if not all(parts):
        return ""
    random.shuffle(parts)
    return " and ".join(parts)


def _said(change: Change, reference: Version, random: Random) -> str:
    sentence = random.choice(SENTENCES[change.kind])
    the = ""
    if change.number >= 0 and change.kind != "add":
        the = _name(change.number, reference, random)
        if not the:
            return ""
    return sentence.format(the=the, new=_new(change, random))


def _new(change: Change, random: Random) -> str:
    if change.kind == "remove":
        return ""
    if change.kind == "add":
        thing = change.value
        names = ("size", "texture", "colour", "shape")
        return (
            f"{_article(_words(thing, names, random))} "
            f"{random.choice(PLACE_WORDS[thing.place])}"
        )
    if change.kind == "shape":
        return _article(random.choice(SHAPE_WORDS[change.value]))
    return random.choice(WORDS[change.kind][change.value])


def _name(number: int, version: Version, random: Random) -> str:
    """A thing's name, by which it can be told from the others; empty if none can."""
    things = dict(version.things)
    thing = things.pop(number)
    for names in NAMES:
        values = [getattr(thing, name) for name in names]
        if all(
            [getattr(o, name) for name in names] != values for o in things.values()
        ):
            return f"the {_words(thing, names, random)}"
    return ""


def _words(thing: SceneObject, names: tuple[str, ...], random: Random) -> str:
    tables = WORDS | {"shape": SHAPE_WORDS}
    return " ".join(random.choice(tables[name][getattr(thing, name)]) for name in names)


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words
