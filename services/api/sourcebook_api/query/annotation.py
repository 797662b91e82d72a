"""Documents by id, one or a batch (docs/contracts/query-api.md, section 4)."""

from typing import Any

import orjson

from sourcebook.language.requests import Hit, MatchQuery, SearchRequest
from sourcebook_api.query.answer import Answer, json_answer
from sourcebook_api.query.budget import Budget
from sourcebook_api.query.call import Call
from sourcebook_api.query.errors import not_found
from sourcebook_api.query.search import read_documents, search_all
from sourcebook_api.query.shape import AnswerShape, make_shape, render_document
from sourcebook_api.query.values import Options


async def get_document(call: Call, document_id: str) -> Answer:
    """Answer GET /{type}/{id}.

    Raises:
        QueryError: there is no such document, or an option is not as it should be.
    """
    call.path = {"id": document_id}
    if not call.scope["query_string"] and ":" not in document_id and call.accepts == "json":
        return await _get_stored(call, document_id)
    options = await call.read_options("annotation_get")
    shape = make_shape(options, call.opened.licenses, call.opened.marks)
    if options["rawquery"]:
        return json_answer(_describe(call, [document_id], options))
    hits = (await find_documents(call, [document_id], options["size"]))[0]
    if options["raw"]:
        return json_answer(_show_raw(hits))
    rendered = await call.render(hits, shape, lambda: [_render(hit, shape, call.budget) for hit in hits])
    rows = [row for row in rendered if row is not None]
    if not rows:
        raise not_found()
    return await call.answer(rows[0] if len(rows) == 1 else b"[" + b",".join(rows) + b"]", options)


async def _get_stored(call: Call, document_id: str) -> Answer:
    """Answer with the stored bytes: nothing asks for a change."""
    if call.lanes.store_has_host:
        bodies = await read_documents(call, [document_id])
    else:  # the shortest way, for most requests
        bodies = await call.context.documents.get_many(call.opened.release.collection, [document_id])
    if bodies[0] is None:
        raise not_found()
    row = render_document(bodies[0], document_id, {"_id": document_id, "_version": 1}, call.opened.plain_shape)
    return Answer(row or b"{}")


async def post_documents(call: Call) -> Answer:
    """Answer POST /{type}.

    Raises:
        QueryError: the ids are missing, or an option is not as it should be.
    """
    options = await call.read_options("annotation_post")
    shape = make_shape(options, call.opened.licenses, call.opened.marks)
    wanted = options["id"]
    ids = [item if isinstance(item, str) else orjson.dumps(item).decode() for item in wanted]
    if options["rawquery"]:
        return json_answer(_describe(call, ids, options))
    found = await find_documents(call, ids, options["size"])
    if options["raw"]:
        return json_answer([_show_raw(hits) for hits in found])
    hits = [hit for group in found for hit in group]
    rows = await call.render(hits, shape, lambda: _render_batch(wanted, found, shape, call.budget))
    return await call.answer(b"[" + b",".join(rows) + b"]", options)


def _render_batch(terms: list[Any], found: list[list[Hit]], shape: AnswerShape, budget: Budget) -> list[bytes]:
    rows: list[bytes] = []
    for term, hits in zip(terms, found, strict=True):
        shown = [row for hit in hits if (row := _render(hit, shape, budget, query=term)) is not None]
        rows += shown or [orjson.dumps({"query": term, "notfound": True})]
    return rows


def _render(hit: Hit, shape: AnswerShape, budget: Budget, **head: Any) -> bytes | None:
    return render_document(hit.body, hit.id, {**head, "_id": hit.id, "_version": 1}, shape, budget)


async def find_documents(call: Call, ids: list[str], size: int) -> list[list[Hit]]:
    """Return the documents of each id: the one that has it as `_id`; where there is none, those with `field:value`."""
    found = await _look_up(call, ids)
    if len(found) == len(ids):
        return [found[item] for item in ids]
    curies = {item: split_curie(item, call.opened.indexed_fields) for item in ids if item not in found}
    searched = {item: curie for item, curie in curies.items() if curie[0] != "_id"}
    inner = {item: term for item, (scope, term) in curies.items() if scope == "_id" and term != item}
    if inner:
        documents = await _look_up(call, list(inner.values()))
        found |= {item: documents[term] for item, term in inner.items() if term in documents}
    if searched:
        requests = [
            SearchRequest((MatchQuery(term, (scope,)),), size=size, timeout_seconds=call.timeout_seconds)
            for scope, term in searched.values()
        ]
        results = await search_all(call, requests)
        found |= {item: result.hits for item, result in zip(searched, results, strict=True)}
    return [found.get(item, []) for item in ids]


async def _look_up(call: Call, ids: list[str]) -> dict[str, list[Hit]]:
    bodies = await read_documents(call, ids)
    return {item: [Hit(item, None, body)] for item, body in zip(ids, bodies, strict=True) if body is not None}


def split_curie(text: str, indexed_fields: frozenset[str]) -> tuple[str, str]:
    """Return the field to look in and the value: those of `scope:term` if the scope is an indexed field, else `_id` and all.

    >>> split_curie("symbol:CDK2", frozenset({"symbol"})), split_curie("chr1:g.5A>T", frozenset({"symbol"}))
    (('symbol', 'CDK2'), ('_id', 'chr1:g.5A>T'))
    """
    scope, colon, term = text.partition(":")
    return (scope, term) if colon and term and (scope == "_id" or scope in indexed_fields) else ("_id", text)


def _describe(call: Call, ids: list[str], options: Options) -> dict[str, Any]:
    return {
        "get": {"release": call.opened.release.name, "ids": ids, "fields": options["fields"], "size": options["size"]}
    }


def _show_raw(hits: list[Hit]) -> list[dict[str, Any]]:
    return [{"_id": hit.id, "_score": hit.score, "_source": orjson.Fragment(hit.body)} for hit in hits]
