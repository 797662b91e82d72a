"""A time behind a space is the same moment as behind a T, on every engine."""

import asyncio
from pathlib import Path

from support.search_corpus import Corpus, fill, open_engines

from sourcebook.language.iso_dates import is_date

MOMENTS = [
    "2023-05-01 10:00",
    "2023-05-01 10:00:00",
    "2023-05-01 10:00:00.000",
    "2023-05-01 10:00:00.000000",
    "2023-05-01 10:00:00.000000000Z",
    "2023-05-01 12:00:00+02:00",
    "2023-05-01T10:00:00",
    "2023-04-30T16:00:00-18:00",
]


def test_a_time_behind_a_space_is_found(tmp_path: Path, search_engine: str) -> None:
    del search_engine
    contents = [{"_id": f"d{at}", "at": text} for at, text in enumerate(MOMENTS)]
    contents += [{"_id": "later", "at": "2023-05-01 10:00:01"}]

    async def scenario() -> None:
        async with open_engines(tmp_path) as (engine, documents):
            corpus = Corpus(engine, documents, "dates")
            assert await fill(corpus, contents, {"at": {"type": "date"}}) == len(contents)
            expected = [f"d{at}" for at in range(len(MOMENTS))]
            assert sorted(await corpus.ids('at:"2023-05-01T10:00:00Z"')) == expected
            assert sorted(await corpus.ids('at:"2023-05-01 10:00:00"')) == expected
            assert await corpus.ids("at:{2023-05-01T10:00:00.999Z TO *]") == ["later"]

    assert all(is_date(text) for text in MOMENTS)
    asyncio.run(scenario())
