"""Every error that a user can cause or meet.

    SourcebookError
    ├── TransientError            the same call may succeed later: jobs are retried
    │   ├── DownloadInterrupted
    │   ├── PluginKilled
    │   ├── EngineUnavailable
    │   │   └── IndexOutdated
    │   └── LeaseLost
    └── TerminalError             trying again changes nothing until someone acts
        ├── SettingsError
        ├── InvalidRequest        what a client or a command line asked for
        │   ├── QuerySyntaxError
        │   ├── InvalidName
        │   └── PayloadTooLarge
        ├── NotFound
        ├── Conflict
        │   └── Busy
        ├── PluginError           the plugin's author can mend it
        │   ├── ManifestError
        │   ├── ParserError
        │   ├── DocumentError
        │   ├── DuplicateId
        │   └── MappingError
        ├── DownloadRefused
        ├── DownloadPostponed
        ├── UnsafeArchive
        ├── MissingUpload
        ├── VerificationFailed
        ├── StoreDamaged
        ├── RecordTooNew
        ├── DamagedChanges
        ├── DamagedRelease
        ├── IndexDamaged
        ├── CannotDerive
        ├── PortBusy
        ├── Cancelled
        ├── TimeLimitExceeded
        └── JobFailed

Each class has a stable `code`, the HTTP `status` the gateway answers with, the `exit_code` of the command line, and carries
`details`: JSON values (names, paths, what is allowed) for programs. The message says what was wrong, where, and what to do.
"""

from collections.abc import Iterator
from typing import Any, ClassVar


class SourcebookError(Exception):
    """Base of all errors that Sourcebook raises on purpose."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword details survive the trip between processes.
        return _rebuild, (type(self), self.message, self.details)


def _rebuild(kind: type[SourcebookError], message: str, details: dict[str, Any]) -> SourcebookError:
    return kind(message, **details)


class TransientError(SourcebookError):
    """The same call may succeed later."""

    code = "transient"
    status = 503


class DownloadInterrupted(TransientError):
    """A download broke off or the server was overloaded."""

    code = "download_interrupted"
    status = 502


class PluginKilled(TransientError):
    """The process that ran a plugin's code was killed from outside, by a person or for want of memory."""

    code = "plugin_killed"
    status = 500
    exit_code = 6


class EngineUnavailable(TransientError):
    """A broker, store or search engine does not answer."""

    code = "engine_unavailable"
    status = 503
    exit_code = 4


class IndexOutdated(EngineUnavailable):
    """An earlier version wrote the search index, in a format that this one does not read: a new one is made from the build."""

    code = "index_outdated"


class LeaseLost(TransientError):
    """Another process took over what this one worked on."""

    code = "lease_lost"


class TerminalError(SourcebookError):
    """Trying again changes nothing until someone acts."""

    code = "terminal"
    status = 500


class SettingsError(TerminalError):
    """A setting is unknown or has a value that is not allowed."""

    code = "settings"
    exit_code = 2


class InvalidRequest(TerminalError):
    """The request cannot be understood or carried out as it is."""

    code = "invalid_request"
    status = 422
    exit_code = 2


class QuerySyntaxError(InvalidRequest):
    """A query string or a field of a query cannot be parsed."""

    code = "query_syntax"
    status = 400


class InvalidName(InvalidRequest):
    """A name has characters that are not allowed in it."""

    code = "invalid_name"
    status = 422


class PayloadTooLarge(InvalidRequest):
    """A request body is larger than the gateway accepts."""

    code = "payload_too_large"
    status = 413


class NotFound(TerminalError):
    """There is nothing under that name."""

    code = "not_found"
    status = 404
    exit_code = 3


class Conflict(TerminalError):
    """The state of the thing does not allow the command."""

    code = "conflict"
    status = 409
    exit_code = 5


class Busy(Conflict):
    """Another job holds the same source or build."""

    code = "busy"


class PluginError(TerminalError):
    """A plugin cannot be used as it is."""

    code = "plugin"
    status = 422
    exit_code = 6


class ManifestError(PluginError):
    """A manifest has a wrong value or cannot be read."""

    code = "manifest"


class ParserError(PluginError):
    """A plugin's function raised, ended its process or gave no documents."""

    code = "parser"


class DocumentError(PluginError):
    """A parser yielded a document that cannot be stored."""

    code = "document"


class DuplicateId(PluginError):
    """Two documents of one upload have the same `_id`, and the plugin does not say what to do."""

    code = "duplicate_id"


class MappingError(PluginError):
    """Field types contradict each other."""

    code = "mapping"


class DownloadRefused(TerminalError):
    """The server does not give the file: wrong address, no permission, or another content than expected."""

    code = "download_refused"
    status = 502


class DownloadPostponed(TerminalError):
    """The server asks to come back later than a job waits: the message says when. What was downloaded is kept until then."""

    code = "download_postponed"
    status = 503


class UnsafeArchive(TerminalError):
    """An archive writes outside its folder or over another file, or unpacks to more than is allowed."""

    code = "unsafe_archive"
    status = 422


class MissingUpload(TerminalError):
    """A build names a source that has no documents."""

    code = "missing_upload"
    status = 409
    exit_code = 5


class VerificationFailed(TerminalError):
    """What was written is not what should have been written; the old release stays."""

    code = "verification_failed"


class StoreDamaged(TerminalError):
    """What an engine has stored is not what was written: make it again, or restore it from a backup."""

    code = "store_damaged"
    status = 503
    exit_code = 4


class RecordTooNew(TerminalError):
    """A newer version of Sourcebook wrote a record of the state, in a form that this one does not know."""

    code = "record_too_new"
    status = 503
    exit_code = 4


class DamagedChanges(TerminalError):
    """A file of a changes folder is missing or is not what its metadata say: make the diff, or fetch the release, again."""

    code = "damaged_changes"


class DamagedRelease(TerminalError):
    """A file of a published release is missing or is not what its metadata say; nothing of it is installed."""

    code = "damaged_release"


class IndexDamaged(TerminalError):
    """An index is not what it was when it was written: someone changed it. Release the build in full."""

    code = "index_damaged"
    status = 409
    exit_code = 4


class CannotDerive(TerminalError):
    """A release cannot be made from the one before, by its changes alone: release the build in full."""

    code = "cannot_derive"
    status = 409
    exit_code = 5


class PortBusy(TerminalError):
    """Another program listens on the port."""

    code = "port_busy"
    exit_code = 7


class Cancelled(TerminalError):
    """Someone cancelled the job."""

    code = "cancelled"
    status = 409
    exit_code = 8


class TimeLimitExceeded(TerminalError):
    """The job took longer than its time limit."""

    code = "time_limit"
    status = 504


class JobFailed(TerminalError):
    """Another job that this one waited for did not succeed, and nothing more is known than what the message says."""

    code = "job_failed"


def rebuild_error(code: str, message: str, details: dict[str, Any]) -> SourcebookError:
    """Return the error that a job's record tells of; `JobFailed` where its code has no class."""
    kind = next((kind for kind in _subclasses(SourcebookError) if kind.code == code), JobFailed)
    return kind(message, **details)


def _subclasses(kind: type[SourcebookError]) -> Iterator[type[SourcebookError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)
