"""What an HTTP answer means: the file, something else, or an invitation to come back; and which version it is of."""

import datetime as dt
import re
import time
from collections.abc import Mapping
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from sourcebook.errors import DownloadInterrupted, DownloadRefused
from sourcebook.logging import hide_secrets

_STRONG_DATE_AGE = dt.timedelta(seconds=60)  # RFC 9110, 8.8.2.2: a date this old names one version
# 202: the server is still making the file (an export, a query).
_TRANSIENT = {HTTPStatus.ACCEPTED, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_SERVER_ERRORS = range(500, 600)
_ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "It wants a login: put user and password into the URL (https://user:password@host/...), or a token "
    "into dumper.headers.",
    HTTPStatus.FORBIDDEN: "Check whether the file is public, or put user and password into the URL, or a token into "
    "dumper.headers.",
    HTTPStatus.NOT_FOUND: "Check dumper.data_url in the manifest; the file may have moved.",
    HTTPStatus.GONE: "The file was removed; look for its new address and change dumper.data_url.",
}
_PAGE_ENDINGS = (".html", ".htm", ".xhtml")
_PAGE_TYPES = {"text/html", "application/xhtml+xml"}
_BEFORE_A_PAGE = re.compile(rb"(?:\s+|<!--.*?-->|<\?xml[^>]*>)*", re.DOTALL)
_PAGE_START = re.compile(rb"<!doctype\s+html|<html", re.IGNORECASE)
_PAGE_TAG = re.compile(rb"<(?:!doctype|html|head|title|meta|body|script|h1|p|div|table)\b", re.IGNORECASE)


def check_status(response: httpx.Response, url: str) -> None:
    """Accept an answer that has the file, whole or in part.

    Raises:
        DownloadInterrupted: the server asks to come back; `details["retry_after"]` has the seconds, if it says when.
        DownloadRefused: it does not give the file.
    """
    status = response.status_code
    if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        return
    shown = hide_secrets(url)
    phrase = f"{status} {response.reason_phrase}".strip()
    if status in _TRANSIENT or status in _SERVER_ERRORS:
        pause = _retry_after(response.headers.get("retry-after"))
        raise DownloadInterrupted(
            f"{shown}: the server answered {phrase}.", url=shown, http_status=status, retry_after=pause
        )
    advice = _ADVICE.get(status, "Check dumper.data_url.")
    raise DownloadRefused(f"{shown}: the server answered {phrase}. {advice}", url=shown, http_status=status)


def _retry_after(text: str | None) -> float | None:
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    until = parse_date(text)
    return max(0.0, until.timestamp() - time.time()) if until else None


def parse_date(text: str | None) -> dt.datetime | None:
    """Return the date of a header in UTC, or None where it is not one."""
    try:
        parsed = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)


# Which version


def strong_validator(headers: Mapping[str, str]) -> str:
    """Return what If-Range may carry: a strong ETag, or a Last-Modified that is old enough to name one version."""
    etag = headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    text = headers.get("last-modified", "")
    modified, sent = parse_date(text), parse_date(headers.get("date"))
    return text if modified and sent and sent - modified >= _STRONG_DATE_AGE else ""


def is_same_version(headers: Mapping[str, str], validator: str, *, total: int | None, noted_total: int | None) -> bool:
    """Whether an answer is of the version whose first bytes an earlier try received (RFC 9110, 15.3.7).

    A 206 to If-Range must repeat the ETag, but may leave out the date: then the size of the whole has to vouch for it.
    """
    if total is not None and noted_total is not None and total != noted_total:
        return False
    told = headers.get("etag" if validator.startswith('"') else "last-modified", "")
    if told or validator.startswith('"'):
        return told == validator
    return total is not None and total == noted_total


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether the server packed the file for the journey."""
    return headers.get("content-encoding", "identity").lower() not in {"", "identity"}


def read_total(headers: Mapping[str, str]) -> int | None:
    """Return the size of the whole file that a Content-Range tells, if it does."""
    total = headers.get("content-range", "").rpartition("/")[2].strip()
    return int(total) if total.isdigit() else None


# What is not the file


def refuse_page(start: bytes, headers: Mapping[str, str], url: str) -> None:
    """Refuse a web page where a data file was asked for, judged by its first bytes; what the server calls it is a hint only.

    Raises:
        DownloadRefused: it is one.
    """
    if urlsplit(url).path.lower().endswith(_PAGE_ENDINGS):
        return
    body = start.removeprefix(b"\xef\xbb\xbf")
    space = _BEFORE_A_PAGE.match(body)
    body = body[space.end() :] if space else body
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_called_page = kind in _PAGE_TYPES and body.startswith(b"<") and _PAGE_TAG.search(body[:4096]) is not None
    if _PAGE_START.match(body) or is_called_page:
        shown = hide_secrets(url)
        first = body[:15].decode("ascii", "replace")
        raise DownloadRefused(
            f"{shown}: the server sent a web page instead of a data file (it starts with {first!r}). Open the address in a "
            "browser: it may be an error or login page, or the file may have moved.",
            url=shown,
        )


def read_file_name(headers: Mapping[str, str]) -> str:
    """Return the file name of a Content-Disposition (RFC 6266), or an empty string."""
    disposition = Message()
    disposition["Content-Disposition"] = headers.get("content-disposition", "")
    # The standard library knows both forms, `filename=` and the encoded `filename*=`.
    return (disposition.get_filename() or "").replace("\\", "/").rpartition("/")[2]
