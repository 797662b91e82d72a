"""How a state store writes a record, with the version of its kind, and reads one whatever version wrote it."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from sourcebook.errors import RecordTooNew
from sourcebook.hub.sources.model import Dump, Upload

RecordT = TypeVar("RecordT", bound=BaseModel)
Fields = dict[str, Any]


def _name_version(fields: Fields) -> Fields:
    return {"version" if name == "release" else name: value for name, value in fields.items()}


# What leads from each version of a kind to the next, by kind; a kind without steps is at its version 1. A field that a default
# fills wants no step. A step must leave the fields of INDEXES as they are: records are found by them before they are read.
MIGRATIONS: dict[type[BaseModel], tuple[Callable[[Fields], Fields], ...]] = {
    Dump: (_name_version,),  # 0.1 called the version of a source its release
    Upload: (_name_version,),
}
_VERSION_HEAD = re.compile(r'\{"_version":(\d+),')


def encode_record(record: BaseModel) -> str:
    """Return a record as JSON; from the second version of its kind on, its first key is `_version`."""
    text, version = record.model_dump_json(by_alias=True), _current_version(type(record))
    return text if version == 1 else f'{{"_version":{version},{text[1:]}'


def decode_record(kind: type[RecordT], text: str) -> RecordT:
    """Return a record; one of an earlier version is migrated, and written so when it is written next.

    Raises:
        RecordTooNew: a newer version of Sourcebook wrote it.
    """
    head, current = _VERSION_HEAD.match(text), _current_version(kind)
    version = int(head[1]) if head else 1
    if version > current:
        raise RecordTooNew(
            f"A newer version of Sourcebook wrote a record of the kind {kind.__name__} (version {version} of that kind; this "
            f"program reads up to {current}). Use that version again, or restore the state from before the upgrade.",
            kind=kind.__name__,
            version=version,
            readable=current,
        )
    text = f"{{{text[head.end() :]}" if head else text
    if version < current:
        fields = orjson.loads(text)
        for migrate in MIGRATIONS[kind][version - 1 :]:
            fields = migrate(fields)
        return kind.model_validate_json(orjson.dumps(fields))
    return kind.model_validate_json(text)


def _current_version(kind: type[BaseModel]) -> int:
    return len(MIGRATIONS.get(kind, ())) + 1
