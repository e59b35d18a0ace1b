"""Find items: `python -m src.search scenes-phase1 "a red disc"`."""

from twinlens.cli import search

if __name__ == "__main__":
    search()
