"""What every group of settings is made of."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A group of settings. Unknown names are errors, values are checked."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False
    )


def setting(default: Any, description: str, **limits: Any) -> Any:
    """A default with its explanation, which is also its comment in `config.toml`."""
    return Field(default, description=description, **limits)
