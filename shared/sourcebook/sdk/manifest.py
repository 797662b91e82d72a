"""The manifest of a plugin: what it may say, and errors that tell its author what to change."""

import difflib
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from sourcebook.errors import InvalidName, ManifestError
from sourcebook.hub.names import check_name
from sourcebook.hub.schedules.cron import Cron
from sourcebook.logging import hide_secrets
from sourcebook.sdk.manifest_file import read_manifest_file
from sourcebook.sdk.plugins import MANIFEST_NAMES, find_manifest

DATA_URL_SCHEMES = ("http", "https", "ftp", "file", "s3", "git+https")
_SCHEMES_WITH_HOST = ("http", "https", "ftp", "s3", "git+https")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME_MAX = 150
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*\Z")


def _check_reference(value: str) -> str:
    reference = ":".join(part.strip() for part in value.split(":"))
    if not _REFERENCE.match(reference):
        module, _, function = value.rpartition(".")
        hint = f"; did you mean '{module}:{function}'?" if module and ":" not in value else ""
        msg = f"must be 'module:function', a function in a file of the plugin{hint}"
        raise ValueError(msg)
    return reference


def _check_data_url(value: str) -> str:
    url = value.strip()
    if not url or _CONTROL.search(url):
        raise ValueError("must be a URL or a file of the plugin, without line breaks")
    scheme = _SCHEME.match(url)
    if scheme is None:
        return _check_plugin_path(url)
    if scheme[1].lower() not in DATA_URL_SCHEMES:
        near = _near(scheme[1].lower(), DATA_URL_SCHEMES)
        msg = f"has the scheme {scheme[1]!r}; allowed are {', '.join(DATA_URL_SCHEMES)}, or a file of the plugin{near}"
        raise ValueError(msg)
    if scheme[1].lower() in _SCHEMES_WITH_HOST and not urlsplit(url).netloc:
        raise ValueError("names no host")
    return url


def _check_plugin_path(path: str) -> str:
    if path.startswith(("/", "~")):
        msg = f"is an absolute path; write file://{path} for a file of this machine, or a path inside the plugin"
        raise ValueError(msg)
    return path


def _check_file_name(value: str) -> str:
    name = value.strip()
    if (
        not name
        or name.startswith(".")
        or "/" in name
        or "\\" in name
        or _CONTROL.search(name)
        or len(name) > _NAME_MAX
    ):
        msg = f"must be a file name of 1 to {_NAME_MAX} characters, without folders and no '.' in front"
        raise ValueError(msg)
    return name


def _check_header_value(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must be a text without line breaks")
    return value.strip()


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


FunctionReference = Annotated[str, AfterValidator(_check_reference)]
DataUrl = Annotated[str, AfterValidator(_check_data_url)]
FileName = Annotated[str, AfterValidator(_check_file_name)]
HeaderValue = Annotated[str, AfterValidator(_check_header_value)]


class _Section(BaseModel):
    """A section of a manifest. Unknown keys are warned of by `load_manifest`; null means "not given"."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


class DumperManifest(_Section):
    """Where the files of a source come from. A relative `data_url` is a file inside the plugin.

    `file_names` has a name for each `data_url`; `headers` go with each request to an http server that `data_url` names.
    """

    data_url: Annotated[list[DataUrl], BeforeValidator(_one_or_more)] = Field(min_length=1)
    file_names: Annotated[list[FileName] | None, BeforeValidator(_one_or_more)] = None
    headers: dict[str, HeaderValue] = Field(default_factory=dict)
    uncompress: bool = False
    uncompress_into_folders: bool = False
    release: FunctionReference | None = None
    schedule: Cron | None = None
    disabled: bool = False
    class_: str | None = Field(None, alias="class")

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = self.file_names
        if names is not None and len(names) != len(self.data_url):
            raise _wrong("file_names", f"has {len(names)} names for {len(self.data_url)} data_url; give one for each")
        if names is not None and len({name.casefold() for name in names}) != len(names):
            raise _wrong("file_names", "has a name twice; give each file its own")
        return self


class UploaderManifest(_Section):
    """How documents are made of the files. In `Manifest.uploader_list` the `name` is always filled."""

    name: str = ""
    parser: FunctionReference = ""
    parser_kwargs: dict[str, Any] = Field(default_factory=dict)
    on_duplicates: Literal["error", "ignore", "merge"] = "error"
    mapping: FunctionReference | None = None
    parallelizer: FunctionReference | None = None
    keylookup: dict[str, Any] | None = None
    nan: Literal["error", "drop"] = "error"
    merger: Literal["overwrite", "deep"] = "overwrite"
    class_: str | None = Field(None, alias="class")

    @model_validator(mode="after")
    def _has_parser(self) -> Self:
        if not self.parser and self.class_ is None:
            raise _missing("parser")
        return self


class Manifest(_Section):
    """A whole manifest. `name` is the plugin's folder name and names the source."""

    name: str
    version: Any = None
    display_name: str = ""
    biothing_type: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict, alias="__metadata__")
    requires: Annotated[list[str], BeforeValidator(_one_or_more)] = Field(default_factory=list)
    dumper: DumperManifest
    uploader: UploaderManifest | None = None
    uploaders: list[UploaderManifest] = Field(default_factory=list)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.uploader is not None and "uploaders" in self.model_fields_set:
            raise _wrong("uploaders", "cannot be used together with 'uploader'; keep one of them")
        if "uploaders" in self.model_fields_set and not self.uploaders:
            raise _wrong("uploaders", "must have at least one uploader; leave the key out to download only")
        seen: set[str] = set()
        for number, uploader in enumerate(self.uploaders):
            if not uploader.name:
                raise _missing(f"uploaders[{number}].name")
            if uploader.name in seen:
                raise _wrong(
                    f"uploaders[{number}].name", f"{uploader.name!r} is there already; give each uploader its own name"
                )
            seen.add(uploader.name)
        return self

    @property
    def uploader_list(self) -> list[UploaderManifest]:
        """All uploaders, each with its name (the plugin's for the single `uploader`); empty for download only."""
        if self.uploader is not None:
            return [self.uploader.model_copy(update={"name": self.uploader.name or self.name})]
        return list(self.uploaders)


@dataclass(frozen=True, slots=True)
class LoadedManifest:
    """A manifest as read: what it says, what its author should look at, and the file."""

    manifest: Manifest
    warnings: list[str]
    path: Path


def load_manifest(folder: Path) -> LoadedManifest:
    """Read and check the manifest of a plugin folder; the folder's name is the name of the source.

    Raises:
        ManifestError: there is none, it cannot be read, or a value is wrong. The message names file, key, value and
            what is allowed; `details["problems"]` has one sentence for each wrong value.
    """
    path = find_manifest(folder)
    if path is None:
        raise ManifestError(
            f"{folder} has no manifest: put one of {', '.join(MANIFEST_NAMES)} there.", file=str(folder)
        )
    data = read_manifest_file(path)
    warnings = list(_unknown_keys(data, path))
    try:
        name = check_name("source", folder.resolve().name if folder.name in {"", ".."} else folder.name)
        manifest = Manifest.model_validate({**_use_synonyms(data), "name": name})
        for uploader in manifest.uploader_list:
            check_name("uploader", uploader.name)
    except ValidationError as error:
        raise _manifest_error(path, error, data) from error
    except InvalidName as error:
        raise ManifestError(f"{path}: {error.message}", file=str(path), value=error.details["name"]) from error
    _refuse_classes(manifest, path)
    return LoadedManifest(manifest, warnings, path)


def _use_synonyms(data: dict[str, Any]) -> dict[str, Any]:
    metadata = data.get("__metadata__")
    if not isinstance(metadata, dict) or "licence" not in metadata:
        return data
    renamed = {key: value for key, value in metadata.items() if key != "licence"}
    renamed.setdefault("license", metadata["licence"])
    return {**data, "__metadata__": renamed}


def _refuse_classes(manifest: Manifest, path: Path) -> None:
    sections: list[tuple[str, str | None]] = [("dumper", manifest.dumper.class_)]
    if manifest.uploader:
        sections.append(("uploader", manifest.uploader.class_))
    sections += [(f"uploaders[{number}]", uploader.class_) for number, uploader in enumerate(manifest.uploaders)]
    for section, value in sections:
        if value is not None:
            raise ManifestError(
                f"{path}: {section}.class = {value!r}: plugins written as Python classes are not supported yet; "
                "use 'data_url', 'release' and 'parser'.",
                file=str(path),
                key=f"{section}.class",
                value=value,
            )


# Unknown keys


def _known_keys(section: type[BaseModel]) -> list[str]:
    names = [field.alias or name for name, field in section.model_fields.items()]
    return [name for name in names if section is not Manifest or name != "name"]


def _sections(data: dict[str, Any]) -> Iterator[tuple[str, type[BaseModel], dict[str, Any]]]:
    candidates: list[tuple[str, type[BaseModel], Any]] = [
        ("", Manifest, data),
        ("dumper.", DumperManifest, data.get("dumper")),
        ("uploader.", UploaderManifest, data.get("uploader")),
    ]
    uploaders = data.get("uploaders")
    if isinstance(uploaders, list):
        candidates += [(f"uploaders[{number}].", UploaderManifest, item) for number, item in enumerate(uploaders)]
    yield from ((prefix, section, value) for prefix, section, value in candidates if isinstance(value, dict))


def _unknown_keys(data: dict[str, Any], path: Path) -> Iterator[str]:
    for prefix, section, value in _sections(data):
        known = _known_keys(section)
        for key in value:
            if key not in known:
                yield f"{path}: unknown key '{prefix}{key}' is ignored{_near(key, known)}"


# Errors


def _missing(key: str) -> PydanticCustomError:
    return PydanticCustomError("missing", "is missing", {"key": key})


def _wrong(key: str, problem: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{problem}", {"key": key, "problem": problem})


def _near(word: str, known: tuple[str, ...] | list[str]) -> str:
    found = difflib.get_close_matches(word, known, 1)
    return f"; did you mean '{found[0]}'?" if found else ""


_ALLOWED = {
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "list_type": "must be a list",
    "too_short": "must not be empty",
}


def _manifest_error(path: Path, error: ValidationError, data: dict[str, Any]) -> ManifestError:
    problems = [_explain(item, data) for item in error.errors(include_url=False)]
    key, value, allowed = problems[0]
    sentences = [f"{k}{'' if v is None else ' = ' + v}: {why}" for k, v, why in problems]
    text = "; ".join(sentences)
    message = f"{path}: {text}" if text.endswith("?") else f"{path}: {text}."
    return ManifestError(message, file=str(path), key=key, value=value, allowed=allowed, problems=sentences)


def _explain(item: ErrorDetails, data: dict[str, Any]) -> tuple[str, str | None, str]:
    """Return key, shown value (None when it is missing) and what is allowed."""
    context = item.get("ctx", {})
    key = _key_path((*item["loc"], context["key"]) if "key" in context else item["loc"])
    if item["type"] == "missing":
        return _explain_missing(key, data)
    shown = "..." if key.startswith("dumper.headers") else reprlib.repr(item["input"])
    value = hide_secrets(shown)
    if item["type"] == "literal_error":
        return key, value, f"must be {context['expected']}{_near_literal(key, item['input'])}"
    if item["type"] == "value_error":
        return key, value, str(context["error"])
    if item["type"] == "wrong":
        return key, None, str(context["problem"])
    return key, value, _ALLOWED.get(item["type"], item["msg"])


def _explain_missing(key: str, data: dict[str, Any]) -> tuple[str, None, str]:
    """A key that is missing may be there misspelt: then its author wants to know what is wrong with what is there."""
    parent, dot, name = key.rpartition(".")
    found = difflib.get_close_matches(name, _unknown_beside(key, data), 1)
    if not found:
        return key, None, "is missing"
    return f"{parent}{dot}{found[0]}", None, f"is an unknown key; did you mean '{name}'?"


def _key_path(location: tuple[int | str, ...]) -> str:
    """Return a dotted and indexed path.

    >>> _key_path(("uploaders", 1, "name"))
    'uploaders[1].name'
    """
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".")


def _unknown_beside(key: str, data: dict[str, Any]) -> list[str]:
    parent = key.rpartition(".")[0]
    for prefix, section, value in _sections(data):
        if prefix.rstrip(".") == parent:
            return [name for name in value if name not in _known_keys(section)]
    return []


def _near_literal(key: str, value: Any) -> str:
    field = UploaderManifest.model_fields.get(key.rpartition(".")[2])
    return _near(value, list(get_args(field.annotation))) if field and isinstance(value, str) else ""
