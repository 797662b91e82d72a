"""Search: GET /query, its pages, and POST /query (docs/contracts/query-api.md, sections 3 to 5)."""

import asyncio
import dataclasses
import time
from typing import Any

import orjson

from sourcebook.errors import EngineUnavailable, NotFound, PayloadTooLarge
from sourcebook.hub.builds.model import BuildConfig
from sourcebook.language.requests import Facet, Hit, MatchQuery, SearchRequest, SearchResult
from sourcebook.logging import get_logger
from sourcebook_api.query.answer import Answer, json_answer
from sourcebook_api.query.budget import Budget
from sourcebook_api.query.call import Call
from sourcebook_api.query.errors import value_error
from sourcebook_api.query.plan import is_id_lookup, plan_batch, plan_page, plan_query
from sourcebook_api.query.releases import OpenRelease
from sourcebook_api.query.scroll import Token, given_values, query_fingerprint, read_token, stale_token, write_token
from sourcebook_api.query.shape import AnswerShape, make_shape, render_document
from sourcebook_api.query.values import Options

log = get_logger(__name__)

_SEARCHES_AT_ONCE = 8
_STORE_SECONDS = 1.0  # of the two that an answer may take while an engine is away
_STORE_RETRY_SECONDS = 5.0  # how long a store that is away is not asked again
_NO_MORE = {"success": False, "error": "No more results to return."}


async def get_query(call: Call) -> Answer:
    """Answer GET /query.

    Raises:
        QueryError: a parameter is not as it should be.
    """
    options = await call.read_options("query_get")
    if options["scroll_id"] or options["fetch_all"]:
        answer = await _scroll(call, options)
    elif options["search_after"]:
        answer = await _search_after(call, options)
    else:
        answer = await _search_once(call, options)
    walks = options["scroll_id"] or options["fetch_all"] or options["search_after"]
    answer.repeatable = not walks and options["q"] != "__any__"
    return answer


async def _search_once(call: Call, options: Options) -> Answer:
    request = plan_query(options, templates=await _read_templates(call, options), timeout_seconds=call.timeout_seconds)
    if options["rawquery"]:
        return json_answer(dataclasses.asdict(request))
    started = time.monotonic()
    result = await call.search(request)
    if options["raw"]:
        return json_answer(show_raw(result, started))
    return await _answer_result(call, options, result, {"took": _milliseconds(started)})


async def _scroll(call: Call, options: Options) -> Answer:
    token: Token | None = None
    if options["scroll_id"]:
        token = read_token(options["scroll_id"], "scroll_id")
        call.opened = await _reopen(call, token)
        if token.after is None:
            return json_answer(_NO_MORE)
        options = Options({**options, **token.values}, options.given | token.values.keys())
    return await _answer_page(call, options, token, kind="scroll_id")


async def _search_after(call: Call, options: Options) -> Answer:
    token: Token | None = None
    if options["search_after"] != "*":
        token = read_token(options["search_after"], "search_after")
        if token.values["fingerprint"] != query_fingerprint(options):
            raise value_error("search_after belongs to another query: repeat the query it came from.")
        call.opened = await _reopen(call, token)
        if token.after is None:
            return json_answer(_NO_MORE)
    return await _answer_page(call, options, token, kind="search_after")


async def _reopen(call: Call, token: Token) -> OpenRelease:
    """Return the release that a walk began with, even if the API serves another one by now."""
    try:
        return await call.releases.by_name(token.release, call.opened.max_age)
    except NotFound as error:
        raise stale_token(token.kind) from error


async def _answer_page(call: Call, options: Options, token: Token | None, *, kind: str) -> Answer:
    request = plan_page(
        options,
        templates=await _read_templates(call, options),
        timeout_seconds=call.timeout_seconds,
        after=token.after if token else None,
    )
    if options["rawquery"]:
        return json_answer(dataclasses.asdict(request))
    started = time.monotonic()
    release = call.opened.release
    try:
        result = await call.search(request, call.page_bytes(options))
    except NotFound as error:
        raise stale_token(kind) from error
    if token is not None and not result.hits:
        return json_answer(_NO_MORE)
    values = token.values if token else _kept_values(options, kind)
    following = write_token(Token(kind, release.name, values, result.next_page, time.time()))
    return await _answer_result(call, options, result, {f"_{kind}": following, "took": _milliseconds(started)})


def _kept_values(options: Options, kind: str) -> dict[str, Any]:
    if kind == "search_after":
        return {"fingerprint": query_fingerprint(options)}
    return given_values(options, options.given)


async def _read_templates(call: Call, options: Options) -> dict[str, str]:
    if not options["userquery"]:
        return {}
    config = await call.context.state.get(BuildConfig, call.opened.release.config)
    return config.queries if config else {}


async def _answer_result(call: Call, options: Options, result: SearchResult, head: dict[str, Any]) -> Answer:
    shape = make_shape(options, call.opened.licenses, call.opened.marks)
    rows = await call.render(result.hits, shape, lambda: _render_hits(result.hits, shape, call.budget))
    data: dict[str, Any] = {**head, "total": result.total, "max_score": result.max_score}
    data["hits"] = [orjson.Fragment(row) for row in rows]
    if result.searched:
        data["searched_by_default"] = result.searched
    if result.facets:
        data["facets"] = {name: show_facet(facet) for name, facet in result.facets.items()}
    return await call.answer(orjson.dumps(data), options)


def _render_hits(hits: list[Hit], shape: AnswerShape, budget: Budget) -> list[bytes]:
    return [row for hit in hits if (row := _render_hit(hit, shape, {}, budget)) is not None]


def _render_hit(hit: Hit, shape: AnswerShape, head: dict[str, Any], budget: Budget) -> bytes | None:
    head = {**head, "_id": hit.id, "_score": hit.score}
    if hit.explanation is not None:
        head["_explanation"] = hit.explanation
    return render_document(hit.body, hit.id, head, shape, budget)


def show_facet(facet: Facet) -> dict[str, Any]:
    """Return a facet as answers show it."""
    terms = [
        {"count": item.count, "term": item.term, **{name: show_facet(inner) for name, inner in item.inner.items()}}
        for item in facet.terms
    ]
    return {"_type": "terms", "terms": terms, "other": facet.other, "missing": facet.missing, "total": facet.total}


def show_raw(result: SearchResult, started: float) -> dict[str, Any]:
    """Return the engine's answer as it is, without any shaping."""
    hits = [{"_id": hit.id, "_score": hit.score, "_source": orjson.Fragment(hit.body)} for hit in result.hits]
    facets = {name: show_facet(facet) for name, facet in result.facets.items()}
    inner = {"total": result.total, "max_score": result.max_score, "hits": hits}
    return {"took": _milliseconds(started), "hits": inner, "facets": facets, "next_page": result.next_page}


def _milliseconds(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


async def post_query(call: Call) -> Answer:
    """Answer POST /query: one search for each term, or one look-up for all if the terms are ids.

    Raises:
        QueryError: a parameter is not as it should be.
    """
    options = await call.read_options("query_post")
    shape = make_shape(options, call.opened.licenses, call.opened.marks)
    requests = plan_batch(options, timeout_seconds=call.timeout_seconds)
    if options["rawquery"]:
        return await call.work_off(lambda: json_answer([dataclasses.asdict(request) for request in requests]))
    results = await _look_up_ids(call, requests) if is_id_lookup(options) else await search_all(call, requests)
    if options["raw"]:
        now = time.monotonic()
        return json_answer([show_raw(result, now) for result in results])
    hits = [hit for result in results for hit in result.hits]
    rows = await call.render(hits, shape, lambda: _render_batch(options["q"], results, shape, call.budget))
    listed = b"[" + b",".join(rows) + b"]"
    return await call.answer(_with_total(results, options, listed) if options["with_total"] else listed, options)


async def _look_up_ids(call: Call, requests: list[SearchRequest]) -> list[SearchResult]:
    ids = [part.text for request in requests if isinstance(request.query, tuple) for part in request.query]
    bodies = await read_documents(call, ids)
    return [
        SearchResult(0, []) if body is None else SearchResult(1, [Hit(item, 1.0, body)], 1.0)
        for item, body in zip(ids, bodies, strict=True)
    ]


async def read_documents(call: Call, ids: list[str]) -> list[bytes | None]:
    """Return the canonical JSON of each id, in the order asked for, None where there is none.

    While the store is away they come from the index, if that keeps documents as those of OpenSearch do.

    Raises:
        NotFound: the release is gone.
        EngineUnavailable: neither of them answers.
    """
    if not (call.lanes.store_has_host and call.context.search.keeps_documents):
        return await call.get_many(ids)  # without a timer, which costs a tenth of such a request
    if time.monotonic() >= call.releases.store_away_until:
        try:
            # A batch may take longer; of a store that is away, its own patience makes an error.
            async with asyncio.timeout(_STORE_SECONDS if len(ids) == 1 else None):
                return await call.get_many(ids)
        except (EngineUnavailable, TimeoutError) as error:
            log.warning("documents_away_reading_from_index", problem=str(error))
            call.releases.store_away_until = time.monotonic() + _STORE_RETRY_SECONDS
    wanted = list(dict.fromkeys(item for item in ids if item))
    results = await search_all(call, [_by_id(item, call.timeout_seconds) for item in wanted])
    found = {item: result.hits[0].body for item, result in zip(wanted, results, strict=True) if result.hits}
    return [found.get(item) for item in ids]


def _by_id(document_id: str, timeout_seconds: float) -> SearchRequest:
    return SearchRequest((MatchQuery(document_id, ("_id",)),), size=1, timeout_seconds=timeout_seconds)


async def search_all(call: Call, requests: list[SearchRequest]) -> list[SearchResult]:
    """Run many searches, a few at a time, and return their results in the order of the requests.

    Raises:
        EngineUnavailable: together they took longer than one query may.
        QueryError: what they found has more bytes than one answer may have, or too many others wait.
    """
    waiting = iter(enumerate(requests))
    results: list[SearchResult | None] = [None] * len(requests)
    at_once = min(_SEARCHES_AT_ONCE, len(requests))
    alone = asyncio.Lock()

    async def search_next() -> None:
        for position, request in waiting:
            try:
                results[position] = await call.search(request, among=at_once)
            except PayloadTooLarge:  # more than its share: one at a time may have whatever is left
                async with alone:
                    results[position] = await call.search(request)
            await asyncio.sleep(0)  # an engine may answer without waiting; others want their turn

    try:
        async with asyncio.timeout(call.timeout_seconds), asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(search_next())
    except TimeoutError as error:
        raise EngineUnavailable(f"{len(requests)} searches took longer than {call.budget.seconds:g} s.") from error
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    return [result for result in results if result is not None]


def _render_batch(terms: list[Any], results: list[SearchResult], shape: AnswerShape, budget: Budget) -> list[bytes]:
    rows: list[bytes] = []
    for term, result in zip(terms, results, strict=True):
        shown = [row for hit in result.hits if (row := _render_hit(hit, shape, {"query": term}, budget)) is not None]
        rows += shown or [orjson.dumps({"query": term, "notfound": True})]
    return rows


def _with_total(results: list[SearchResult], options: Options, listed: bytes) -> bytes:
    size = options["size"]
    data: dict[str, Any] = {"max_total": max(result.total for result in results), "hits": orjson.Fragment(listed)}
    cut = sum(result.total > size for result in results)
    if cut:
        following = options["from"] + size
        data["msg"] = f"{cut} query terms return > {size} hits, using from={following} to retrieve the remaining hits"
    return orjson.dumps(data)
