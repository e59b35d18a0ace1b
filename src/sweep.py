"""Train every combination of some settings: `python -m src.sweep FILE`."""

from twinlens.cli import sweep

if __name__ == "__main__":
    sweep()
