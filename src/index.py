"""Make a collection searchable: `python -m src.index --run scenes-phase1`."""

from twinlens.cli import index

if __name__ == "__main__":
    index()
