"""List the encoders, or describe one: `python -m src.encoders inception_v3`."""

from twinlens.cli import encoders

if __name__ == "__main__":
    encoders()
