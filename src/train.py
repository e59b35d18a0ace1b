"""Train the dual encoder: `python -m src.train --phase 1`."""

from twinlens.cli import train

if __name__ == "__main__":
    train()
