"""Who asks for something."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator


class Caller(BaseModel):
    """Who asks: a person at the command line, a client of the hub, a schedule.

    Records, answers and log lines have it as text, `kind` or `kind:name`. Kinds are open: a record of a newer version is
    read by an older one.

    >>> str(Caller(kind="cli", name="ada"))
    'cli:ada'
    >>> Caller.model_validate("schedule:dump:genes")
    Caller(kind='schedule', name='dump:genes')
    """

    model_config = ConfigDict(frozen=True)

    kind: str = Field(pattern="^[a-z]+$")
    name: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        kind, _, name = value.partition(":")
        return {"kind": kind, "name": name}

    @model_serializer
    def _write(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


ANONYMOUS = Caller(kind="anonymous")
"""A client of a hub that has no accounts."""
SYSTEM = Caller(kind="system")
"""Sourcebook itself: a worker between two jobs."""
UNKNOWN = Caller(kind="unknown")
"""The caller of records that were written before callers were recorded."""
