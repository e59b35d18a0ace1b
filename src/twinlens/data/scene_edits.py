"""Families of drawn scenes: one scene and many that differ from it in a few things.

Things keep their number when they change, so that two scenes of a family can be
compared thing by thing: `changes` says what has to be done to one to get the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from twinlens.data.scene_layout import (
    BACKGROUNDS,
    CELLS,
    CENTRES,
    COLOURS,
    COLUMNS,
    RADII,
    ROWS,
    SHAPES,
    TEXTURES,
    Scene,
    SceneObject,
    relation,
    sample_scene,
)

MOST_THINGS = 5  # of the nine places; a scene stays easy to describe
MOST_CHANGES = 2  # that one wish asks for; no scene is farther from the first one
TWO_CHANGES = 0.5  # chance that a scene is two changes away from the first one
TRIES = 200  # until a family is given up for having no further scene
ATTRIBUTES = {"colour": COLOURS, "shape": SHAPES, "size": RADII, "texture": TEXTURES}
KINDS = (  # of changes, as often as they stand here
    *("colour", "colour", "shape", "shape", "texture", "texture", "size", "size"),
    *("add", "remove", "remove", "place", "place", "background"),
)


@dataclass(frozen=True)
class Version:
    """A scene of a family.

    Attributes:
        things: objects by number; a thing keeps its number in the whole family.
        background: a word of `BACKGROUNDS`.
    """

    things: tuple[tuple[int, SceneObject], ...]
    background: str

    def scene(self, seed: int = 0) -> Scene:
        """What is drawn."""
        return Scene(tuple(thing for _, thing in self.things), self.background, seed)


class Change(NamedTuple):
    """What happens to one thing, or to the background.

    Attributes:
        kind: `"add"`, `"remove"`, `"place"`, `"background"` or an attribute.
        number: of the thing; -1 for the background.
        value: the new thing, place, background or attribute; `None` if removed.
    """

    kind: str
    number: int = -1
    value: SceneObject | tuple[str, str] | str | None = None


def changes(before: Version, after: Version) -> list[Change]:
    """What makes one scene of a family another, thing by thing."""
    old, new = dict(before.things), dict(after.things)
    found = []
    for number in sorted(old.keys() | new.keys()):
        if number not in new:
            found.append(Change("remove", number))
        elif number not in old:
            found.append(Change("add", number, new[number]))
        else:
            found += _changed(number, old[number], new[number])
    if before.background != after.background:
        found.append(Change("background", -1, after.background))
    return found


def _changed(number: int, old: SceneObject, new: SceneObject) -> list[Change]:
    found = [
        Change(name, number, getattr(new, name))
        for name in ATTRIBUTES
        if getattr(old, name) != getattr(new, name)
    ]
    if old.place != new.place:
        found.append(Change("place", number, new.place))
    return found


def sample_family(random: Random, size: int) -> list[Version]:
    """A scene and others that are one or two changes away from it.

    Of a scene with two changes one with the first of them alone is in the family,
    too: who reads only half of a wish finds a neighbour of what was meant.

    Args:
        random: the same state gives the same family.
        size: scenes; no two look alike.
    """
    while True:
        scene = sample_scene(random)
        first = Version(tuple(enumerate(scene.objects)), scene.background)
        found = {scene.description: first}
        single = []
        for _ in range(TRIES * size):
            if len(found) == size:
                return list(found.values())
            two = bool(single) and random.random() < TWO_CHANGES
            start = random.choice(single) if two else first
            new = _edited(start, first, len(first.things) + len(found), random)
            if new is None or new.scene().description in found:
                continue
            found[new.scene().description] = new
            if not two:
                single.append(new)


def _edited(
    version: Version, first: Version, unused: int, random: Random
) -> Version | None:
    """One change of what is as in the first scene; `None`: it does not fit.

    `unused` is the number of a thing that would be added.
    """
    kind = random.choice(KINDS)
    things = dict(version.things)
    if kind == "background":
        if version.background != first.background:
            return None
        return _on_another_background(version, random)
    if kind == "add":
        thing = _new_thing(version, random)
        return _with(version, unused, thing) if thing else None
    unchanged = [n for n, thing in things.items() if dict(first.things).get(n) == thing]
    if not unchanged:
        return None
    number = random.choice(unchanged)
    thing = things.pop(number)
    if _holds_another(thing, things.values()):
        return None
    if kind == "remove":
        left = Version(tuple(sorted(things.items())), version.background)
        return left if things else None
    if kind == "place":
        return _moved(version, number, thing, random)
    values = [v for v in ATTRIBUTES[kind] if v != getattr(thing, kind)]
    if kind == "colour":
        values = [v for v in values if v not in BACKGROUNDS[version.background]]
    return _with(version, number, replace(thing, **{kind: random.choice(values)}))


def _with(version: Version, number: int, thing: SceneObject) -> Version:
    things = dict(version.things) | {number: thing}
    return Version(tuple(sorted(things.items())), version.background)


def _holds_another(thing: SceneObject, others: Iterable[SceneObject]) -> bool:
    """Whether something is inside it, or it is inside something."""
    return any(
        "inside" in (relation(other, thing), relation(thing, other)) for other in others
    )


def _on_another_background(version: Version, random: Random) -> Version | None:
    used = {thing.colour for _, thing in version.things}
    fit = [
        name
        for name, hidden in BACKGROUNDS.items()
        if name != version.background and not used & set(hidden)
    ]
    return replace(version, background=random.choice(fit)) if fit else None


def _free_point(version: Version, random: Random) -> tuple[float, float] | None:
    """The centre of an empty place: a thing in a place is always at the same point.

    So scenes of a family that have a thing in the same place show no difference there.
    """
    taken = {thing.place for _, thing in version.things}
    free = [cell for cell in CELLS if cell not in taken]
    if not free:
        return None
    row, column = random.choice(free)
    return CENTRES[COLUMNS.index(column)], CENTRES[ROWS.index(row)]


def _new_thing(version: Version, random: Random) -> SceneObject | None:
    point = _free_point(version, random)
    if point is None or len(version.things) >= MOST_THINGS:
        return None
    hidden = BACKGROUNDS[version.background]
    return SceneObject(
        shape=random.choice(SHAPES),
        colour=random.choice([c for c in COLOURS if c not in hidden]),
        size=random.choice(list(RADII)),
        texture=random.choice(TEXTURES),
        x=point[0],
        y=point[1],
    )


def _moved(
    version: Version, number: int, thing: SceneObject, random: Random
) -> Version | None:
    point = _free_point(version, random)
    if point is None:
        return None
    return _with(version, number, replace(thing, x=point[0], y=point[1]))
