"""The contract of search engines, on every engine: what a query means, sorts, pages, facets, how an index comes and goes."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.search_corpus import Corpus, fill, open_engines
from support.search_engines import (
    NO_NORMALIZER,
    SEARCH_ENGINES,
    SearchServers,
    reads_differently,
    skip_difference,
    skip_on_osmem,
)

from sourcebook.errors import EngineUnavailable, NotFound, QuerySyntaxError
from sourcebook.hub.documents.record import make_record
from sourcebook.language.requests import Facet, FacetRequest, MatchQuery, SearchRequest, SearchResult, SortKey

KEYWORD: dict[str, Any] = {"type": "keyword", "normalizer": "keyword_lowercase_normalizer"}
PROPERTIES: dict[str, dict[str, Any]] = {
    "symbol": {**KEYWORD, "copy_to": "all"},
    "name": {"type": "text", "copy_to": ["all"], "fields": {"raw": {"type": "keyword"}}},
    "code": {"type": "keyword"},
    "taxid": {"type": "integer"},
    "score": {"type": "float"},
    "updated": {"type": "date"},
    "active": {"type": "boolean"},
    "alias": KEYWORD,
    "pos": {"properties": {"chr": KEYWORD, "start": {"type": "long"}, "note": {"type": "text"}}},
    "hidden": {"type": "keyword", "index": False, "doc_values": False},
    "off": {"type": "object", "enabled": False, "properties": {"x": {"type": "keyword"}}},
    "lower": {"type": "text", "analyzer": "string_lowercase"},
    "words": {"type": "text", "analyzer": "whitespace_lowercase"},
}
DOCUMENTS: list[dict[str, Any]] = [
    {
        "_id": "1017",
        "symbol": "CDK2",
        "name": "cyclin dependent kinase 2",
        "code": "Ab",
        "taxid": 9606,
        "score": 1.5,
        "updated": "2020-05-17",
        "active": True,
        "alias": ["p33", "CDKN2", "p33"],
        "pos": [{"chr": "12", "start": 100}, {"chr": "X", "start": 5000}],
        "hidden": "secret",
        "off": {"x": "y"},
        "lower": "Hello World",
        "words": "A-1 b.2,c",
    },
    {
        "_id": "1018",
        "symbol": "CDK3",
        "name": "cyclin-dependent kinase 3",
        "code": "ab",
        "taxid": 9606,
        "score": -2,
        "updated": "2021-01-01T12:30:00Z",
        "active": False,
        "alias": "cdk3",
        "pos": {"chr": "17", "start": 7},
    },
    {
        "_id": "11",
        "symbol": "a:b",
        "name": ["kinase inhibitor", "dependent protein"],
        "taxid": [10090, 10116],
        "alias": [],
        "pos": {"note": "near the end"},
        "active": "true",
    },
    {
        "_id": "x*y",
        "name": "Protein X*Y (test)",
        "taxid": "5",
        "score": 2.25,
        "alias": "zeta",
        "code": "2020-01-01T00:00:00Z",
    },
    {"_id": "Z", "symbol": None, "taxid": 5, "score": None, "name": "", "unmapped": "value"},
]


Scenario = Callable[[Corpus], Coroutine[Any, Any, None]]


class Runner:
    """Runs scenarios on one filled index, in one event loop."""

    def __init__(self, home: Path, engine: str, url: str) -> None:
        self.engine = engine
        self._runner = asyncio.Runner()
        self._context = open_engines(home, search_url=url)
        self.corpus = self._runner.run(self._start())

    async def _start(self) -> Corpus:
        engine, documents = await self._context.__aenter__()
        corpus = Corpus(engine, documents, "genes")
        await fill(corpus, DOCUMENTS, PROPERTIES)
        return corpus

    def __call__(self, scenario: Scenario) -> None:
        self._runner.run(scenario(self.corpus))

    def ids(self, query: Any, **options: Any) -> list[str]:
        return self._runner.run(self.corpus.ids(query, **options))

    def find(self, query: Any, **options: Any) -> SearchResult:
        return self._runner.run(self.corpus.find(query, **options))

    def close(self) -> None:
        self._runner.run(self._context.__aexit__(None, None, None))
        self._runner.close()


@pytest.fixture(scope="module", params=SEARCH_ENGINES)
def genes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, search_servers: SearchServers
) -> Iterator[Runner]:
    with search_servers.url(request.param) as url:
        runner = Runner(tmp_path_factory.mktemp("search"), request.param, url)
        yield runner
        runner.close()


EVERY = ["1017", "1018", "11", "Z", "x*y"]
MEANINGS = [
    ("*", EVERY),
    ("*:*", EVERY),
    ("", []),
    ("   ", []),
    # default fields: _id and all
    ("1017", ["1017"]),
    ("cdk2", ["1017"]),
    ("CDK2", ["1017"]),
    ("kinase", ["1017", "1018", "11"]),
    ("p33", []),
    ("_id:1017", ["1017"]),
    ("_id:(1017 OR 11)", ["1017", "11"]),
    ("_id:101*", ["1017", "1018"]),
    ("_id:*1*", ["1017", "1018", "11"]),
    ("_id:x\\**", ["x*y"]),
    ("_id:1017~1", ["1017", "1018"]),
    ("_id:[1 TO 2]", ["1017", "1018", "11"]),
    ("_id:{1017 TO 11]", ["1018", "11"]),
    ("_id:>1018", ["11", "Z", "x*y"]),
    ("_id:/101.|Z/", ["1017", "1018", "Z"]),
    ("_id:/z/", []),
    ("_id:z", []),
    ("_id:z*", []),
    ("_id:(1017 OR z*)", ["1017"]),
    ("\\_id:101*", ["1017", "1018"]),
    ('_id:"1017" AND _id:*7', ["1017"]),
    ("taxid:9606 AND NOT _id:*7", ["1018"]),
    ("101*", ["1017", "1018"]),
    ("/101[0-7]/", ["1017"]),
    ("x\\*y", ["x*y"]),
    # keywords
    ("symbol:cdk2", ["1017"]),
    ("symbol:Cdk2", ["1017"]),
    ("symbol:a\\:b", ["11"]),
    ('symbol:"a:b"', ["11"]),
    ("code:ab", ["1018"]),
    ("code:Ab", ["1017"]),
    ("code:AB", []),
    ('code:"2020-01-01T00:00:00Z"', ["x*y"]),
    ("alias:P33", ["1017"]),
    ("name.raw:protein*", []),
    ("name.raw:Protein*", ["x*y"]),
    # texts
    ("name:kinase", ["1017", "1018", "11"]),
    ("name:cyclin-dependent", ["1017", "1018"]),
    ('name:"dependent kinase"', ["1017", "1018"]),
    ('name:"kinase dependent"', []),
    ('name:"cyclin kinase"', []),
    ('name:"cyclin kinase"~1', ["1017", "1018"]),
    ('name:"kinase cyclin"~3', ["1017", "1018"]),
    ("lower:hello", []),
    ('lower:"hello world"', ["1017"]),
    ("words:a-1", ["1017"]),
    ("words:b", []),
    ('name:"-"', []),
    ('name:"-" AND symbol:cdk2', ["1017"]),
    ("cdk2 - kinase", []),
    ("name:[A TO L]", ["1017", "1018", "11"]),
    ('"1017 cyclin"', []),
    ("*:cdk2", ["1017"]),
    # booleans
    ("kinase AND 3", ["1018"]),
    # plain words in a row are one text: all in one field
    ("kinase & 2", ["1017"]),
    ("lower:(Hello World)", ["1017"]),
    ("alias:(p33 cdkn2)", []),
    ("alias:(p33 AND cdkn2)", ["1017"]),
    ("1017 cyclin", []),
    ("1017 AND cyclin", ["1017"]),
    ("kinase 3", ["1018"]),
    ("cdk2 OR cdk3", ["1017", "1018"]),
    ("cdk2 || cdk3", ["1017", "1018"]),
    ("kinase && protein", ["11"]),
    ("kinase NOT 3", ["1017", "11"]),
    ("kinase -3", ["1017", "11"]),
    ("kinase !3", ["1017", "11"]),
    ("NOT kinase", ["Z", "x*y"]),
    ("-kinase", ["Z", "x*y"]),
    ("+kinase +cyclin", ["1017", "1018"]),
    ("kinase AND (2 OR 3)", ["1017", "1018"]),
    ("name:(cyclin AND 2)", ["1017"]),
    ("name:(2 OR inhibitor)", ["1017", "11"]),
    ("kinase AND (NOT cyclin)", ["11"]),
    # AND and OR without parentheses are read from left to right, as Lucene does
    ("protein OR cyclin AND 3", ["1018"]),
    ("kinase AND 2 OR 3", ["1017", "1018", "11"]),
    # ranges
    ("taxid:[5 TO 9606]", ["1017", "1018", "Z", "x*y"]),
    ("taxid:{5 TO 9606}", []),
    ("taxid:{5 TO 9606]", ["1017", "1018"]),
    ("taxid:[9606 TO *]", ["1017", "1018", "11"]),
    ("taxid:[* TO 9606}", ["Z", "x*y"]),
    ("taxid:[* TO *]", EVERY),
    ("taxid:>9606", ["11"]),
    ("taxid:>=9606", ["1017", "1018", "11"]),
    ("taxid:<9606", ["Z", "x*y"]),
    ("taxid:<=5", ["Z", "x*y"]),
    ("taxid:[4.5 TO 5.5]", ["Z", "x*y"]),
    ("score:[-2 TO 1.5]", ["1017", "1018"]),
    ("score:[\\-2 TO 1.5}", ["1018"]),
    ("score:>1.5", ["x*y"]),
    ("symbol:[cdk2 TO cdk3]", ["1017", "1018"]),
    ("symbol:{cdk2 TO cdk3]", ["1018"]),
    ("symbol:[CDK TO CDK2]", ["1017"]),
    ("symbol:<b", ["11"]),
    ('code:["A" TO "Z"]', ["1017"]),
    ("pos.start:[50 TO 200]", ["1017"]),
    # dates
    ("updated:2020-05-17", ["1017"]),
    ("updated:2020-05", []),
    ("updated:[2020 TO 2021]", ["1017", "1018"]),
    ("updated:[2020 TO 2021}", ["1017"]),
    ("updated:>2020", ["1017", "1018"]),
    ("updated:[2020-05 TO 2020-06]", ["1017"]),
    ("updated:{2020-05-17 TO *]", ["1018"]),
    ("updated:[2021-01-01T12:30:00Z TO *]", ["1018"]),
    ('updated:"2021-01-01T13:30:00+01:00"', ["1018"]),
    ("updated:yesterday", []),
    ("updated:[2020-05-18||-1d TO 2020-05-18||-1d/d]", ["1017"]),
    ("updated:[2020-04-17||+1M TO now]", ["1017", "1018"]),
    ("updated:>2020-05-17||\\/M", ["1018"]),
    ("updated:>=2020-05-31||\\/M", ["1017", "1018"]),
    ('updated:"2020-12-31||/y"', ["1017"]),
    ("updated:2020-05-31||\\/M", ["1017"]),
    ("updated:[now-1d/d TO *]", []),
    ("updated:<now", ["1017", "1018"]),
    ("updated:now-1x", []),
    # numbers and booleans
    ("taxid:9606", ["1017", "1018"]),
    ('taxid:"5"', ["Z", "x*y"]),
    ("taxid:5.0", ["Z", "x*y"]),
    ("taxid:5.5", []),
    ("taxid:human", []),
    ("taxid:9.606e3", ["1017", "1018"]),
    ("taxid:[5 TO b]", []),
    ("active:True", []),
    ("score:2.25", ["x*y"]),
    ("active:true", ["1017", "11"]),
    ("active:false", ["1018"]),
    # wildcards
    ("symbol:cdk*", ["1017", "1018"]),
    ("symbol:CDK?", ["1017", "1018"]),
    ("symbol:*dk*", ["1017", "1018"]),
    ("symbol:?dk2", ["1017"]),
    ("symbol:cdk", []),
    ("name:kin*", ["1017", "1018", "11"]),
    ("name:*NHIB*", ["11"]),
    ("cdk*", ["1017", "1018"]),
    ("symbol:a\\:*", ["11"]),
    ("taxid:96*", []),
    ("symbol:*", ["1017", "1018", "11"]),
    # regular expressions
    ("symbol:/cdk[23]/", ["1017", "1018"]),
    ("symbol:/CDK[23]/", ["1017", "1018"]),
    ("symbol:/dk2/", []),
    ("code:/[A-Z]b/", ["1017"]),
    ("name:/kin.*/", ["1017", "1018", "11"]),
    ("name:/Kin.*/", ["1017", "1018", "11"]),
    ("taxid:/9.*/", []),
    ("symbol:/cdk<1-2>/", ["1017"]),
    ("symbol:/cdk~(2)/", ["1018"]),
    ("symbol:/cdk.&~(.*3)/", ["1017"]),
    ("symbol:/@dk2/", ["1017"]),
    ("symbol:/#/", []),
    ("symbol:/~(@)/", []),
    ("alias:/~(p33)/", ["1017", "1018", "x*y"]),
    # existence
    ("_exists_:symbol", ["1017", "1018", "11"]),
    ("_exists_:alias", ["1017", "1018", "x*y"]),
    ("_exists_:pos", ["1017", "1018", "11"]),
    ("_exists_:pos.note", ["11"]),
    ("_exists_:pos.start", ["1017", "1018"]),
    ("NOT _exists_:score", ["11", "Z"]),
    ("_exists_:nothing", []),
    ("_exists_:off", []),
    ("_exists_:pos.*", []),
    ("_exists_:_id", EVERY),
    ("_id:*", EVERY),
    ("NOT *", []),
    # fuzzy
    ("symbol:cdk5~1", ["1017", "1018"]),
    ("name:kinsae~", ["1017", "1018", "11"]),
    ("name:kinases~1", ["1017", "1018", "11"]),
    ("name:kxnxsx~", []),
    ("name:protien~2", ["11", "x*y"]),
    ("taxid:9606~1", []),
    ("symbol:cdk5^2~1", ["1017", "1018"]),
    ("symbol:cdk5~1^2", ["1017", "1018"]),
    ("symbol:cd*~1", ["1017", "1018"]),
    ("symbol:\\u0063dk2", ["1017"]),
    # objects in lists, fields by pattern, what is not there
    ("pos.chr:x", ["1017"]),
    ("pos.chr:12 AND pos.start:5000", ["1017"]),
    ("pos.\\*:17", ["1018"]),
    ("pos.\\*:7", ["1018"]),
    ("pos.\\*:end", ["11"]),
    ("pos.\\*:*", ["1017", "1018", "11"]),
    ("pos.\\*:1?", ["1017", "1018"]),
    ("nothing:x", []),
    ("unmapped:value", []),
    ("hidden:secret", []),
    ("off.x:y", []),
    ("pos:12", []),
    # boosts change scores only
    ("symbol:cdk2^5 OR symbol:cdk3", ["1017", "1018"]),
    ("(symbol:cdk2 OR symbol:cdk3)^2.5", ["1017", "1018"]),
]


@pytest.mark.parametrize(("query", "expected"), MEANINGS, ids=[query or "blank" for query, _ in MEANINGS])
def test_a_query_string_finds_what_it_means(genes: Runner, query: str, expected: list[str]) -> None:
    skip_difference(genes.engine, query)
    assert sorted(genes.ids(query)) == sorted(expected)
    assert sorted(genes.ids(None, filter=query)) == sorted(expected)


@pytest.mark.parametrize(
    "query", ["taxid:(9606", "a AND", "a:b:c", '"open', "[1 TO", "a)", "()", "x:[1 TO 2", "a OR OR b", "a^b"]
)
def test_a_query_that_cannot_be_parsed_says_so(genes: Runner, query: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        genes.ids(query)
    assert caught.value.message == f"Failed to parse query [{query}]"
    with pytest.raises(QuerySyntaxError):
        genes.ids("cdk2", filter=query)


@pytest.mark.parametrize(
    "query",
    [
        " ".join(f"w{number}" for number in range(2000)),
        "(" * 60 + "a" + ")" * 60,
        "x" * 70_000,
        "symbol:/(a{1000}){1000}/",
        "(" * 30_000,
        "x" * 300 + "~",
    ],
    ids=["clauses", "nesting", "length", "regex", "parentheses", "fuzzy"],
)
def test_a_hostile_query_is_refused_quickly(genes: Runner, query: str) -> None:
    if genes.engine != "tantivy" and query.startswith("symbol:/"):
        assert genes.ids(query) == []  # OpenSearch gives the expression up, leniently
        return
    if query.startswith("w0 "):
        skip_on_osmem(genes.engine, "osmem-server has no limit for the words of a query")
    with pytest.raises(QuerySyntaxError):
        genes.ids(query)


def test_a_match_query_wants_all_words_in_one_field(genes: Runner) -> None:

    def ids(text: str, *fields: str) -> list[str]:
        return sorted(genes.ids((MatchQuery(text, fields),)))

    assert ids("1017", "_id") == ["1017"]
    assert ids("CDK2", "_id", "symbol") == ["1017"]
    assert ids("kinase 2", "name") == ["1017"]
    assert ids("kinase cdk2", "name", "symbol") == []
    assert ids("kinase cdk2", "all") == ["1017"]
    assert ids("hello world", "lower", "symbol") == ["1017"]
    assert ids("9606", "taxid", "symbol") == ["1017", "1018"]
    assert ids("human", "taxid") == []
    assert ids("x*y", "_id") == ["x*y"]
    assert ids("a OR b", "name") == []
    assert ids("cdk2", "nothing") == []
    assert ids("", "name") == []
    assert ids("17", "pos.*") == ["1018"]


def test_several_match_queries_must_all_match(genes: Runner) -> None:
    assert genes.ids((MatchQuery("9606", ("taxid",)), MatchQuery("cdk3", ("symbol",)))) == ["1018"]
    assert genes.ids((MatchQuery("9606", ("taxid",)), MatchQuery("nothing", ("symbol",)))) == []


def test_no_query_finds_everything(genes: Runner) -> None:
    result = genes.find(None, size=2, offset=1)
    assert (result.total, [hit.id for hit in result.hits]) == (5, ["1018", "11"])
    assert genes.find(None, size=0).total == 5
    assert genes.find("kinase", size=0).total == 3
    assert genes.find("kinase", size=0).hits == []


def test_a_search_in_vain_says_which_fields_were_searched(genes: Runner) -> None:
    searched = ("_id", "name", "symbol")
    for query in ("p33", "p*3", "/p33/", "p33 AND symbol:cdk2", "(alias:x OR p33)^2", '"1017 cyclin"'):
        result = genes.find(query)
        assert (result.total, result.searched) == (0, searched)
        assert genes.find(query, in_id_order=True).searched == searched
    for matching in ("alias:nothing", "_exists_:nothing", "", "cdk2", None, "NOT *"):
        assert genes.find(matching).searched == ()


def test_hits_carry_the_stored_document_and_a_score(genes: Runner) -> None:
    result = genes.find("symbol:cdk2^3 OR name:kinase")
    assert result.hits[0].id == "1017"
    stored = next(document for document in DOCUMENTS if document["_id"] == "1017")
    assert orjson.loads(result.hits[0].body) == stored
    scores = [hit.score for hit in result.hits if hit.score is not None]
    assert scores == sorted(scores, reverse=True)
    assert result.max_score == scores[0]
    assert genes.find("nothing").max_score is None


def test_the_greatest_score_is_that_of_all_pages(genes: Runner) -> None:
    skip_on_osmem(genes.engine, "osmem-server says the greatest score of the page")
    query = "symbol:cdk2^3 OR name:kinase"
    assert genes.find(query, offset=1).max_score == genes.find(query).max_score


def test_explain_adds_how_the_score_came_about(genes: Runner) -> None:
    hit = genes.find("name:kinase", explain=True).hits[0]
    assert hit.explanation is not None
    assert hit.explanation["value"] == pytest.approx(hit.score, rel=1e-3)
    assert genes.find(None, explain=True).hits[0].explanation is not None
    assert genes.find("name:kinase", explain=True, sort=(SortKey("taxid"),)).hits[0].explanation is not None
    assert genes.find("name:kinase").hits[0].explanation is None


SORTS = [
    (("taxid",), ["Z", "x*y", "1017", "1018", "11"]),
    (("-taxid",), ["11", "1017", "1018", "Z", "x*y"]),
    (("-taxid", "-_id"), ["11", "1018", "1017", "x*y", "Z"]),
    (("taxid", "-score"), ["x*y", "Z", "1017", "1018", "11"]),
    (("score",), ["1018", "1017", "x*y", "11", "Z"]),
    (("-score",), ["x*y", "1017", "1018", "11", "Z"]),
    (("symbol",), ["11", "1017", "1018", "Z", "x*y"]),
    (("-symbol",), ["1018", "1017", "11", "Z", "x*y"]),
    (("pos.start",), ["1018", "1017", "11", "Z", "x*y"]),
    (("-pos.start",), ["1017", "1018", "11", "Z", "x*y"]),
    (("-pos.chr",), ["1017", "1018", "11", "Z", "x*y"]),
    (("alias",), ["1018", "1017", "x*y", "11", "Z"]),
    (("-alias",), ["x*y", "1017", "1018", "11", "Z"]),
    (("updated",), ["1017", "1018", "11", "Z", "x*y"]),
    (("-active", "-taxid"), ["11", "1017", "1018", "Z", "x*y"]),
    (("_id",), ["1017", "1018", "11", "Z", "x*y"]),
    (("-_id",), ["x*y", "Z", "11", "1018", "1017"]),
    (("code", "taxid"), ["x*y", "1017", "1018", "Z", "11"]),
]


def sort_keys(names: Sequence[str]) -> tuple[SortKey, ...]:
    return tuple(SortKey(name.lstrip("-"), descending=name.startswith("-")) for name in names)


@pytest.mark.parametrize(("names", "expected"), SORTS, ids=[" ".join(names) for names, _ in SORTS])
def test_hits_are_sorted_missing_last(genes: Runner, names: Sequence[str], expected: list[str]) -> None:
    skip_difference(genes.engine, names[0])
    keys = sort_keys(names)
    assert genes.ids("*", sort=keys) == expected
    assert genes.ids(None, sort=keys) == expected
    paged = [name for start in range(5) for name in genes.ids("*", sort=keys, offset=start, size=1)]
    assert paged == expected
    assert all(hit.score is None for hit in genes.find("*", sort=keys).hits)


def test_sorting_by_score_is_the_usual_order(genes: Runner) -> None:
    query = "symbol:cdk3^5 OR name:kinase"
    assert genes.ids(query, sort=(SortKey("_score", descending=True),))[0] == "1018"
    assert genes.ids(query, sort=(SortKey("_score"),))[-1] == "1018"
    assert genes.ids("*", sort=sort_keys(["-_score", "-_id"])) == ["x*y", "Z", "11", "1018", "1017"]


def test_a_sort_on_what_cannot_be_sorted_is_refused(genes: Runner) -> None:
    with pytest.raises(QuerySyntaxError, match=r"No mapping found for \[nothing\] in order to sort on"):
        genes.find("*", sort=(SortKey("nothing"),))


def facet(genes: Runner, request: str | FacetRequest, query: Any = None, **options: Any) -> Facet:
    wanted = FacetRequest(request) if isinstance(request, str) else request
    return genes.find(query, facets=(wanted,), size=0, **options).facets[wanted.field]


def terms(counts: Facet) -> dict[Any, int]:
    return {term.term: term.count for term in counts.terms}


def test_facets_count_documents_once_a_value(genes: Runner) -> None:
    skip_on_osmem(genes.engine, NO_NORMALIZER)
    taxid = facet(genes, "taxid")
    assert terms(taxid) == {5: 2, 9606: 2, 10090: 1, 10116: 1}
    assert [term.term for term in taxid.terms] == [5, 9606, 10090, 10116]
    assert (taxid.total, taxid.other, taxid.missing) == (6, 0, 0)
    alias = facet(genes, "alias")
    assert terms(alias) == {"cdk3": 1, "cdkn2": 1, "p33": 1, "zeta": 1}
    assert (alias.total, alias.missing) == (4, 2)


def test_facets_have_typed_terms(genes: Runner) -> None:
    assert terms(facet(genes, "active")) == {True: 2, False: 1}
    assert terms(facet(genes, "score")) == {-2.0: 1, 1.5: 1, 2.25: 1}
    assert terms(facet(genes, "code")) == {"Ab": 1, "ab": 1, "2020-01-01T00:00:00Z": 1}
    assert terms(facet(genes, "updated")) == {"2020-05-17T00:00:00.000Z": 1, "2021-01-01T12:30:00.000Z": 1}


def test_facets_beyond_the_size_are_summed(genes: Runner) -> None:
    taxid = facet(genes, "taxid", facet_size=1)
    assert terms(taxid) == {5: 2}
    assert (taxid.total, taxid.other, taxid.missing) == (6, 4, 0)


def test_facets_follow_the_query_and_the_filter_but_not_the_post_filter(genes: Runner) -> None:
    assert terms(facet(genes, "taxid", "kinase")) == {9606: 2, 10090: 1, 10116: 1}
    assert terms(facet(genes, "taxid", "kinase", filter="cyclin")) == {9606: 2}
    result = genes.find("kinase", facets=(FacetRequest("taxid"),), post_filter="symbol:cdk2")
    assert terms(result.facets["taxid"]) == {9606: 2, 10090: 1, 10116: 1}
    assert (result.total, [hit.id for hit in result.hits]) == (1, ["1017"])


def test_facets_nest(genes: Runner) -> None:
    skip_on_osmem(genes.engine, NO_NORMALIZER)
    counted = facet(genes, FacetRequest("taxid", (FacetRequest("alias"),)))
    human = next(term for term in counted.terms if term.term == 9606)
    assert terms(human.inner["alias"]) == {"cdk3": 1, "cdkn2": 1, "p33": 1}
    assert (human.inner["alias"].missing, human.inner["alias"].total) == (0, 3)
    five = next(term for term in counted.terms if term.term == 5)
    assert five.inner["alias"].missing == 1


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("nothing", "no field of that name is indexed"),
        ("symbl", "did you mean symbol"),
        ("pos", r"object; name a field in it \(pos.chr, pos.note, pos.start\)"),
        ("hidden", "no field of that name is indexed"),
        ("off.x", "no field of that name is indexed"),
        ("name", "it is a text"),
        ("all", "it is a text"),
    ],
)
def test_what_can_be_neither_counted_nor_sorted_is_refused_with_the_reason(
    genes: Runner, field: str, reason: str
) -> None:
    for query in (None, "kinase", "nothing:x"):
        with pytest.raises(QuerySyntaxError, match=reason):
            facet(genes, field, query)
        with pytest.raises(QuerySyntaxError, match=reason):
            facet(genes, FacetRequest("taxid", (FacetRequest(field),)), query)
        with pytest.raises(QuerySyntaxError, match=reason):
            genes.find(query, sort=(SortKey(field),))


def test_a_facet_of_a_query_that_finds_nothing_is_empty(genes: Runner) -> None:
    for field in ("taxid", "_id"):
        assert facet(genes, field, "nothing:x") == Facet([], other=0, missing=0, total=0)


def test_ids_are_counted_as_values_are(genes: Runner) -> None:
    ids = facet(genes, "_id", facet_size=2)
    assert [(term.term, term.count) for term in ids.terms] == [("1017", 1), ("1018", 1)]
    assert (ids.total, ids.other, ids.missing) == (5, 3, 0)
    assert [term.term for term in facet(genes, "_id", "taxid:5").terms] == ["Z", "x*y"]
    (first, _) = facet(genes, FacetRequest("_id", (FacetRequest("taxid"),)), facet_size=2).terms
    assert terms(first.inner["taxid"]) == {9606: 1}
    inner = facet(genes, FacetRequest("taxid", (FacetRequest("_id"),))).terms[0].inner["_id"]
    assert (list(terms(inner)), inner.total) == (["Z", "x*y"], 2)


def test_a_random_order_has_no_document_twice(genes: Runner) -> None:
    assert sorted(genes.ids(None, random=True)) == EVERY
    assert sorted(genes.ids("kinase", random=True)) == ["1017", "1018", "11"]
    orders = {tuple(genes.ids(None, random=True, size=3)) for _ in range(40)}
    assert len(orders) > 3
    assert genes.find(None, random=True, size=2).total == 5


@pytest.mark.parametrize("query", [None, "*", "NOT nothing", "taxid:>0"])
def test_a_walk_has_every_page_once(genes: Runner, query: str | None) -> None:
    seen: list[str] = []
    token: str | None = None
    for _ in range(5):
        result = genes.find(query, in_id_order=True, size=2, after=token)
        assert result.total == 5
        seen += [hit.id for hit in result.hits]
        token = result.next_page
        if token is None:
            break
    assert seen == EVERY


def test_the_token_of_another_query_is_refused(genes: Runner) -> None:
    token = genes.find("taxid:>0", in_id_order=True, size=2).next_page
    assert token is not None
    for query, after in (("taxid:>1", token), ("taxid:>0", "nonsense"), ("taxid:>0", "W10"), (None, token)):
        with pytest.raises(QuerySyntaxError, match="Invalid or stale"):
            genes.find(query, in_id_order=True, size=2, after=after)


def test_an_index_that_is_not_there_is_not_found(genes: Runner) -> None:
    async def scenario(corpus: Corpus) -> None:
        with pytest.raises(NotFound):
            await corpus.engine.search("nothing", SearchRequest())
        assert await corpus.engine.count("nothing") is None
        await corpus.engine.drop("nothing")

    genes(scenario)


def test_searches_run_side_by_side(genes: Runner) -> None:
    async def scenario(corpus: Corpus) -> None:
        wanted = [(query, ids) for query, ids in MEANINGS if reads_differently(genes.engine, query) is None]
        found = await asyncio.gather(*(corpus.ids(query, timeout_seconds=100) for query, _ in wanted * 2))
        assert [sorted(ids) for ids in found] == [sorted(ids) for _, ids in wanted] * 2

    genes(scenario)


@pytest.mark.usefixtures("search_engine")
def test_an_index_appears_at_commit_and_goes_at_drop(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_engines(tmp_path) as (engine, documents):
            corpus = Corpus(engine, documents, "one")
            async with engine.create("two", collection="one", properties=PROPERTIES, settings={}) as writer:
                await writer.add([make_record({"_id": "a"})])
                assert await engine.names() == []
                assert await engine.count("two") is None
            assert await engine.names() == []
            assert await fill(corpus, DOCUMENTS, PROPERTIES) == 5
            assert await engine.names() == ["one"]
            assert await engine.count("one") == 5
            assert await corpus.ids("cdk2") == ["1017"]
            await engine.drop("one")
            assert await engine.names() == []
            with pytest.raises(NotFound):
                await corpus.ids("cdk2")

    asyncio.run(scenario())


@pytest.mark.usefixtures("search_engine")
def test_an_index_is_found_again_by_another_engine(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_engines(tmp_path) as (engine, documents):
            await fill(Corpus(engine, documents, "one"), DOCUMENTS, PROPERTIES)
        async with open_engines(tmp_path) as (engine, documents):
            assert await engine.names() == ["one"]
            assert await Corpus(engine, documents, "one").ids("cdk2") == ["1017"]

    asyncio.run(scenario())


@pytest.mark.usefixtures("search_engine")
def test_a_name_that_is_used_again_is_searched_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_engines(tmp_path) as (engine, documents):
            corpus = Corpus(engine, documents, "one")
            await fill(corpus, DOCUMENTS, PROPERTIES)
            token = (await corpus.find("*", in_id_order=True, size=2)).next_page
            await engine.drop("one")
            await fill(Corpus(engine, documents, "one", "second"), [{"_id": "new", "symbol": "cdk2"}], PROPERTIES)
            assert await corpus.ids("cdk2") == ["new"]
            with pytest.raises(QuerySyntaxError, match="Invalid or stale"):
                await corpus.find("*", in_id_order=True, size=2, after=token)

    asyncio.run(scenario())


@pytest.mark.usefixtures("search_engine")
def test_an_empty_index_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_engines(tmp_path) as (engine, documents):
            corpus = Corpus(engine, documents, "one")
            assert await fill(corpus, [], PROPERTIES) == 0
            for query in (None, "*", "cdk2"):
                assert await corpus.ids(query) == []
                result = await corpus.find(query, facets=(FacetRequest("taxid"),), sort=(SortKey("taxid"),))
                assert (result.total, result.facets["taxid"].total) == (0, 0)
                assert (await corpus.find(query, in_id_order=True)).next_page is None
                assert await corpus.ids(query, random=True) == []

    asyncio.run(scenario())


def test_a_search_has_a_time_limit(genes: Runner) -> None:
    with pytest.raises(EngineUnavailable, match="longer"):
        genes.find("symbol:*dk*", timeout_seconds=0.0)
