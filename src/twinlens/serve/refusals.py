"""How the service says no: one shape for every error."""

from collections.abc import Mapping

from starlette.responses import JSONResponse


class Refusal(Exception):
    """A request that is not answered, and why.

    Args:
        status: of HTTP.
        error: what was passed and what was expected.
        what_to_do: about it.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        error: str,
        what_to_do: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.status, self.error, self.what_to_do = status, error, what_to_do
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """`{"error": …, "what_to_do": …}`; the second only where there is one."""
        content = {"error": self.error}
        if self.what_to_do:
            content["what_to_do"] = self.what_to_do
        return JSONResponse(content, self.status, self.headers)

    def __str__(self) -> str:
        return f"{self.error} {self.what_to_do}".strip()


def too_large(limit_bytes: int) -> Refusal:
    """A body above the limit."""
    return Refusal(
        413,
        f"The request is larger than {limit_bytes / 1e6:g} MB.",
        "Scale the picture down: the model looks at a few hundred pixels a side.",
    )
