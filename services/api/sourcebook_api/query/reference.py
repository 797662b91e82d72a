"""The page docs/query-api.md: how to ask, and every parameter from the table. `python docs/generate.py` writes it."""

from typing import Any

from sourcebook_api.query.params import MAX_BATCH_HITS, MAX_WINDOW, PAGE_SIZE, PARAMETERS, Operation, Parameter

_PLACES: dict[Operation, str] = {
    "query_get": "GET /query",
    "query_post": "POST /query",
    "annotation_get": "GET /{type}/{id}",
    "annotation_post": "POST /{type}",
    "metadata": "/metadata",
    "fields": "/metadata/fields",
}
_DOCUMENTS = frozenset[Operation]({"query_get", "query_post", "annotation_get", "annotation_post"})
PIPE = "\\|"  # a bar that does not end a cell
_KINDS = {"str": "text", "int": "whole number", "bool": "true or false", "list": "list"}

_PAGE = """# The query API

Every release is served as one API. The examples ask the genes of `make demo`; whatever your documents are, the paths are the
same with your API's name for `genes` and your document type for `gene`. `sourcebook serve NAME` and `sourcebook run` serve one
API at the root of a port: leave out `/apis/genes` there. Every path also works with `/v1` in front, and
`/apis/genes/docs` is a console where each can be tried.

Clients of BioThings APIs (`biothings_client` for one) work unchanged: give them the API's address.

## Get documents

By id, with all fields or with some:

```sh
curl 'http://127.0.0.1:8000/apis/genes/gene/CYP2D6?fields=symbol,name,entrezgene'
```
```json
{{
  "_id": "CYP2D6",
  "_version": 1,
  "entrezgene": "1565",
  "name": "cytochrome P450 family 2 subfamily D member 6 (gene/pseudogene)",
  "symbol": "CYP2D6"
}}
```

By another field that is indexed, written `field:value`; several documents with that value come as a list:

```sh
curl 'http://127.0.0.1:8000/apis/genes/gene/entrezgene:79001?fields=symbol'
```
```json
{{"_id": "VKORC1", "_version": 1, "symbol": "VKORC1"}}
```

A document whose `_id` is all of `field:value` wins against others that have the value in the field. Ids may have slashes, also
at the end (`http://example.org/x/`, or with `%2F`); `?`, `#` and `%` in an id are written `%3F`, `%23`, `%25`. Documents with the
ids `query`, `metadata` and `metadata/fields` are behind `/gene?id=query`, `/gene/_id:query`, and in batches, since
`/gene/query` is a search.

Up to 1000 at once, in the order of the ids. `query` is the id as you sent it:

```sh
curl http://127.0.0.1:8000/apis/genes/gene -H 'Content-Type: application/json' \\
  -d '{{"ids": ["CYP2C9", "nosuch"], "fields": "symbol"}}'
```
```json
[
  {{"query": "CYP2C9", "_id": "CYP2C9", "_version": 1, "symbol": "CYP2C9"}},
  {{"query": "nosuch", "notfound": true}}
]
```

Forms work too: `-d ids=CYP2C9,nosuch -d fields=symbol`. Options of a POST may stand in the URL as well.

## Search

A `+` in a URL is a space: write `%2B` for a plus sign (`q=name:CD4%2B`), or give the query to `curl` with
`-G --data-urlencode 'q=name:CD4+'`. In lists (`fields=a+b`) the space separates, as a comma does. Colons and slashes may stay as
they are; `&`, `#`, `%` and spaces are written `%26`, `%23`, `%25` and `%20`. A URL may have 64,000 bytes; a POST takes longer
queries.

```sh
curl 'http://127.0.0.1:8000/apis/genes/query?q=cpic.pairs.drug:codeine&fields=symbol&sort=symbol&size=2'
```
```json
{{
  "took": "...",
  "total": 3,
  "max_score": null,
  "hits": [
    {{"_id": "COMT", "_score": null, "symbol": "COMT"}},
    {{"_id": "CYP2D6", "_score": null, "symbol": "CYP2D6"}}
  ]
}}
```

`total` is exact. A hit has `_score`, the better the higher, or null if you sort. `size` (10) and `from` page through the first
{window:,} hits; [All hits](#all-hits) has the rest.

| write | to find documents |
|---|---|
| `cdk2` | with the word in one of the fields that are searched by default, or as `_id` |
| `symbol:CDK2` | with the value in a field; `a.b:x` reaches into objects and lists of objects |
| `name:"tyrosine kinase"`, `"kinase receptor"~3` | with the words in a row, or at most three places apart |
| `a AND b`, `a b`, `a OR b`, `NOT a`, `-a`, `(a OR b) c` | with both, either, not; words side by side must all be there |
| `locus_group:(pseudogene OR other)` | with one of several values |
| `ncbi_gene.pubmed_count:[100 TO *]`, `:>=100`, `:{{100 TO 200}}` | with a number, date or text in a range; braces exclude |
| `symbol:CYP2*`, `symbol:CDK?` | whose value matches: `*` any text, `?` one character |
| `updated:[now-1M/d TO now]` | with a date by the clock: `+2d` and `-1M` move, `/d` rounds; units are y M w d h m s |
| `symbol:/CDK[0-9]+/` | whose whole value matches a regular expression |
| `symbol:/CDK<1-9>/`, `/a.*&~(.*b)/` | the same with `<1-9>` a number, `~` not, `&` and, `@` any text, `#` nothing |
| `_id:rs12*`, `_id:[A TO B]`, `_id:/A00.*/` | by `_id`, as by any keyword; its case counts |
| `cytochrom~` | with a similar word (up to two letters differ) |
| `_exists_:cpic` | that have the field or object |
| `cpic.\\*:warfarin` | with the value in any field of an object |
| `symbol:CDK2^5 name:kinase` | with both, and more score for the first |
| `*`, `__all__`, no `q` | all of them; `__any__`: all, in random order |

AND and OR have the same rank and are read from left to right: use parentheses where you mix them. Put a backslash before
`+ - ! ( ) {{ }} [ ] ^ " ~ * ? : \\ /` where they are part of a value, or put the value in double quotes. `/metadata/fields` says
which fields there are, which are indexed, and which are searched by default: every keyword and text field none of whose values is
longer than 256 characters, unless the mapping (`copy_to`) or the build configuration (`search_by_default`) says otherwise. An
answer that found nothing names them under `searched_by_default`.

What would hold up others is refused with 400 and the reason: a regular expression that is too large once its repeats are
written out, more patterns than an index of that size can look up in time, a word of more than 250 characters with `~`.

Many searches in one request: each term is looked up in `scopes`, and all of its words must be in one of them. An empty
`scopes` reads each term as a query string. Rows are in the order of the terms:

```sh
curl http://127.0.0.1:8000/apis/genes/query -H 'Content-Type: application/json' \\
  -d '{{"q": ["VKCFD2", "nosuch"], "scopes": ["symbol", "prev_symbol"], "fields": "symbol"}}'
```
```json
[
  {{"query": "VKCFD2", "_id": "VKORC1", "_score": "...", "symbol": "VKORC1"}},
  {{"query": "nosuch", "notfound": true}}
]
```

A request may ask for at most {batch:,} hits: the number of terms times `size`. A compound term is a list, with one entry of
`scopes` for each of its parts: `{{"q": [["1565", "CYP2D6"]], "scopes": ["entrezgene", ["symbol", "alias_symbol"]]}}`.

## Count values

`facets` counts the values of keyword, number, date and boolean fields over all hits; `a(b)` counts b inside each value of a:

```sh
curl 'http://127.0.0.1:8000/apis/genes/query?q=_exists_:cpic&facets=cpic.pairs.level&facet_size=2&size=0'
```
```json
{{
  "took": "...",
  "total": 118,
  "max_score": null,
  "hits": [],
  "facets": {{
    "cpic.pairs.level": {{
      "_type": "terms",
      "terms": [{{"count": 61, "term": "d"}}, {{"count": 31, "term": "c"}}],
      "other": 60,
      "missing": 0,
      "total": 152
    }}
  }}
}}
```

`_id` can be counted and sorted too. A field that cannot be (a text, an object, a field that is not indexed) is refused
with 400 and the reason.

Counts are exact: `other` adds up the values that are not shown, `missing` counts the documents without any. Terms are in lower
case where the mapping indexes them so, which it does with keywords unless you edit it.

## All hits

`fetch_all` gives all hits, {page:,} a page, in the order of `_id`:

```sh
curl 'http://127.0.0.1:8000/apis/genes/query?q=_exists_:cpic&fetch_all=true&fields=symbol'
```

Each page has a `_scroll_id`. Ask `/query?scroll_id=...` for the next one within ten minutes, until the answer is
`{{"success": false, "error": "No more results to return."}}`. All pages are of the release that the first one saw, even if the
API moves to a newer one meanwhile. `search_after=*` does the same page by page with a `size` of your own: repeat the request with
the `_search_after` of the page before.

## What is in a release

```sh
curl 'http://127.0.0.1:8000/apis/genes/metadata'
curl 'http://127.0.0.1:8000/apis/genes/metadata/fields?prefix=cpic'
curl 'http://127.0.0.1:8000/apis/genes/status'
```

## Change the answer

`fields`, `dotfield`, `always_list`, `allow_null` and `jmespath` change documents, `format` how the answer is written. This takes
from each pair of a gene its drug:

```sh
curl -g 'http://127.0.0.1:8000/apis/genes/gene/VKORC1?fields=cpic.pairs&jmespath=cpic.pairs|[].drug'
```
```json
{{
  "_id": "VKORC1",
  "_version": 1,
  "cpic": {{"_license": "https://cpicpgx.org/license/", "pairs": ["warfarin"]}}
}}
```

A source that names its license's address gets `_license` into the object that it contributes.

## Errors

An error is JSON with the status as `code`. 400: the request is wrong, and the body says where:

```sh
curl 'http://127.0.0.1:8000/apis/genes/query?size=2000'
```
```json
{{
  "code": 400, "success": false, "error": "Bad Request",
  "keyword": "size", "max": 1000, "num": 2000, "alias": "limit"
}}
```

| status | meaning |
|---|---|
| 400 | a parameter is missing, has the wrong type, is too large or not allowed; a query cannot be read; the body is not JSON |
| 404 | there is no such API, path or document |
| 405 | the path has other methods: see `Allow` |
| 408 | the request did not come whole in time |
| 413 | the body is larger than `SOURCEBOOK_REQUEST_MAX_BYTES`, or the answer would be too large |
| 414, 431 | the URL, or the headers, are too long |
| 415 | the body is encoded otherwise than gzip |
| 429 | too many requests wait already: try again after `Retry-After` seconds |
| 503 | the search engine does not answer, or the answer took longer than `SOURCEBOOK_QUERY_TIMEOUT` |
| 500 | a fault of Sourcebook; the gateway's log has the reason under the `request_id` |

## Caching

Answers may be kept for as long as the API's `max_age` says (a minute; `Cache-Control`), pages of a walk and `__any__` not at
all. Without the parameter `format`, the `Accept` header chooses the format. Each answer has an
`ETag`: send it back in `If-None-Match`, and the answer is 304 without a body until there is a new release.
Answers of a kilobyte and more are compressed if you accept gzip, br or zstd. Pages of any site may ask (CORS).

## What a request may take

A request has one budget, of `SOURCEBOOK_QUERY_TIMEOUT` (10 seconds) and `SOURCEBOOK_ANSWER_MAX_BYTES` (64 MiB) of documents to
read and of answer, whatever its options do with them. What is larger is refused with 413, what takes longer with 503, and the
answer says what to ask for instead. `format=yaml` is for answers of up to 2 MiB, `html` and `msgpack` for 8 MiB. A POST may make
100,000 lookups (terms times scopes), facets may have a million values, `fields` may have 50 different entries with a `*`.

Each client address has its share of the search engine, and its requests take turns. Where too many wait already, the answer is
429 with `Retry-After`. Connections are cut off where a request is not complete after `SOURCEBOOK_REQUEST_TIMEOUT` (30 seconds;
its head after 10), or where nothing of an answer is read for as long.

## Parameters

A parameter is looked for in the path, the query string, the form and the JSON body, in this order; unknown ones are ignored.
*true* is 1, true, yes, y, t, a number above 0, or the bare name (`?raw`). A list in a URL or a form is split at commas, spaces
and `+`; double quotes keep an item together.

{table}
"""


def write_reference() -> str:
    """Return the page as Markdown."""
    return _PAGE.format(table=_write_table(), window=MAX_WINDOW, batch=MAX_BATCH_HITS, page=PAGE_SIZE)


def _write_table() -> str:
    rows = ["| name (also) | where | type | default | limit | effect |", "|---|---|---|---|---|---|"]
    return "\n".join([*rows, *map(_write_row, PARAMETERS)])


def _write_row(parameter: Parameter) -> str:
    aliases = ", ".join(f"`{alias}`" for alias in parameter.aliases)
    names = f"`{parameter.name}`" + (f" ({aliases})" if aliases else "")
    kind = _KINDS[parameter.kind] + (", required" if parameter.required else "")
    limit = ", ".join(parameter.allowed) or ("" if parameter.maximum is None else f"{parameter.maximum:,}")
    cells = (names, _write_places(parameter), kind, _write_default(parameter.default), limit, parameter.effect)
    return f"| {' | '.join(cell.replace('|', PIPE) for cell in cells)} |"


def _write_places(parameter: Parameter) -> str:
    if parameter.where == _DOCUMENTS:
        return "documents and searches"
    return ", ".join(label for operation, label in _PLACES.items() if operation in parameter.where)


def _write_default(default: Any) -> str:
    if default is None:
        return ""
    return ", ".join(default) if isinstance(default, tuple) else str(default).lower()
