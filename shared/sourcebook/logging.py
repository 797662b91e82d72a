"""Log lines for people (or JSON for machines), each with the job and source it belongs to; secrets never appear."""

import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from typing import Any

import structlog

# What logs in, in any URL: scheme://user:secret@host, and for the web also scheme://token@host (RFC 3986, section 3.2.1).
# Up to the last @ before the path: passwords are not always escaped.
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^/\s:@?#]*:)[^\s/?#]+@", re.IGNORECASE)
_URL_TOKEN = re.compile(r"(?P<head>\b(?:git\+)?https?://)[^/\s:@?#\"'<>]+@", re.IGNORECASE)
# Parameters that log in or sign: ?token=, &X-Amz-Signature=, #access_token= and their like, alone or as an end of a name.
_LOGIN = (
    r"(?:[\w.-]*(?:token|secret|passw(?:or)?d|passphrase|pwd|signature|credentials?|api-?_?key|access-?_?key(?:-?_?id)?|"
    r"private-?_?key|auth|authorization|session(?:-?_?id)?|jwt)|sig|key|pass|sid|code|hmac)"
)
_PARAMETER = re.compile(rf"(?P<head>[?&;#]{_LOGIN}=)[^&;#\s\"'<>\\]+", re.IGNORECASE)
_HEADER = re.compile(r"(?P<head>\b(?:Bearer|Authorization: *\w+) +)[A-Za-z0-9._~+/-]{8,}=*", re.IGNORECASE)
_SECRETS = (
    (_URL_PASSWORD, r"\g<head>***@"),
    (_URL_TOKEN, r"\g<head>***@"),
    (_PARAMETER, r"\g<head>***"),
    (_HEADER, r"\g<head>***"),
)
# What a terminal obeys or hides: control characters but tab and line feed, and signs that turn the direction of writing.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

# Libraries that write a line for each request, and at DEBUG whole requests: documents, and what signs them.
_CHATTY = ("httpx", "httpcore", "kombu", "amqp", "pymongo", "botocore", "aiobotocore", "s3fs", "fsspec")


def hide_secrets(text: str) -> str:
    """Return `text` with the passwords, tokens and signatures of URLs replaced by `***`."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def hide_secrets_in(value: Any) -> Any:
    """Return a JSON value with the secrets hidden in each of its texts."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, dict):
        return {key: hide_secrets_in(item) for key, item in value.items()}
    return [hide_secrets_in(item) for item in value] if isinstance(value, list | tuple | set) else value


def strip_controls(text: str, instead: str = "\N{REPLACEMENT CHARACTER}") -> str:
    """Return `text` without the characters that make a terminal do something; each is replaced by `instead`."""
    return _CONTROL.sub(instead, text)


def configure_logging(level: str, *, as_json: bool) -> None:
    """Send structlog and the standard library's loggers to stderr in one format."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # before the secrets are hidden: tracebacks hold some as well
        _hide_secrets_in_event,
    ]
    if not as_json:
        shared.append(_strip_controls_in_event)
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


def bind_log_context(**values: Any) -> AbstractContextManager[None]:
    """Return a context manager that adds `values` to every log line inside it."""
    return structlog.contextvars.bound_contextvars(**values)


def _hide_secrets_in_event(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: hide_secrets_in(value) for key, value in event.items()}


def _strip_controls_in_event(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: strip_controls(value) if isinstance(value, str) else value for key, value in event.items()}
