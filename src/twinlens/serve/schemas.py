"""What goes in and out over HTTP."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
EMPTY = "It is empty. Say what the picture shows."


class SearchRequest(BaseModel):
    """One query: a text, or an item, or a text beside an item or a picture."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field("", description="What it should show, or what should change.")
    item: str = Field("", description="Id of an item to find similar ones of.")
    k: int | None = Field(None, ge=1, description="Answers; the index's own default.")
    where: str = Field("", description='Filter: category = "Shoes" and year >= 2012')
    text_weight: Share | None = Field(
        None, description="Of the text beside a picture or item."
    )
    weights: dict[str, Weight] | None = Field(
        None, description="Of the index's fields, by name."
    )
    diversity: Share | None = Field(
        None, description="How much likeness to answers above counts against one."
    )

    @field_validator("text")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if text and not text.strip():
            raise ValueError(EMPTY)
        return text

    def settings(self) -> dict[str, Any]:
        """What it says of `SearchSettings`."""
        names = ("k", "text_weight", "weights", "diversity")
        given = {name: getattr(self, name) for name in names}
        return {name: each for name, each in given.items() if each is not None}


class EmbedRequest(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(extra="forbid")

    texts: list[str] = Field(default_factory=list)

    @field_validator("texts")
    @classmethod
    def _all_say_something(cls, texts: list[str]) -> list[str]:
        if not all(text.strip() for text in texts):
            raise ValueError(EMPTY)
        return texts


class Item(BaseModel):
    """One item of the index."""

    id: str
    title: str
    split: str
    attributes: dict[str, Any]
    image: str = Field(description="Address of its picture; ?size=320 for a small one.")


class Answer(Item):
    """An item that was found."""

    rank: int
    score: float
    stages: dict[str, float | None] = Field(description="Scores of the stages.")


class ModelName(BaseModel):
    """Whose vectors they are."""

    name: str
    digest: str


class Answers(BaseModel):
    """What was found, best first."""

    results: list[Answer]
    model: ModelName
    settings: dict[str, Any] = Field(description="With which it was asked.")
    note: str = Field("", description="What the asker should know of it.")


class Embeddings(BaseModel):
    """Unit vectors in the order of what was sent."""

    texts: list[list[float]]
    pictures: list[list[float]]
    model: ModelName


class Health(BaseModel):
    """That it is there, and what it has."""

    status: str
    items: int
    fields: dict[str, int]
    backend: str
    fusion: str
    model: ModelName


class Problem(BaseModel):
    """Every error has this shape."""

    error: str
    what_to_do: str = ""
