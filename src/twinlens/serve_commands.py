"""What `serve` does and prints; `cli_serve` only reads its arguments."""

import contextlib
import importlib.util
import socket
import time
import warnings

from twinlens.errors import InputError
from twinlens.quiet import import_tensorflow

NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "nicegui")
WAITING = 2048  # connections that the system keeps until they are taken


def serve_index(index: str, run: str, host: str, port: int, ratings: str = "") -> None:
    """Serves an index until it is interrupted.

    Raises:
        InputError: the port is taken, the extra or the index is missing, or the index
            is of another model.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'Serving needs {missing[0]}: pip install "twinlens[serve]".')
    with open_port(host, port) as listening:
        _serve(index, run, listening, ratings)


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens, taken before the model is loaded.

    Raises:
        InputError: another program has the port, or the host is not this machine's.
    """
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=kind, backlog=WAITING)
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be served ({error.strerror or error}). Another "
            "program may have the port: name a free one with --port, and with --host "
            "an address of this machine."
        ) from None


def _serve(index: str, run: str, listening: socket.socket, ratings: str) -> None:
    start = time.monotonic()
    import_tensorflow(lean=True)
    import uvicorn

    # Clients are told in their answer (`Service.search`).
    warnings.filterwarnings("ignore", "The query has", UserWarning)
    from twinlens.progress import duration
    from twinlens.ratings import RatingFile
    from twinlens.search import SearchIndex
    from twinlens.serve import Service, build_app
    from twinlens.serve.page import add_page
    from twinlens.tables import say

    opened = SearchIndex.load(index, run)
    say(f"{opened.vectors.folder}: {len(opened):,} items; opening {opened.run} …")
    service = Service(opened)
    rated = RatingFile(ratings or opened.vectors.folder / "ratings.sqlite")
    service.warm_up()
    app = build_app(service)
    add_page(app, service, rated)
    host, port = listening.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host  # of IPv6
    say(f"Ready after {duration(time.monotonic() - start)}: http://{host}:{port}")
    config = uvicorn.Config(app, log_level="warning")
    with contextlib.suppress(KeyboardInterrupt):  # or it just returns
        uvicorn.Server(config).run(sockets=[listening])
    say("Stopped.")
