"""Families of scenes and wishes: true, unambiguous, and enough to get the target."""

import re
from itertools import permutations
from random import Random

import pytest

from twinlens.data import scene_captions as words
from twinlens.data.scene_edits import MOST_CHANGES, Version, changes, sample_family
from twinlens.data.scene_layout import BACKGROUNDS, SceneObject, relation
from twinlens.data.scene_wishes import NAMES, SPOTS, wish

FAMILIES = [sample_family(Random(number), 20) for number in range(40)]
PAIRS = [
    pair
    for family in FAMILIES
    for pair in permutations(family, 2)
    if len(changes(*pair)) <= MOST_CHANGES
]
NOUNS = {
    "shape": words.SHAPE_WORDS,
    "colour": words.COLOUR_WORDS,
    "size": words.SIZE_WORDS,
    "texture": words.TEXTURE_WORDS,
}
FACTS = [*NOUNS, "place"]
A_THING, THE = "(?P<new>an? .+)", "(?P<the>the .+|it)"
ORDERS = {
    "background": "(put|show) everything (?P<new>.+)",
    "add": f"(add|put) {A_THING} in the (?P<spot>.+)",
    "place": f"(move|put) {THE} into the (?P<spot>.+)",
    "shape": f"(turn|change) {THE} into {A_THING}",
    "remove": f"(remove|leave out) {THE}|take (?P<away>the .+) away",
    "attribute": rf"(make|paint) {THE} (?P<new>\S+)|let (?P<let>.+) be (?P<be>\S+)",
}


def thing(shape="circle", colour="red", size="large", x=0.5, y=0.5):
    return SceneObject(shape, colour, size, "plain", x, y)


def version(*things, background="grey"):
    return Version(tuple(enumerate(things)), background)


def look(of: Version):
    return of.scene().description


# === A reader of wishes, which knows the words and nothing of how wishes are made ===


def meaning_of(phrase: str, table: dict):
    (found,) = (name for name, options in table.items() if phrase in options)
    return found


def facts_in(phrase: str) -> dict:
    """What a noun phrase says of a thing."""
    facts = {}
    for name, table in NOUNS.items():
        options = [word for synonyms in table.values() for word in synonyms]
        found = re.findall(rf"(?<![-\w])({'|'.join(options)})(?![-\w])", phrase)
        if found:
            (word,) = found
            facts[name] = meaning_of(word, table)
    return facts


def named(phrase: str, states: list[dict], last: int | None) -> int:
    """The one thing that a name fits, in every one of the states."""
    if phrase == "it":
        return last
    facts = facts_in(phrase)
    fit = {
        n for things in states for n, t in things.items() if facts.items() <= t.items()
    }
    (number,) = fit
    return number


def obeyed(text: str, start: Version) -> tuple:
    """Description of the scene that somebody makes who does what the wish says."""
    before = {n: {f: getattr(t, f) for f in FACTS} for n, t in start.things}
    now, background, last = {n: dict(t) for n, t in before.items()}, start.background, 0
    for order in text.split(" and "):
        kind, said = next(
            (kind, match.groupdict())
            for kind, pattern in ORDERS.items()
            if (match := re.fullmatch(pattern, order))
        )
        phrase = said.get("the") or said.get("away") or said.get("let")
        new, spot = said.get("new") or said.get("be"), said.get("spot")
        if kind == "background":
            background = meaning_of(new, words.BACKGROUND_WORDS)
            continue
        if kind == "add":
            now[1000 + len(now)] = facts_in(new) | {"place": meaning_of(spot, SPOTS)}
            continue
        last = named(phrase, [before, now], last)
        if kind == "remove":
            del now[last]
        elif kind == "place":
            now[last]["place"] = meaning_of(spot, SPOTS)
        else:
            now[last] |= facts_in(new)
    names = ("shape", "colour", "size", "texture")
    return background, tuple(
        sorted((*(t[name] for name in names), *t["place"]) for t in now.values())
    )


# === Wishes ===


def test_who_does_what_a_wish_says_gets_the_target():
    said = [(wish(a, b, Random(n)), a, b) for n, (a, b) in enumerate(PAIRS)]
    said = [each for each in said if each[0]]
    assert len(said) > 0.95 * len(PAIRS) > 1000
    for text, before, after in said:
        assert obeyed(text, before) == look(after), text


def test_articles_fit_and_no_word_is_missing():
    for number, pair in enumerate(PAIRS):
        text = wish(*pair, Random(number))
        assert not re.search(r"\ban [^aeiou]|\ba [aeiou]|  |None|[{}]", text), text
        assert text == text.strip()


def test_what_cannot_be_told_apart_is_not_wished_for():
    twins = version(thing(x=0.1), thing(x=0.9))
    assert (
        wish(twins, version(thing(x=0.1, colour="blue"), twins.things[1][1]), Random())
        == ""
    )


def test_a_name_is_as_short_as_tells_the_thing_from_the_others():
    before = version(thing(x=0.1), thing("star", x=0.5), thing(colour="blue", x=0.9))
    star = Version(before.things[:1] + before.things[2:], "grey")
    assert re.search("the star", wish(before, star, Random(0)))
    circle = Version(before.things[1:], "grey")
    assert re.search("the red (circle|disc)", wish(before, circle, Random(0)))


@pytest.mark.parametrize("seed", range(8))  # for either order
def test_a_name_is_not_that_of_what_another_thing_becomes(seed):
    before = version(thing("star", "blue", x=0.1), thing(x=0.9))
    after = Version(((0, thing("circle", "blue", x=0.1)),), "grey")
    text = wish(before, after, Random(seed))
    assert re.search("the red (circle|disc)", text), text


@pytest.mark.parametrize("seed", range(8))
def test_a_thing_is_named_once(seed):
    after = version(thing("star", "blue"))
    text = wish(version(thing()), after, Random(seed))
    assert len(re.findall("the circle|the disc", text)) == 1
    assert re.search(r"\bit\b", text)


def test_the_same_state_gives_the_same_wish_and_no_change_gives_none():
    assert wish(*PAIRS[0], Random(1)) == wish(*PAIRS[0], Random(1)) != ""
    assert wish(PAIRS[0][0], PAIRS[0][0], Random(1)) == ""


def test_names_are_tried_from_the_shortest_to_the_longest():
    assert [len(names) for names in NAMES] == sorted(len(names) for names in NAMES)


# === Families ===


def applied(found, start: Version) -> tuple:
    """Description of a scene after changes, one at a time."""
    facts = {n: {f: getattr(t, f) for f in FACTS} for n, t in start.things}
    background = start.background
    for change in found:
        if change.kind == "background":
            background = change.value
        elif change.kind == "remove":
            del facts[change.number]
        elif change.kind == "add":
            new = change.value
            facts[change.number] = {f: getattr(new, f) for f in FACTS}
        else:
            facts[change.number][change.kind] = change.value
    return background, tuple(
        sorted((*(t[f] for f in FACTS[:-1]), *t["place"]) for t in facts.values())
    )


def test_changes_lead_from_any_scene_of_a_family_to_any_other():
    for family in FAMILIES[:10]:
        for before, after in permutations(family, 2):
            assert applied(changes(before, after), before) == look(after)


def test_nothing_changes_from_a_scene_to_itself():
    assert changes(FAMILIES[0][3], FAMILIES[0][3]) == []


def test_a_family_has_its_size_and_no_two_scenes_that_look_alike():
    for family in FAMILIES:
        assert len({look(each) for each in family}) == len(family) == 20
    assert len(sample_family(Random(0), 100)) == 100


def test_the_same_state_gives_the_same_family():
    assert sample_family(Random(3), 20) == FAMILIES[3]


def test_no_scene_is_farther_than_one_wish_and_the_half_of_it_is_there():
    twice = 0
    for first, *others in FAMILIES:
        known = {look(first)}
        for each in others:
            found = changes(first, each)
            assert 1 <= len(found) <= MOST_CHANGES
            halves = {applied([half], first) for half in found}
            assert len(found) == 1 or halves & known, found
            twice += len(found) == 2
            known.add(look(each))
    assert twice > 200


def test_no_colour_hides_on_its_background():
    for each in (each for family in FAMILIES for each in family):
        hidden = BACKGROUNDS[each.background]
        assert not any(thing.colour in hidden for _, thing in each.things)


def test_what_is_inside_another_thing_and_what_holds_it_stay_as_they_are():
    held = 0
    for first, *others in (sample_family(Random(number), 8) for number in range(400)):
        for (n, inner), (m, ring) in permutations(first.things, 2):
            if relation(inner, ring) == "inside":
                held += 1
                assert all(dict(o.things).get(n) == inner for o in others)
                assert all(dict(o.things).get(m) == ring for o in others)
    assert held > 0


def test_things_that_are_not_inside_another_never_share_a_place():
    for first, *others in FAMILIES:
        shared = len(first.things) - len({thing.place for _, thing in first.things})
        for each in others:
            places = [thing.place for _, thing in each.things]
            assert len(places) - len(set(places)) == shared


def test_a_thing_in_a_place_is_always_at_the_same_point():
    for family in FAMILIES:
        points = {}
        for number, o in (pair for each in family for pair in each.things):
            points.setdefault((number, o.place), set()).add((o.x, o.y))
        assert all(len(found) == 1 for found in points.values())
