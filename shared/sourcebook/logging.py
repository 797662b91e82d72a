"""Log lines for people (or JSON for machines), each with the job and source it belongs to; secrets never appear."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

# A password in any URL: scheme://user:secret@host (RFC 3986, section 3.2.1).
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^/\s:@]*:)[^@\s/]+@", re.IGNORECASE)

# Libraries that write a line for each request, and at DEBUG whole requests: documents, and what signs them.
_CHATTY = ("httpx", "httpcore", "kombu", "amqp", "pymongo", "botocore", "aiobotocore", "s3fs", "fsspec")


def hide_secrets(text: str) -> str:
    """Return `text` with the passwords of URLs replaced by `***`."""
    return _URL_PASSWORD.sub(r"\g<head>***@", text)


def configure_logging(level: str, *, as_json: bool) -> None:
    """Send structlog and the standard library's loggers to stderr in one format."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets_in_event,
    ]
    if as_json:
        shared.append(structlog.processors.format_exc_info)
    # Plain tracebacks: the pretty ones print every local variable, secrets and whole batches of documents included.
    lines: Any = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    renderer: Any = structlog.processors.JSONRenderer() if as_json else lines
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It warns of each index that is not there, which is what we asked; what fails is told where it is handled.
    logging.getLogger("opensearch").setLevel(logging.ERROR)


def get_logger(name: str) -> Any:
    """Return the logger of a module."""
    return structlog.get_logger(name)


def bind_log_context(**values: Any) -> Any:
    """Return a context manager that adds `values` to every log line inside it."""
    return structlog.contextvars.bound_contextvars(**values)


def _hide_secrets_in_event(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: hide_secrets(value) if isinstance(value, str) else value for key, value in event.items()}
