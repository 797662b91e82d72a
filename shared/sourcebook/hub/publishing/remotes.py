"""Addresses that releases are published to and installed from, and subscriptions to them."""

import hashlib
import re
import time
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from sourcebook.hub.schedules.cron import Cron

READ_ONLY = ("http", "https")
SCHEMES = ("file", "memory", "s3", "gs", "az", "abfs", "sftp", "ftp", *READ_ONLY)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WITH_HOST = set(SCHEMES) - {"file", "memory"}


def check_address(url: str, *, to_write: bool = False) -> str:
    """Return an address without the slash at its end.

    Raises:
        ValueError: its scheme is not known, cannot be written to, or it names no host.
    """
    text = url.strip()
    scheme = _SCHEME.match(text)
    allowed = [name for name in SCHEMES if not (to_write and name in READ_ONLY)]
    if not text or _CONTROL.search(text):
        raise ValueError("must be an address, without line breaks")
    if scheme is None:
        msg = f"must be an address with one of the schemes {', '.join(allowed)}: file:///folder for one of this machine"
        raise ValueError(msg)
    if scheme[1].lower() not in allowed:
        msg = f"has the scheme {scheme[1]!r}; allowed are {', '.join(allowed)}"
        raise ValueError(msg)
    if scheme[1].lower() in READ_ONLY and set("?#") & set(text):
        raise ValueError("must be the address of a folder, without '?' and '#'")
    if scheme[1].lower() in _WITH_HOST and not urlsplit(text).netloc:
        raise ValueError("names no host")
    return text.rstrip("/")


Address = Annotated[str, AfterValidator(check_address)]
WritableAddress = Annotated[str, AfterValidator(lambda url: check_address(url, to_write=True))]


class Remote(BaseModel):
    """An address that a job works with. Jobs name it by its id: it may hold a password, and what jobs say can be read by many."""

    id: str
    url: Address


def make_remote(url: str) -> Remote:
    """Return the remote of an address; the same address has the same id.

    Raises:
        ValueError: it is not an address.
    """
    checked = check_address(url)
    return Remote(id=hashlib.sha256(checked.encode()).hexdigest()[:16], url=checked)


class Subscription(BaseModel):
    """Look at an address on a schedule, and install what is new there under a name."""

    name: str
    remote: str
    cron: Cron
    api: str
    keep: int = Field(2, ge=1, description="Installed builds whose documents stay")
    created_at: float = Field(default_factory=time.time)
