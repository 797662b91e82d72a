"""Searches that are given up stop, and those that take long leave room for others."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from sourcebook.backends.tantivy import hits
from sourcebook.backends.tantivy import search as search_tantivy
from sourcebook.backends.tantivy.index import Deadline, OpenIndex
from sourcebook.backends.tantivy.search import TantivySearchEngine
from sourcebook.errors import EngineUnavailable
from sourcebook.hub.documents.record import make_record
from sourcebook.language.requests import SearchRequest, SearchResult, SortKey

PROPERTIES = {"n": {"type": "integer"}}


class MemoryDocuments:
    async def get_many(self, _name: str, ids: list[str], *, max_bytes: int | None = None) -> list[bytes]:
        del max_bytes  # they are small
        return [b"{}" for _ in ids]


async def fill(home: Path) -> TantivySearchEngine:
    engine = TantivySearchEngine(home, MemoryDocuments())  # type: ignore[arg-type]
    async with engine.create("one", collection="c", properties=PROPERTIES, settings={}) as writer:
        await writer.add([make_record({"_id": f"d{number}", "n": number}) for number in range(5)])
        await writer.commit()
    return engine


def test_heavy_searches_that_fill_their_threads_do_not_hold_up_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    run_search = hits.run_search

    def wait_if_heavy(index: OpenIndex, request: SearchRequest) -> Any:
        if request.query == "d*":
            release.wait(60)
        return run_search(index, request)

    async def scenario() -> None:
        engine = await fill(tmp_path)
        monkeypatch.setattr(search_tantivy, "run_search", wait_if_heavy)
        heavy = [asyncio.create_task(engine.search("one", SearchRequest("d*", timeout_seconds=600))) for _ in range(50)]
        await asyncio.sleep(0)
        try:
            result: SearchResult = await engine.search(
                "one", SearchRequest(sort=(SortKey("n", descending=True),), timeout_seconds=600)
            )
        finally:
            release.set()
        assert [hit.id for hit in result.hits] == ["d4", "d3", "d2", "d1", "d0"]
        assert {found.total for found in await asyncio.gather(*heavy)} == {5}
        await engine.close()

    asyncio.run(scenario())


def test_a_search_that_is_given_up_stops_at_its_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, given_up, over = threading.Event(), threading.Event(), threading.Event()
    ends: list[BaseException | None] = []
    run_search = hits.run_search

    def run_slowly(index: OpenIndex, request: SearchRequest) -> Any:
        begun.set()
        given_up.wait(60)
        try:
            run_search(index, request)
            ends.append(None)
        except EngineUnavailable as error:
            ends.append(error)
            raise
        finally:
            over.set()

    async def scenario() -> None:
        engine = await fill(tmp_path)
        monkeypatch.setattr(search_tantivy, "run_search", run_slowly)
        search = asyncio.create_task(engine.search("one", SearchRequest(sort=(SortKey("n"),), timeout_seconds=600)))
        await asyncio.to_thread(begun.wait, 60)
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search
        given_up.set()
        await asyncio.to_thread(over.wait, 60)
        await engine.close()

    asyncio.run(scenario())
    assert isinstance(ends[0], EngineUnavailable)


def test_no_step_begins_after_the_deadline() -> None:
    deadline = Deadline(3600)
    deadline.check()
    deadline.cancel()
    for late in (deadline, Deadline(0)):
        with pytest.raises(EngineUnavailable, match="given up"):
            late.check()
