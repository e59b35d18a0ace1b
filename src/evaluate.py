"""Measure a run, or compare two: `python -m src.evaluate RUN [OTHER_RUN]`."""

from twinlens.cli import evaluate

if __name__ == "__main__":
    evaluate()
