"""Fashion Product Images: `styles.csv`, and `images/<id>.jpg`.

Source: https://www.kaggle.com/datasets/paramaggarwal/fashion-product-images-dataset.
"""

import os
from pathlib import Path

import pandas as pd

from twinlens.data.readers.guess import is_image
from twinlens.data.readers.source import (
    MALFORMED,
    NUMBER,
    PLACE,
    Problem,
    ReaderOptions,
    Source,
    rows_below,
)

COLUMNS = (
    "id",
    "gender",
    "masterCategory",
    "subCategory",
    "articleType",
    "baseColour",
    "season",
    "year",
    "usage",
    "productDisplayName",
)
MISSING = "NA"  # as published, beside cells that are empty
KEPT = "unquoted comma in the name, row kept"
WRONG_YEAR = "year that is no whole number, row kept without it"


def fashion(path: Path, options: ReaderOptions) -> Source:
    """Reads products, each with one picture and its display name as the caption.

    Args:
        path: the root folder, or the csv file.
        options: `images`: the picture folder. `captions`: the csv file.

    Returns:
        Rows whose id is the product's, with every other column as an attribute;
        `year` is a nullable integer. Cells that say `NA` are empty. Names that hold
        commas without quotation marks, as some of the published ones do, are whole.
    """
    options.accept("fashion", "images", "captions")
    file = options.captions_file(path, ["styles.csv"], "fashion")
    folder = options.image_folder(path if path.is_dir() else file.parent, ["images"])
    cells, problems = _cells(file)
    place = f"{file.name}, row"
    years = cells["year"].str.extract(r"^(\d{1,4})(?:\.0)?$", expand=False)
    for row in cells[years.isna() & (cells["year"] != "")].itertuples():
        problems.append(Problem(WRONG_YEAR, f"{place} {row.number}", repr(row.year)))
    names = {"id": "image_id", "productDisplayName": "caption", "number": NUMBER}
    prefix = os.path.join(folder, "")
    rows = cells.rename(columns=names).assign(
        image_path=prefix + cells["id"] + ".jpg",
        year=pd.to_numeric(years).astype("Int64"),
        **{PLACE: place},
    )
    # In byte order, because a folder's own order differs between machines.
    files = sorted(name for name in os.listdir(folder) if is_image(name))
    pictures = {os.path.splitext(name)[0]: f"folder {folder}" for name in files}
    return Source(rows, problems, pictures)


def _cells(file: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """The file's cells as text, and `number`: the row each stands in."""
    last = len(COLUMNS) - 1
    rows, problems = [], []
    for number, row in rows_below(file, COLUMNS, "fashion"):
        where = f"{file.name}, row {number}"
        cells = [cell.strip() for cell in (*row[:last], ",".join(row[last:]))]
        if len(row) < len(COLUMNS) or not cells[0]:
            detail = f"{len(row)} cells of {len(COLUMNS)}, id {cells[0]!r}"
            problems.append(Problem(MALFORMED, where, detail))
            continue
        if len(row) > len(COLUMNS):
            problems.append(Problem(KEPT, where, cells[last]))
        rows.append((*("" if cell == MISSING else cell for cell in cells), number))
    return pd.DataFrame(rows, columns=[*COLUMNS, "number"], dtype=object), problems
