"""Bodies of requests: JSON, or a form with pictures."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from twinlens.serve.refusals import Refusal
from twinlens.serve.schemas import EmbedRequest, SearchRequest

JSON, FORM = "application/json", "multipart/form-data"
ENCODED = "application/x-www-form-urlencoded"
STRUCTURED = ("weights",)  # fields of a form that are JSON themselves


def described(schema: type[BaseModel], file_field: str) -> dict[str, Any]:
    """OpenAPI of a body that is JSON, or a form with pictures beside the same fields.

    Args:
        schema: of the JSON.
        file_field: of the form; in the plural it may come several times.
    """
    plain = schema.model_json_schema()
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    if file_field.endswith("s"):
        file = {"type": "array", "items": file}
    properties = dict(plain["properties"]) | {file_field: file}
    for name in STRUCTURED:
        if name in properties:
            properties[name] = {"type": "string", "contentMediaType": JSON}
    form = {"type": "object", "properties": properties, "additionalProperties": False}
    contents = {JSON: {"schema": plain}, FORM: {"schema": form}}
    return {"requestBody": {"required": True, "content": contents}}


async def read_search(request: Request) -> tuple[SearchRequest, bytes | None]:
    """A query, and the picture that came with it.

    Raises:
        Refusal: neither JSON nor a form, or it does not fit.
    """
    if _media_type(request) == JSON:
        return _validated(SearchRequest, await request.body()), None
    async with request.form() as form:
        files = await _files(form, "image")
        if len(files) > 1:
            raise Refusal(422, f"image came {len(files)} times.", "Send one picture.")
        given = {name: value for name, value in form.items() if name != "image"}
        for name in STRUCTURED:
            if name in given:
                given[name] = _json(name, given[name])
        _refuse_files(given)
        return _validated(SearchRequest, given), files[0] if files else None


async def read_embed(request: Request) -> tuple[list[str], list[bytes]]:
    """Texts and pictures.

    Raises:
        Refusal: neither JSON nor a form, or it does not fit.
    """
    if _media_type(request) == JSON:
        return _validated(EmbedRequest, await request.body()).texts, []
    async with request.form() as form:
        files = await _files(form, "images")
        given: dict[str, Any] = {name: form.getlist(name) for name in form}
        given.pop("images", None)
        return _validated(EmbedRequest, given).texts, files


def invalid(errors: Sequence[dict[str, Any]]) -> Refusal:
    """What does not fit, of pydantic's own list."""
    parts = []
    for each in errors[:5]:
        place = ".".join(str(part) for part in each["loc"][-3:])
        parts.append(f"{place}: {each['msg']}" if place else str(each["msg"]))
    return Refusal(
        422, "; ".join(parts) + ".", "The shape of requests is in /openapi.json."
    )


def _media_type(request: Request) -> str:
    found = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if found not in (JSON, FORM, ENCODED):
        raise Refusal(
            415,
            f"The body is {found[:100]!r}, but {JSON} or {FORM} was expected.",
            "Send a query as JSON, or a form with the picture as `image`.",
        )
    return found


async def _files(form: FormData, name: str) -> list[bytes]:
    found = form.getlist(name)
    texts = [each for each in found if not isinstance(each, UploadFile)]
    if any(texts):
        raise Refusal(
            422,
            f"{name} is a text, but a file was expected.",
            f"Send the picture itself, with curl as -F {name}=@dog.jpg.",
        )
    files = [each for each in found if isinstance(each, UploadFile)]
    return [await each.read() for each in files if each.filename or each.size]


def _refuse_files(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if isinstance(value, UploadFile):
            raise Refusal(
                422, f"{name[:100]} is a file.", "Send the picture as `image`."
            )


def _json(name: str, text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise Refusal(
            422,
            f"{name} is no JSON.",
            'In a form, write it as {"image": 0.3, "title": 0.7}.',
        ) from None


def _validated(schema: type[BaseModel], given: bytes | dict[str, Any]) -> Any:
    try:
        if isinstance(given, bytes):
            return schema.model_validate_json(given)
        return schema.model_validate(given)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False)) from None
