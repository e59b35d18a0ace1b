"""What one client may ask of the service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Upper ends, so that no request takes the service away from the others.

    Pictures have at most `data.images.MAX_PIXELS` pixels besides, read from the header
    before they are decoded.

    Attributes:
        upload_bytes: of a request's body.
        text_length: letters of a query; text encoders read 64 tokens or so.
        filter_length: letters of a filter.
        k: answers.
        texts: of one request for embeddings.
        pictures: of one request for embeddings.
        in_flight: requests at a time; more are told to come back.
        timeout_seconds: for a request, its upload and its turn to be encoded.
        batch: texts encoded in one forward pass.
    """

    upload_bytes: int = 20_000_000
    text_length: int = 1000
    filter_length: int = 1000
    k: int = 100
    texts: int = 64
    pictures: int = 8
    in_flight: int = 256
    timeout_seconds: float = 30.0
    batch: int = 64
