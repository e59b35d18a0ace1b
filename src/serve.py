"""Search on a page and over HTTP: `python -m src.serve RUN`."""

from twinlens.cli import serve

if __name__ == "__main__":
    serve()
