"""What a person says who has one scene and wants another: the changes in words.

Things are named as they are in the scene that is there, as shortly as tells them from
the others: "make the circle red and remove the striped square". What a thing
looked like before is in the picture, not in the wish.
"""

from random import Random

from twinlens.data.scene_captions import (
    BACKGROUND_WORDS,
    COLOUR_WORDS,
    SHAPE_WORDS,
    SIZE_WORDS,
    TEXTURE_WORDS,
)
from twinlens.data.scene_edits import Change, Version, changes
from twinlens.data.scene_layout import SceneObject

SENTENCES = {  # orders, all of them: so any two can be joined by "and"
    "colour": ("make {the} {new}", "paint {the} {new}", "let {the} be {new}"),
    "shape": ("turn {the} into {new}", "change {the} into {new}"),
    "size": ("make {the} {new}", "let {the} be {new}"),
    "texture": ("make {the} {new}", "let {the} be {new}"),
    "add": ("add {new}", "put {new}"),
    "remove": ("remove {the}", "take {the} away", "leave out {the}"),
    "place": ("move {the} {new}", "put {the} {new}"),
    "background": ("put everything {new}", "show everything {new}"),
}
SPOTS = {  # not "to the left", which could also be said of the top left corner
    ("top", "left"): ("top left corner", "upper left corner"),
    ("top", "middle"): ("top middle", "upper middle"),
    ("top", "right"): ("top right corner", "upper right corner"),
    ("middle", "left"): ("middle left", "left middle"),
    ("middle", "middle"): ("centre", "middle"),
    ("middle", "right"): ("middle right", "right middle"),
    ("bottom", "left"): ("bottom left corner", "lower left corner"),
    ("bottom", "middle"): ("bottom middle", "lower middle"),
    ("bottom", "right"): ("bottom right corner", "lower right corner"),
}
WORDS = {
    "shape": SHAPE_WORDS,
    "colour": COLOUR_WORDS,
    "size": SIZE_WORDS,
    "texture": TEXTURE_WORDS,
    "background": BACKGROUND_WORDS,
    "place": SPOTS,
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

    The same state of `random` gives the same words.

    Returns:
        Orders joined by "and"; empty where a thing cannot be told from another, or
        nothing changes.
    """
    found = changes(reference, target)
    random.shuffle(found)
    orders, last = [], None
    for change in found:
        the = ""
        if change.number in dict(reference.things):
            again = change.number == last
            the = "it" if again else _name(change.number, reference, target, random)
            if not the:
                return ""
        sentence = random.choice(SENTENCES[change.kind])
        orders.append(sentence.format(the=the, new=_new(change, random)))
        last = change.number
    return " and ".join(orders)


def _new(change: Change, random: Random) -> str:
    kind, value = change.kind, change.value
    if kind == "remove":
        return ""
    if kind == "add":
        thing = _article(_words(value, NAMES[-1], random))
        return f"{thing} in the {random.choice(SPOTS[value.place])}"
    word = random.choice(WORDS[kind][value])
    if kind == "shape":
        return _article(word)
    return f"into the {word}" if kind == "place" else word


def _name(number: int, reference: Version, target: Version, random: Random) -> str:
    """A thing's name, by which it can be told from the others; empty if none can.

    Also from those of the target: "turn the star into a circle and remove the circle"
    would leave open which one.
    """
    thing = dict(reference.things)[number]
    others = [o for n, o in (*reference.things, *target.things) if n != number]
    for names in NAMES:
        values = [getattr(thing, name) for name in names]
        if all([getattr(other, name) for name in names] != values for other in others):
            return f"the {_words(thing, names, random)}"
    return ""


def _words(thing: SceneObject, names: tuple[str, ...], random: Random) -> str:
    return " ".join(random.choice(WORDS[name][getattr(thing, name)]) for name in names)


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words
