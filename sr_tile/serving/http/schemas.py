"""What the OpenAPI document says beyond the routes' own signatures; models of the answers."""

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field

from sr_tile import __version__
from sr_tile.images.formats import FILES
from sr_tile.models import zoo
from sr_tile.serving.http.http_errors import MEANINGS
from sr_tile.serving.http.model_pool import ModelPool, received
from sr_tile.serving.http.options import FormatName, Options

ABOUT = (
    "Restores or enlarges images. Tiles of all requests share batches; the bytes of a result are those that "
    "`sr-tile enhance` writes."
)


class Error(BaseModel):
    code: str = Field(description="For programs; does not change.")
    message: str = Field(description="For people, one line.")


class Problem(BaseModel):
    """Every answer that is not a success."""

    error: Error


class ReadyModel(BaseModel):
    name: str
    device: str


class Ready(BaseModel):
    status: Literal["ready"] = "ready"
    models: list[ReadyModel]


class ServedModel(BaseModel):
    name: str
    default: bool
    purpose: str | None = Field(description="What it is for; None where that is not known.")
    scale: int = Field(description="Output pixels per input pixel, in each direction.")
    channels: int
    device: str
    tile: tuple[int, int] = Field(description="Height and width of the largest tile.")
    overlap: int
    details: dict[str, Any] = Field(description="What the model's file says: architecture, licence, training.")


class ServedLimits(BaseModel):
    bytes: int
    pixels: int
    side: int
    tile: int
    files: int
    per_client: int
    keep_seconds: float = Field(description="That the result of a job is kept after it was last asked for.")


class Models(BaseModel):
    version: str
    models: list[ServedModel]
    limits: ServedLimits
    formats: list[FormatName] = Field(description="Of results.")
    received: dict[str, list[str]] = Field(description="Formats of uploads, with their suffixes.")


class Result(BaseModel):
    format: FormatName
    before: tuple[int, int] = Field(description="Height and width.")
    after: tuple[int, int]
    bytes: int
    seconds: float


class View(BaseModel):
    """A pyramid of tiles; the last level is the image itself, each before it half as large."""

    width: int
    height: int
    levels: int
    tile: int
    suffix: Literal["jpg", "png"]


class Job(BaseModel):
    id: str
    name: str
    state: Literal["waiting", "running", "done", "failed"]
    tiles: int
    tiles_done: int
    error: Error | None
    result: Result | None
    view: dict[Literal["before", "after"], View] | None
    view_failed: bool


def describe(pool: ModelPool) -> Models:
    """The models of a pool, and its limits."""
    served = [
        ServedModel(
            name=name,
            default=name == pool.models.default,
            purpose=zoo.purpose_of(name, model.engine.spec.details),
            scale=model.scale,
            channels=model.engine.spec.channels,
            device=model.engine.device,
            tile=model.plan.tile,
            overlap=model.plan.overlap,
            details={key: value for key, value in model.engine.spec.details.items() if isinstance(value, str)},
        )
        for name, model in pool.models.items()
    ]
    limits = ServedLimits(**{name: getattr(pool.limits, name) for name in ServedLimits.model_fields})
    kinds = {name: list(suffixes) for name, suffixes in received().items()}
    return Models(version=__version__, models=served, limits=limits, formats=list(FILES), received=kinds)


_BINARY = {"schema": {"type": "string", "format": "binary"}}
IMAGES: dict[str, Any] = {f"image/{name}": _BINARY for name in FILES}
TIMING = {
    "Server-Timing": {
        "description": "Milliseconds at work of decode, tile, infer, blend and encode, and in all.",
        "schema": {"type": "string"},
    }
}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route."""
    return {status: {"model": Problem, "description": MEANINGS[status]} for status in statuses}


def _form(files: dict[str, Any]) -> dict[str, Any]:
    options = Options.model_json_schema()["properties"]
    return {"schema": {"type": "object", "properties": {**files, **options}, "required": list(files)}}


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": _BINARY,
            **IMAGES,
            "multipart/form-data": _form({"image": {"type": "string", "format": "binary"}}),
        },
    }
}
BATCH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": _form(
                {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}}
            ),
        },
    }
}


def complete(app: FastAPI, token: str | None) -> None:
    """Say in the document whether a token is needed, and take out what FastAPI assumes of errors."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        for methods in document["paths"].values():
            for (
                method
            ) in methods.values():  # FastAPI adds it to each route with a parameter, even one that any text fits
                if "HTTPValidationError" in str(method["responses"].get("422")):
                    del method["responses"]["422"]
        if token is not None:
            schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["token"] = {"type": "http", "scheme": "bearer"}
            for path, methods in document["paths"].items():
                for method in methods.values():
                    method["security"] = [] if path in ("/healthz", "/readyz") else [{"token": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
