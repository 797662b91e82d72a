"""Every setting, its default and its meaning; the only reader of the environment."""

import difflib
import hashlib
import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from sourcebook.errors import SettingsError

MIB = 1024 * 1024
_MAX_SOCKET_PATH = 100
RENAMED = {"catalog_url": "state_url"}  # settings of earlier versions -> their names today


class Settings(BaseSettings):
    """All settings; each is read from the environment variable `SOURCEBOOK_<NAME>`. Defaults work with none set."""

    model_config = SettingsConfigDict(env_prefix="SOURCEBOOK_", extra="forbid", frozen=True)

    home: Path = Field(Path(".sourcebook"), description="Folder that holds everything the embedded engines store.")
    broker_url: str = Field("", description="Redis or Valkey URL for Celery; empty: the bundled Valkey under HOME.")
    documents_url: str = Field("lmdb:", description="Document store: `lmdb:` (under HOME) or `mongodb://...`.")
    state_url: str = Field("sqlite:", description="State of the hub: `sqlite:` (under HOME) or `mongodb://...`.")
    locks_url: str = Field(
        "",
        description="Locks: `sqlite:`, `redis://...` or `rediss://...`; empty: next to a SQLite state, otherwise in the broker's "
        "Redis.",
    )
    search_url: str = Field(
        "tantivy:", description="Search engine: `tantivy:` (under HOME) or `opensearch+http(s)://...`."
    )
    files_url: str = Field("file:", description="Downloaded files: `file:` (under HOME) or `s3://...`.")
    secrets: str = Field(
        "",
        description="Folder with a file for each setting that is a secret, such as `sourcebook_documents_url`; a file wins over "
        "the environment.",
    )
    plugins: str = Field("", description="Plugin folders found at start, separated by colons.")
    plugin_variables: str = Field(
        "",
        description="Further environment variables for plugins, beyond `PATH`, `HOME`, `LANG` and the like; separated by commas.",
    )
    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    hub_names: str = Field(
        "",
        description="Names by which the hub may be called in addition to its address, say behind a proxy; separated by commas.",
    )
    port: int = Field(8000, ge=1, le=65535, description="Port the gateway listens on.")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of a worker's `/metrics` and `/health`; 0: none. `up` counts on from it."
    )
    metrics_host: str = Field("127.0.0.1", description="Address on which a worker answers on that port.")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_json: bool = Field(default=False, description="Write log lines as JSON objects.")
    auto_commit_mapping: bool = Field(
        default=True,
        description="Commit the inferred mapping at every upload, unless a person edited the committed one.",
    )
    batch_documents: int = Field(2000, ge=1, le=100_000, description="Documents that move together through a stage.")
    run_bytes: int = Field(
        32 * MIB, ge=1024, description="Bytes of parsed documents that are sorted in memory at a time."
    )
    parser_memory_bytes: int = Field(4096 * MIB, ge=64 * MIB, description="Memory limit of a parser process.")
    parts: int = Field(
        1, ge=1, le=64, description="Parts in which an upload with a parallelizer, or a large build, is done; 1: whole."
    )
    part_documents: int = Field(
        100_000, ge=1, description="A part of a build reads at least so many documents; smaller builds are done whole."
    )
    behind_uploads: Literal["warn", "refuse"] = Field(
        "warn",
        description="What a build does when the newest download of a source is not uploaded: `warn` or `refuse`.",
    )
    job_time_limit: timedelta = Field(
        timedelta(hours=24), description="A job that runs longer is ended (seconds or ISO 8601)."
    )
    job_attempts: int = Field(
        3, ge=1, le=20, description="Times a job is started before it is given up (crash or transient error)."
    )
    stop_grace: timedelta = Field(
        timedelta(seconds=10), description="A worker told to stop lets its job run so long, then hands it back."
    )
    lock_ttl: timedelta = Field(
        timedelta(seconds=30), description="A lock whose owner is silent this long is free again."
    )
    engine_patience: timedelta = Field(
        timedelta(seconds=60), description="How long a job waits for an engine that is away before it fails."
    )
    download_timeout: timedelta = Field(
        timedelta(seconds=60), description="Longest silence of a server during a download."
    )
    download_retries: int = Field(4, ge=0, le=20, description="Further tries after a transient download error.")
    downloads_per_host: int = Field(3, ge=1, le=32, description="Files that download side by side from one host.")
    redirects_to_private: bool = Field(
        default=False, description="Follow redirects from outside to addresses of this machine or its private network."
    )
    header_variables: str = Field(
        "",
        description="Environment variables that the `headers` of a manifest may name as `${NAME}`; separated by commas.",
    )
    unpack_max_bytes: int = Field(200 * 1024 * MIB, ge=1, description="Largest total size an archive may unpack to.")
    unpack_max_ratio: int = Field(1000, ge=1, description="Largest ratio of unpacked to packed size (zip bombs).")
    keep_dumps: int = Field(2, ge=1, description="Downloaded versions of a source that are kept.")
    keep_indices: int = Field(
        3, ge=1, description="Releases of an API that stay for rollback, the current one included."
    )
    keep_jobs: timedelta = Field(timedelta(days=30), description="Records of finished jobs are forgotten after this.")
    request_max_bytes: int = Field(5 * MIB, ge=1024, description="Largest request body the gateway accepts.")
    answer_max_bytes: int = Field(
        64 * MIB, ge=1024, description="Bytes of documents that one request may read, and that its answer may have."
    )
    request_timeout: timedelta = Field(
        timedelta(seconds=30),
        gt=timedelta(0),
        description="A client that has not sent all of its request after this time, or takes nothing of the answer for so long, "
        "is cut off; the headers have a third of it, at most 10 seconds.",
    )
    max_connections: int = Field(
        800, ge=1, description="Connections that are open at once; a new one takes the place of one that is idle."
    )
    query_timeout: timedelta = Field(
        timedelta(seconds=10), description="A query that takes longer is answered with 503."
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let a secret's file win over the environment, which has the addresses without passwords in most deployments.

        A name of an earlier version counts where the new name is nowhere.
        """
        del sources
        earlier = {new: value for old, new in RENAMED.items() if (value := _read_given(old)) is not None}
        fallback = InitSettingsSource(settings_cls, earlier)
        return named["init_settings"], named["file_secret_settings"], named["env_settings"], fallback

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        level = value.upper()
        if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            msg = "must be DEBUG, INFO, WARNING or ERROR"
            raise ValueError(msg)
        return level

    @field_validator(
        "job_time_limit",
        "stop_grace",
        "lock_ttl",
        "keep_jobs",
        "download_timeout",
        "query_timeout",
        "request_timeout",
        "engine_patience",
        mode="before",
    )
    @classmethod
    def _seconds(cls, value: object) -> object:
        # The environment has text alone: "2.5" means seconds, as a number does.
        return float(value) if isinstance(value, str) and value.replace(".", "", 1).isdigit() else value

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def broker_socket(self) -> Path:
        """The unix socket of the bundled broker; in the temporary folder where HOME is too long for a socket (108 bytes)."""
        path = self.home / "run" / "broker.sock"
        if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"sourcebook-{os.getuid()}-{digest}" / "broker.sock"

    @property
    def celery_broker_url(self) -> str:
        """The URL that Celery connects to: the one that is set, or that of the bundled broker's socket."""
        url = self.broker_url or f"redis+socket://{self.broker_socket}"
        if url.startswith("rediss://") and "ssl_cert_reqs=" not in url:
            # Celery's library does not look at certificates unless it is told to.
            return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"
        return url

    def worker_ready_file(self, queue: str) -> Path:
        """The file in which the worker of a queue writes its process id once it takes jobs."""
        return self.home / "run" / f"{queue}.ready"

    @property
    def listed_variables(self) -> dict[str, str]:
        """The values of the variables that `SOURCEBOOK_HEADER_VARIABLES` lists; an empty text for one that is not set."""
        names = (name.strip() for name in self.header_variables.split(","))
        return {name: os.environ.get(name, "") for name in names if name}

    @property
    def plugin_folders(self) -> list[Path]:
        """The folders named by `SOURCEBOOK_PLUGINS`."""
        return [Path(part).expanduser().absolute() for part in self.plugins.split(":") if part]


def load_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` win over it.

    Raises:
        SettingsError: a variable `SOURCEBOOK_*` is unknown or its value is not allowed.
    """
    _refuse_unknown_variables()
    folder = _find_secrets()
    try:
        return Settings(_secrets_dir=folder, **overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(f"{_show_value(item['loc'][0], item['input'])}: {item['msg']}" for item in error.errors())
        # What pydantic says quotes values, and the cause is shown where the log has a traceback.
        raise SettingsError(f"{problems}. docs/settings.md lists what is allowed.") from None


def warn_of_renamed() -> list[str]:
    """Return a warning for each setting that is given by the name it had in an earlier version."""
    warnings = []
    for old, new in RENAMED.items():
        if _read_given(old) is not None:
            names = f"SOURCEBOOK_{old.upper()} is now called SOURCEBOOK_{new.upper()}"
            both = _read_given(new) is not None
            warnings.append(f"{names}; both are set, and the new one counts." if both else f"{names}: rename it.")
    return warnings


def _read_given(name: str) -> str | None:
    """Return the text of a setting: from its file among the secrets, else from the environment; None: it is not set."""
    folder = os.environ.get("SOURCEBOOK_SECRETS")
    file = Path(folder).expanduser() / f"sourcebook_{name}" if folder else None
    return file.read_text().strip() if file and file.is_file() else os.environ.get(f"SOURCEBOOK_{name.upper()}")


def _show_value(name: object, value: object) -> str:
    variable = f"SOURCEBOOK_{str(name).upper()}"
    # What came from a file is a secret.
    is_public = os.environ.get(variable) == value or not os.environ.get("SOURCEBOOK_SECRETS")
    return f"{variable}={value!r}" if is_public else f"the file sourcebook_{name}"


def _find_secrets() -> Path | None:
    """Return the folder of `SOURCEBOOK_SECRETS`, whose files can all be read and all name settings.

    Raises:
        SettingsError: they do not, or cannot.
    """
    text = os.environ.get("SOURCEBOOK_SECRETS")
    if not text:
        return None
    folder = Path(text).expanduser()
    known = {f"sourcebook_{name}" for name in (*Settings.model_fields, *RENAMED)}
    try:
        names = [path.name for path in folder.iterdir() if path.name.lower().startswith("sourcebook_")]
        for name in names:
            (folder / name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"SOURCEBOOK_SECRETS={text}: {error}. It must be a folder whose files this user may read.",
            setting="secrets",
        ) from error
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"Unknown setting {folder / name}{hint} docs/settings.md lists all.", setting=name)
    return folder


def _refuse_unknown_variables() -> None:
    # pydantic-settings ignores unknown variables of the environment, so a misspelt name would silently do nothing.
    known = {f"SOURCEBOOK_{name.upper()}" for name in (*Settings.model_fields, *RENAMED)}
    for name in os.environ:
        if name.startswith("SOURCEBOOK_") and not name.startswith("SOURCEBOOK_TEST_") and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"Unknown setting {name}{hint} docs/settings.md lists all.", setting=name)
