"""The HTTP API: addresses, what they take, how errors look."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated
from urllib.parse import unquote

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from twinlens.errors import InputError
from twinlens.serve import forms
from twinlens.serve.gate import Gate
from twinlens.serve.refusals import Refusal
from twinlens.serve.schemas import (
    Answers,
    Embeddings,
    Health,
    Item,
    Problem,
    SearchRequest,
)
from twinlens.serve.service import Service

PROBLEMS = {
    code: {"model": Problem, "description": description}
    for code, description in {
        400: "What was asked does not fit the index.",
        413: "Too many bytes.",
        415: "Neither JSON nor a form.",
        422: "A value that cannot be, or above a limit.",
        503: "Too many requests at a time; see Retry-After.",
        504: "No answer in time.",
    }.items()
}
NOT_FOUND = {404: {"model": Problem, "description": "There is no such item."}}
PICTURES = {200: {"content": {"image/*": {}}, "description": "The picture."}}
KEEP_SECONDS = 3600  # browsers need not ask again for so long


def build_app(service: Service) -> FastAPI:
    """The service as an application of ASGI, without the search page."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.watch()
        yield
        service.close()

    app = FastAPI(
        title="twinlens",
        version=version("twinlens"),
        description="Search pictures by text, by picture, by both, or by item.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=life,
    )
    app.add_middleware(Gate, limits=service.limits, metrics=service.metrics)
    _add_errors(app, service)
    _add_search(app, service)
    _add_items(app, service)
    _add_state(app, service)
    return app


def _add_search(app: FastAPI, service: Service) -> None:
    @app.post(
        "/search",
        response_model=Answers,
        responses=PROBLEMS,
        openapi_extra=forms.described(SearchRequest, "image"),
    )
    async def search(request: Request) -> Response:
        """Finds items by a text, a picture, both, or an item; JSON or a form."""
        asked, picture = await forms.read_search(request)
        return JSONResponse(await service.search(asked, picture))

    @app.post(
        "/embed",
        response_model=Embeddings,
        responses=PROBLEMS,
        openapi_extra=forms.described(forms.EmbedRequest, "images"),
    )
    async def embed(request: Request) -> Response:
        """Unit vectors of texts (JSON or a form) and of pictures (a form)."""
        texts, pictures = await forms.read_embed(request)
        found = await service.embed(texts, pictures)
        content = {"texts": found.texts.tolist(), "pictures": found.pictures.tolist()}
        return JSONResponse(content | {"model": service.model_name})


def _add_items(app: FastAPI, service: Service) -> None:
    quoted = "An id; slashes in it are best quoted (%2F)."

    @app.get(
        "/items/{id:path}/similar",
        response_model=Answers,
        responses=PROBLEMS | NOT_FOUND,
        description=f"Items that are like one. {quoted}",
    )
    async def similar(
        id: str, k: Annotated[int | None, Query(ge=1)] = None, where: str = ""
    ) -> Response:
        asked = SearchRequest(item=unquote(id), k=k, where=where)
        return JSONResponse(await service.search(asked))

    @app.get(
        "/items/{id:path}/image",
        response_class=Response,
        responses=PROBLEMS | NOT_FOUND | PICTURES,
        description=f"An item's picture; with `size` a small one. {quoted}",
    )
    async def image(
        id: str, size: Annotated[int, Query(ge=0, le=1024)] = 0
    ) -> Response:
        contents, media_type = await service.picture(unquote(id), size)
        headers = {
            "Cache-Control": f"private, max-age={KEEP_SECONDS}",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(contents, media_type=media_type, headers=headers)

    @app.get(
        "/items/{id:path}",
        response_model=Item,
        responses=PROBLEMS | NOT_FOUND,
        description=f"One item: title, split and attributes. {quoted}",
    )
    async def item(id: str) -> Response:
        return JSONResponse(service.item(unquote(id)))


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health", response_model=Health)
    async def health() -> Response:
        """Whether it answers, and what it has."""
        vectors = service.index.vectors
        return JSONResponse(
            {
                "status": "ok",
                "items": len(service.index),
                "fields": vectors.info["fields"],
                "backend": vectors.settings.backend,
                "fusion": service.model.fusion,
                "model": service.model_name,
            }
        )

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        contents, media_type = await asyncio.to_thread(service.metrics.text)
        return Response(contents, media_type=media_type)


def _add_errors(app: FastAPI, service: Service) -> None:
    folder = service.index.vectors.folder

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return error.response()

    @app.exception_handler(InputError)
    async def wrong_input(_: Request, error: InputError) -> Response:
        return Refusal(400, str(error).replace(str(folder), folder.name)).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return forms.invalid(error.errors()).response()

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Refusal(400, "The request ended before its body did.").response()

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        return http_refusal(request, error).response()


def http_refusal(request: Request, error: HTTPException) -> Refusal:
    """An error of the framework in the shape of ours."""
    what_to_do = "The addresses are in /openapi.json."
    said = {
        404: f"There is nothing at {request.url.path[:200]!r}.",
        405: f"{request.url.path[:200]!r} does not take {request.method}.",
    }
    if error.status_code not in said:
        return Refusal(error.status_code, str(error.detail), "", error.headers)
    return Refusal(
        error.status_code, said[error.status_code], what_to_do, error.headers
    )
