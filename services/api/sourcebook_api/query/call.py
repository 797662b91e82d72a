"""One request on its way: what every route is given."""

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from starlette.types import Receive, Scope

from sourcebook.context import Context
from sourcebook.errors import IndexOutdated, NotFound, PayloadTooLarge
from sourcebook.language.requests import Hit, SearchRequest, SearchResult
from sourcebook.ports.documents import BATCH_BYTES, get_within
from sourcebook_api.query.answer import Answer
from sourcebook_api.query.budget import Budget
from sourcebook_api.query.encode import MEDIA_TYPES, check_size, encode_body, max_bytes, render_page
from sourcebook_api.query.params import Operation
from sourcebook_api.query.releases import OpenRelease, Releases
from sourcebook_api.query.shape import AnswerShape
from sourcebook_api.query.turns import Turns
from sourcebook_api.query.values import (
    Options,
    RequestValues,
    parse_get,
    parse_parameters,
    read_body,
    read_query_string,
)

THREAD_FROM = 512 * 1024  # bytes of documents; from here putting an answer together would hold up other requests
_PLAIN_THREAD_FROM = 8 * THREAD_FROM  # stored bytes are only copied
_ENCODE_THREAD_FROM = 4096  # YAML takes a millisecond for a few hundred bytes
_PATH_COST = 100  # bytes of a document that take as long as one path of always_list or allow_null
_SHAPED_AT_ONCE = 2
_READ_TOGETHER = 250  # documents
_PAGE_PART = 4  # a page of a walk is that part of what an answer may have

T = TypeVar("T")


class Lanes:
    """The turns of all requests of a process: in the search engine, and at shaping answers, which takes the interpreter."""

    def __init__(self, context: Context) -> None:
        self.searches = Turns(context.search.searches_at_once)
        self.shaping = Turns(_SHAPED_AT_ONCE)
        self.store_has_host = "://" in context.settings.documents_url
        """Whether the documents are on another machine, which may be silent for long."""


@dataclass(slots=True, eq=False)
class Call:
    """A request, the release that answers it, and how to read what it carries."""

    context: Context
    lanes: Lanes
    releases: Releases
    opened: OpenRelease
    scope: Scope
    receive: Receive
    path: Mapping[str, str] = field(default_factory=dict)
    accepts: str = "json"
    """The format that the `Accept` header asks for; the parameter `format` wins."""
    _budget: Budget | None = None

    @property
    def budget(self) -> Budget:
        """What this request may take, from the first time that someone asks."""
        if self._budget is None:
            settings = self.context.settings
            self._budget = Budget(settings.query_timeout.total_seconds(), settings.answer_max_bytes)
        return self._budget

    @property
    def timeout_seconds(self) -> float:
        """How long the engine may take."""
        return self.budget.seconds_left

    @property
    def client(self) -> str:
        """Who asks, for the fair share: the address."""
        client = self.scope.get("client")
        return client[0] if client else ""

    async def read_options(self, operation: Operation) -> Options:
        """Read and check the parameters.

        Raises:
            QueryError: a parameter or the body is not as it should be.
        """
        if self.scope["method"] != "POST":
            return parse_get(operation, self.path, self.scope["query_string"])
        query = read_query_string(self.scope["query_string"])
        content_type = dict(self.scope["headers"]).get(b"content-type", b"").decode("latin-1")
        form, body = read_body(content_type, await self._read_body())
        return parse_parameters(operation, RequestValues(self.path, query, form, body))

    async def _read_body(self) -> bytes:
        chunks = []
        while True:
            message = await self.receive()
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _choose_format(self, options: Options) -> str:
        return options["format"] if "format" in options.given else self.accepts

    def page_bytes(self, options: Options) -> int:
        """How many bytes of documents one page of a walk has: few enough that options may add to them."""
        limit = self.context.settings.answer_max_bytes
        most = min(limit, max_bytes(self._choose_format(options)) or limit)
        return min(most // _PAGE_PART, BATCH_BYTES)

    async def search(self, request: SearchRequest, page_bytes: int | None = None, *, among: int = 1) -> SearchResult:
        """Search when it is this request's turn; a page of a walk has about `page_bytes` of documents.

        Raises:
            QueryError: too many others want the same, or the documents found have more bytes than the request may take.
            PayloadTooLarge: they have more than the share of one of several searches, if it is `among` them.
            QuerySyntaxError, NotFound, EngineUnavailable: as the engine says.
        """
        turns, client, budget = self.lanes.searches, self.client, self.budget
        # Written out, since a coroutine and a closure more are felt in the shortest searches.
        if not turns.try_begin(client, self):
            await turns.wait(client, self, budget.seconds_left)
            request = replace(request, timeout_seconds=min(request.timeout_seconds, budget.seconds_left))
        limit = page_bytes or budget.bytes_left // among
        try:
            try:
                result = await self.context.search.search(self.opened.release.index, request, max_bytes=limit)
            except (IndexOutdated, NotFound):
                if not await self.find_new_index():
                    raise
                result = await self.context.search.search(self.opened.release.index, request, max_bytes=limit)
        except PayloadTooLarge as error:
            raise error if among > 1 else budget.exceeded("read") from error
        finally:
            turns.end(client)
        if page_bytes is None:  # one document that is larger than a page comes all the same: nobody could walk past it
            budget.spend("read", sum([len(hit.body) for hit in result.hits]))
        return result

    async def find_new_index(self) -> bool:
        """Read the release again, and return whether it has another index by now.

        Raises:
            NotFound: it is gone.
        """
        before = self.opened.release.index
        self.opened = await self.releases.reread(self.opened)
        return self.opened.release.index != before

    async def get_many(self, ids: Sequence[str]) -> list[bytes | None]:
        """Return the stored JSON of documents by id, some at a time, so that a batch of large ones ends in time.

        Raises:
            QueryError: they have more bytes than the request may take.
        """
        if len(ids) == 1:  # nearly all requests
            return await self.context.documents.get_many(self.opened.release.collection, ids)
        documents, collection, budget = self.context.documents, self.opened.release.collection, self.budget
        bodies: list[bytes | None] = []
        for start in range(0, len(ids), _READ_TOGETHER):
            wanted = ids[start : start + _READ_TOGETHER]
            part = await get_within(documents, collection, wanted, budget.bytes_left)
            if len(part) < len(wanted):
                raise budget.exceeded("read")
            budget.spend("read", sum([len(body) for body in part if body is not None]))
            bodies += part
        return bodies

    async def render(self, hits: Sequence[Hit], shape: AnswerShape, work: Callable[[], T]) -> T:
        """Put the answer of some documents together, here or, if that takes long, in a thread."""
        size = sum([len(hit.body) for hit in hits])
        if shape.expression is None:
            size += _PATH_COST * len(hits) * (len(shape.always_list) + len(shape.allow_null))
            if size < (_PLAIN_THREAD_FROM if shape.is_plain else THREAD_FROM):
                return work()
        return await self.work_off(work)

    async def work_off(self, work: Callable[[], T]) -> T:
        """Do work that would hold up other requests in a thread, when it is this request's turn.

        Raises:
            QueryError: too many others want the same, and whatever the work raises.
        """
        return await self.lanes.shaping.run(
            self.client, self, self.budget.seconds_left, lambda: asyncio.to_thread(work)
        )

    async def answer(self, body: bytes, options: Options) -> Answer:
        """Return an answer in the format that the request asks for.

        Raises:
            QueryError: it is too large for a format that takes long.
        """
        format_name = self._choose_format(options)
        if format_name == "json":
            return Answer(body)
        media = MEDIA_TYPES[format_name]
        check_size(body, format_name)
        if format_name != "html":
            encode = functools.partial(encode_body, body, format_name, self.budget.check_time)
            return Answer(encode() if len(body) < _ENCODE_THREAD_FROM else await self.work_off(encode), media=media)
        root = self.scope.get("root_path", "")
        query = self.scope["query_string"].decode("latin-1")
        kept = [part for part in query.split("&") if part and not part.startswith("format=")]
        link = "&".join((*kept, "format=json"))
        title = f"{self.opened.release.doc_type} · {self.scope['path']}"
        render = functools.partial(render_page, body, title=title, link=f"?{link}", docs=f"{root}/docs")
        return Answer(render() if len(body) < THREAD_FROM else await self.work_off(render), media=media)
