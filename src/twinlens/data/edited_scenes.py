"""The built-in data set of edited scenes: a picture and a wish give another picture.

Pictures come in families: a scene, and others that are a change or two away from it.
The pictures are drawn on first use. Everything depends on `seed` alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from random import Random

import pandas as pd

from twinlens.data.drawing_folder import DrawingFolder, Plan, picture_file
from twinlens.data.readers.source import NUMBER, PLACE
from twinlens.data.readers.triplet_source import TripletSource
from twinlens.data.scene_edits import MOST_CHANGES, Version, changes, sample_family
from twinlens.data.scene_wishes import wish
from twinlens.data.splits import SPLITS
from twinlens.errors import InputError

PICTURES, TRIPLETS = "pictures.csv", "triplets.csv"
RULE = "one sentence"
MOST_FAMILIES, MOST_SCENES = 1000, 100  # for which names have room: test_003_17


@dataclass(frozen=True)
class Families:
    """How many families a split has.

    Args:
        count: families, 1 to 1,000.
        scenes: pictures of each, 2 to 100.
        triplets: of each, 1 or more; fewer where a family does not give so many.
        from_first: whether only the first scene of a family is a reference. All others
            are a change or two away from it, so that its own picture says nothing
            about which of them is meant.
    """

    count: int
    scenes: int
    triplets: int
    from_first: bool = False


FAMILIES = {
    # Each picture of sixteen is reference and target of several triplets, so that what
    # tells them apart has to be learnt: 24,000 triplets of 9,600 pictures.
    "train": Families(600, 16, 40),
    # Ten answers hold a quarter of the neighbours of a reference, so that a picture that
    # comes near, without the wish, is not enough.
    "val": Families(20, 40, 10, from_first=True),
    "test": Families(60, 40, 10, from_first=True),
}


@dataclass(frozen=True)
class Drawing:
    """What decides every file of the data set."""

    families: Mapping[str, Families]
    image_size: int
    seed: int
    version: int = 2  # raise it when scenes, wishes or pictures change


def read_edited_scenes(
    path: str | Path,
    image_size: int = 96,
    seed: int = 0,
    families: Mapping[str, Families] = FAMILIES,
) -> TripletSource:
    """The triplets of the edited scenes.

    The first call draws the pictures into `path`, about twenty seconds for 12,800;
    after an interruption the next call draws what is missing. With other arguments
    than before they are drawn anew.

    Args:
        path: folder of the data set; made if it is not there.
        image_size: pixels a side.
        seed: other scenes for another seed.
        families: split → how many, for each of `SPLITS`.

    Returns:
        Triplets with the attributes `family`, `changes` (1 or 2) and `kind` (of the
        changes: `"colour+remove"`); the gallery `"all"` has every picture of a split.

    Raises:
        InputError: the folder holds files that are not this data set's, or a
            number is too small or too large.
    """
    path, drawing = Path(path), Drawing(dict(families), image_size, seed)
    _check(drawing.families)
    picture = rf"({'|'.join(SPLITS)})_\d{{3}}_\d{{2}}"
    folder = DrawingFolder(path, "edited scenes", picture, (PICTURES, TRIPLETS))
    folder.fill(drawing, lambda: plan(drawing))
    pictures, rows = _read(path / PICTURES), _read(path / TRIPLETS)
    pictures["image_path"] = [str(path / file) for file in pictures["image_path"]]
    return TripletSource(
        rows.astype({"changes": "Int64"}),
        pictures,
        RULE,
        keeps_reference=True,
        galleries={"all": pictures[["image_id", "split"]]},
    )


def plan(drawing: Drawing) -> Plan:
    """All pictures and triplets, undrawn.

    No two pictures look alike, of one family or of two. Families of test are made up
    first: so they stay as they are where there are fewer or more of the others.
    """
    scenes, pictures, triplets, taken = {}, [], [], set()
    for split in reversed(SPLITS):
        size = drawing.families[split]
        for number in range(size.count):
            random = Random(f"{drawing.seed} {split} {number}")
            family = _new_family(random, size.scenes, taken)
            name = f"{split}_{number:03d}"
            members = {f"{name}_{place:02d}": v for place, v in enumerate(family)}
            for image_id, version in members.items():
                scenes[image_id] = version.scene(random.randrange(2**31))
                pictures.append((image_id, picture_file(image_id), split))
            found = _triplets(members, size, random)
            triplets += [(*triplet, split, name) for triplet in found]
    names = ["reference_id", "target_id", "wish", "changes", "kind", "split", "family"]
    tables = {
        PICTURES: pd.DataFrame(pictures, columns=["image_id", "image_path", "split"]),
        TRIPLETS: pd.DataFrame(triplets, columns=names),
    }
    return Plan(scenes, tables)


def _new_family(random: Random, size: int, taken: set[tuple]) -> list[Version]:
    """A family of which no scene looks like one that is taken; takes its own."""
    while True:
        family = sample_family(random, size)
        looks = {version.scene().description for version in family}
        if taken.isdisjoint(looks):
            taken |= looks
            return family


def _triplets(
    members: Mapping[str, Version], size: Families, random: Random
) -> list[tuple[str, str, str, int, str]]:
    """Reference, target, wish, number and kind of the changes: some, by chance."""
    first = next(iter(members))
    pairs = [
        pair
        for pair in permutations(members, 2)
        if not size.from_first or pair[0] == first
    ]
    random.shuffle(pairs)
    found: list[tuple[str, str, str, int, str]] = []
    for reference, target in _alternating(pairs, members):
        if len(found) == size.triplets:
            break
        done = changes(members[reference], members[target])
        text = wish(members[reference], members[target], random)
        if text:
            kind = "+".join(sorted(change.kind for change in done))
            found.append((reference, target, text, len(done), kind))
    return found


def _alternating(
    pairs: Iterable[tuple[str, str]], members: Mapping[str, Version]
) -> list[tuple[str, str]]:
    """Pairs with one change, two changes, one change … as long as there are some.

    A wish for one change leaves open most of what the target looks like, one for two
    changes less; without this, five in six would be for two.
    """
    of_size: dict[int, list] = {size: [] for size in range(1, MOST_CHANGES + 1)}
    for reference, target in pairs:
        size = len(changes(members[reference], members[target]))
        if size <= MOST_CHANGES:
            of_size[size].append((reference, target))
    places = [(n, size) for size, each in of_size.items() for n in range(len(each))]
    return [of_size[size][n] for n, size in sorted(places)]


def _check(families: Mapping[str, Families]) -> None:
    if set(families) != set(SPLITS):
        raise InputError(
            f"There are families of {', '.join(families) or 'no split'}; expected "
            f"those of {', '.join(SPLITS)}."
        )
    for split, size in families.items():
        valid = 1 <= size.count <= MOST_FAMILIES and 2 <= size.scenes <= MOST_SCENES
        if not valid or size.triplets < 1:
            raise InputError(
                f"The {split} split has {size.count} families of {size.scenes} scenes "
                f"with {size.triplets} triplets each; expected 1 to {MOST_FAMILIES} "
                f"families of 2 to {MOST_SCENES} scenes with 1 triplet or more."
            )


def _read(file: Path) -> pd.DataFrame:
    rows = pd.read_csv(file)
    numbers = range(2, len(rows) + 2)  # the header is row 1
    return rows.assign(**{PLACE: f"{file.name}, row", NUMBER: numbers})
