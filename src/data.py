"""Read and check a data set: `python -m src.data flickr8k data/flickr8k`."""

from twinlens.cli import data

if __name__ == "__main__":
    data()
