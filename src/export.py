"""Export a run: `python -m src.export scenes-phase1 --out models/scenes`."""

from twinlens.cli import export

if __name__ == "__main__":
    export()
