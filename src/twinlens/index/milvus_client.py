"""The way to Milvus: a cluster at an address, or Milvus Lite in this process."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twinlens.errors import InputError

LOCAL = "milvus.db"  # where Milvus Lite keeps everything
SECONDS = 60  # for one request
TOKEN = "MILVUS_TOKEN"  # noqa: S105
MISSING = 'index.backend is "milvus": pip install "twinlens[milvus]".'


class Connection:
    """Opened when first used, and again after `close`.

    Args:
        address: `http://host:19530`; empty for Milvus Lite.
        folder: of the index, where Milvus Lite keeps its files.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.folder = address, folder
        self._client, self._uri = None, ""

    @property
    def place(self) -> str:
        """Where Milvus is, for messages."""
        return self.address or str(self.folder / LOCAL)

    @contextlib.contextmanager
    def asking(self, what: str) -> Iterator[Any]:
        """The client, whose errors become words.

        Args:
            what: it is asked to do.

        Raises:
            InputError: Milvus cannot be reached or refuses, or is not installed.
        """
        milvus = open_milvus()
        try:
            yield self._connected(milvus)
        except milvus.MilvusException as error:
            raise InputError(
                f"Milvus at {self.place} does not {what} ({error.message}). Check "
                f"that it runs and that index.address and {TOKEN} are right."
            ) from None

    def close(self) -> None:
        """Ends the connection, and Milvus Lite with it."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if not self.address:
            _lite().release_server(str(self.folder / LOCAL))

    def _connected(self, milvus):
        uri = self.address or self._local()
        if self._client is None or uri != self._uri:
            _check(self.address)
            token = os.environ.get(TOKEN, "") if self.address else ""
            options = {"timeout": SECONDS, "dedicated": True}
            self._client = milvus.MilvusClient(uri, token=token, **options)
            self._uri = uri
        return self._client

    def _local(self) -> str:
        """Address of this process's Milvus Lite, which is started if need be."""
        uri = _lite().start_and_get_uri(str(self.folder / LOCAL))
        if uri is None:
            raise InputError(
                f"{self.place} cannot be opened: another process has it open, or it "
                "is damaged. Milvus Lite serves one process; end the other one, or "
                "build the index anew with index.address of a cluster."
            )
        return uri


def open_milvus():
    """The module `pymilvus`, without its log lines.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pymilvus
    except ModuleNotFoundError:
        raise InputError(MISSING) from None
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return pymilvus


def _lite():
    """What runs Milvus Lite in this process."""
    for name in ("milvus_lite", "grpc._server"):  # they report what Lite lacks
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        from milvus_lite.server_manager import server_manager_instance
    except ModuleNotFoundError:
        raise InputError(MISSING) from None
    return server_manager_instance


def _check(address: str) -> None:
    """Refuses an address that is none, or has a password in it."""
    if "@" in address:
        raise InputError(
            "index.address has a user or password in it, which would be written into "
            f"the index. Put user:password into the variable {TOKEN} instead."
        )
    if address and "://" not in address:
        raise InputError(
            f"index.address is {address!r}. Write it as http://host:19530, or leave it "
            "empty for a file inside the index."
        )
