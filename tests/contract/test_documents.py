"""The contract of document stores, on every engine."""

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcebook.backends import open_documents
from sourcebook.errors import NotFound
from sourcebook.hub.documents.record import Digest, Record, make_record, record_body
from sourcebook.ports.documents import DocumentStore
from sourcebook.settings import Settings

Scenario = Callable[[DocumentStore], Awaitable[None]]
pytestmark = pytest.mark.usefixtures("documents_engine")
only_on_lmdb = pytest.mark.parametrize("documents_engine", ["lmdb"], indirect=True)


def run(home: Path, scenario: Scenario) -> None:
    async def main() -> None:
        store = await open_documents(Settings(home=home))
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def records(*ids: str) -> list[Record]:
    return sorted(make_record({"_id": item, "value": item.upper()}) for item in ids)


def scaled(count: int) -> int:
    """Return how many documents stand for many: the stand-ins of other engines are slow."""
    return count // 50 if "SOURCEBOOK_DOCUMENTS_URL" in os.environ else count


async def fill(store: DocumentStore, name: str, *ids: str) -> None:
    async with store.create(name) as writer:
        await writer.write(records(*ids))
        await writer.commit()


def test_a_committed_collection_is_read_back_in_key_order(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        ids = [f"id{number}" for number in range(25)]
        await fill(store, "c", *ids)
        batches = [batch async for batch in store.scan("c", size=10)]
        assert [len(batch) for batch in batches] == [10, 10, 5]
        assert [record for batch in batches for record in batch] == records(*ids)

    run(tmp_path, scenario)


def test_info_counts_and_digests_independently_of_the_batches(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "one", "a", "b", "c")
        async with store.create("two") as writer:
            for record in records("a", "b", "c"):
                await writer.write([record])
            await writer.commit()
        one, two = await store.info("one"), await store.info("two")
        assert one is not None
        assert two is not None
        assert (one.count, one.digest) == (two.count, two.digest) == (3, one.digest)
        digest = Digest()
        digest.add(value for _, value in reversed(records("a", "b", "c")))
        assert digest.hex() == one.digest

    run(tmp_path, scenario)


def test_a_range_scan_has_its_start_and_not_its_stop(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", *"abcdef")
        for size in (1, 2, 3, 100):
            found = [record[0] async for batch in store.scan("c", start=b"b", stop=b"e", size=size) for record in batch]
            assert found == [b"b", b"c", b"d"]

    run(tmp_path, scenario)


def test_get_many_answers_in_order_with_none_for_the_missing(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", "a", "b")
        bodies = await store.get_many("c", ["b", "x", "a", "", "b"])
        expected = [record_body(records(item)[0]) for item in "ba"]
        assert bodies == [expected[0], None, expected[1], None, expected[0]]
        many = await store.get_many("c", ["a"] * 200)
        assert many == [expected[1]] * 200

    run(tmp_path, scenario)


def test_ids_of_511_and_512_bytes_are_kept_apart(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        ids = ["x" * 511, "x" * 512, "x" * 511 + "y"]
        await fill(store, "c", *ids)
        bodies = await store.get_many("c", ids)
        assert [
            body is not None and f'"_id":"{item}"'.encode() in body for body, item in zip(bodies, ids, strict=True)
        ] == [True] * 3

    run(tmp_path, scenario)


def test_keys_that_do_not_ascend_are_refused(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        for bad in (["b", "a"], ["a", "a"]):
            with pytest.raises(ValueError, match="ascend"):
                async with store.create("c") as writer:
                    await writer.write([records(item)[0] for item in bad])
        async with store.create("c") as writer:
            await writer.write(records("b"))
            with pytest.raises(ValueError, match="follow"):
                await writer.write(records("a"))
        assert await store.names() == []

    run(tmp_path, scenario)


def test_nothing_is_visible_without_commit(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        async with store.create("c") as writer:
            await writer.write(records("a"))
            assert await store.info("c") is None
            with pytest.raises(NotFound):
                await store.get_many("c", ["a"])
        assert await store.names() == []

    run(tmp_path, scenario)


def test_the_first_commit_of_a_name_stays(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        async with store.create("c") as first, store.create("c") as second:
            await first.write(records("a"))
            await second.write(records("b"))
            await first.commit()
            info = await second.commit()
        assert info.count == 1
        assert await store.get_many("c", ["a", "b"]) == [record_body(records("a")[0]), None]

    run(tmp_path, scenario)


def test_a_reader_of_a_dropped_collection_finishes(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", *"abcd")
        seen = []
        async for batch in store.scan("c", size=2):
            seen += batch
            await store.drop("c")
        assert len(seen) == 4
        assert await store.names() == []
        await store.drop("c")

    run(tmp_path, scenario)


def test_an_empty_collection_is_complete(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c")
        info = await store.info("c")
        assert info is not None
        assert info.count == 0
        assert [batch async for batch in store.scan("c")] == []

    run(tmp_path, scenario)


def test_names_that_leave_the_folder_are_unknown(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        for name in ("../x", ".new", "a/b"):
            with pytest.raises(NotFound):
                await store.get_many(name, ["a"])

    run(tmp_path, scenario)


def test_more_collections_than_stay_open_can_be_read(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        for number in range(40):
            await fill(store, f"c{number}", str(number))
        for _ in range(2):
            for number in range(40):
                assert await store.get_many(f"c{number}", [str(number)]) != [None]

    run(tmp_path, scenario)


@only_on_lmdb
@settings(max_examples=25, deadline=None)
@given(
    ids=st.sets(st.text(min_size=1, max_size=30).filter(lambda text: text.isprintable()), max_size=60),
    size=st.integers(1, 20),
)
def test_any_ids_round_trip(tmp_path_factory: pytest.TempPathFactory, ids: set[str], size: int) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", *ids)
        assert [record async for batch in store.scan("c", size=size) for record in batch] == records(*ids)

    run(tmp_path_factory.mktemp("store"), scenario)


def test_ids_of_all_kinds_keep_their_bytewise_order(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        ids = [
            "a",
            "a\0b",
            "aZ",
            "aa",
            "a~",
            "aü",
            "$set",
            "a.b",
            "Ω",
            "zz",
            "\uffff",
            "\U0001f600",
            "x" * 512,
            "ü" * 256,
            "0",
        ]
        await fill(store, "c", *ids)
        expected = records(*ids)
        assert await read_all(store, "c") == expected
        assert [record async for batch in store.scan("c", size=2) for record in batch] == expected
        assert await store.get_many("c", ids) == [record_body(records(item)[0]) for item in ids]
        middle = expected[7][0]
        assert [record async for batch in store.scan("c", start=middle) for record in batch] == expected[7:]

    run(tmp_path, scenario)


def test_a_writer_that_is_cancelled_leaves_nothing_and_harms_nobody(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        many = records(*(f"id{number:06}" for number in range(scaled(60_000))))

        async def fill_slowly() -> None:
            async with store.create("c") as writer:
                for start in range(0, len(many), scaled(20_000)):
                    await writer.write(many[start : start + scaled(20_000)])
                await writer.commit()

        for delay in (0.0, 0.005, 0.02, 0.05):
            task = asyncio.create_task(fill_slowly())
            await asyncio.sleep(delay)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await store.drop("c")
        assert await store.names() == []

    run(tmp_path, scenario)


def test_a_reader_that_is_cancelled_does_not_hold_the_store(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", *(f"id{number:06}" for number in range(scaled(50_000))))

        async def read() -> None:
            async for _ in store.scan("c", size=scaled(10_000)):
                pass

        for delay in (0.0, 0.002, 0.01):
            task = asyncio.create_task(read())
            await asyncio.sleep(delay)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    run(tmp_path, scenario)


@only_on_lmdb
def test_what_a_dead_writer_left_is_removed_and_a_living_one_is_let_be(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        dead = tmp_path / "documents" / ".new" / "gone.1234"
        dead.mkdir(parents=True)
        (dead / "data.mdb").write_bytes(b"half")
        lock = tmp_path / "documents" / ".new" / "part~x~y.z.1234.lock"
        lock.touch()  # of one that died before it had a folder
        async with store.create("a") as living:
            await living.write(records("a"))
            await fill(store, "b", "b")
            assert not dead.exists()
            assert not lock.exists()
            await living.commit()
        assert await store.names() == ["a", "b"]
        assert list((tmp_path / "documents" / ".new").iterdir()) == []

    run(tmp_path, scenario)


def test_a_name_that_was_dropped_may_be_written_again(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c", "a")
        assert await store.get_many("c", ["a", "b"]) != [None, None]
        seen = []
        async for batch in store.scan("c", size=1):
            seen += batch
            await store.drop("c")
            await fill(store, "c", "b")
        assert seen == records("a")
        assert await store.get_many("c", ["a", "b"]) == [None, record_body(records("b")[0])]

    run(tmp_path, scenario)


async def read_all(store: DocumentStore, name: str) -> list[Record]:
    return [record async for batch in store.scan(name) for record in batch]


def test_puts_and_deletions_in_any_order_keep_count_and_digest(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        values = random.Random(5)  # noqa: S311 - any order will do
        await fill(store, "base", *(f"id{number}" for number in range(250)))
        expected = dict(await read_all(store, "base"))
        async with store.derive("derived", "base") as patcher:
            for _ in range(3):
                fresh = [make_record({"_id": f"id{values.randrange(300)}", "v": values.random()}) for _ in range(120)]
                gone = [f"id{values.randrange(300)}".encode() for _ in range(120)]
                await patcher.put(fresh)
                await patcher.delete(gone)
                expected |= dict(fresh)
                expected = {key: value for key, value in expected.items() if key not in gone}
            info = await patcher.commit()
        digest = Digest()
        digest.add(expected.values())
        assert (info.count, info.digest) == (digest.count, digest.hex())
        assert await read_all(store, "derived") == sorted(expected.items())

    run(tmp_path, scenario)


@only_on_lmdb
@settings(max_examples=40, deadline=None)
@given(
    base=st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 3)),
    steps=st.lists(
        st.dictionaries(st.sampled_from("abcdefghijkl"), st.integers(0, 3))
        | st.lists(st.sampled_from("abcdefghijkl"), unique=True),
        max_size=4,
    ),
)
def test_a_derived_collection_is_as_if_written_from_nothing(
    tmp_path_factory: pytest.TempPathFactory, base: dict[str, int], steps: list[dict[str, int] | list[str]]
) -> None:
    def as_records(values: dict[str, int]) -> list[Record]:
        return sorted(make_record({"_id": key, "value": value}) for key, value in values.items())

    async def scenario(store: DocumentStore) -> None:
        async with store.create("base") as writer:
            await writer.write(as_records(base))
            await writer.commit()
        expected = dict(base)
        async with store.derive("derived", "base") as patcher:
            for step in steps:
                if isinstance(step, dict):
                    expected |= step
                    await patcher.put(as_records(step)[::-1])
                else:
                    expected = {key: value for key, value in expected.items() if key not in step}
                    await patcher.delete([key.encode() for key in step])
            info = await patcher.commit()
        async with store.create("full") as writer:
            await writer.write(as_records(expected))
            full = await writer.commit()
        assert (info.name, info.count, info.digest) == ("derived", full.count, full.digest)
        assert await store.info("derived") == info
        assert await read_all(store, "derived") == as_records(expected)
        assert await read_all(store, "base") == as_records(base)

    run(tmp_path_factory.mktemp("store"), scenario)


def test_a_derived_collection_needs_its_base_only_to_begin(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "base", *"abc")
        async with store.derive("derived", "base") as patcher:
            await store.drop("base")
            await patcher.put(records("d"))
            await patcher.commit()
        assert await read_all(store, "derived") == records(*"abcd")
        with pytest.raises(NotFound, match="'base'"):
            async with store.derive("other", "base"):
                pass
        assert await store.names() == ["derived"]

    run(tmp_path, scenario)


def test_a_derived_collection_can_be_derived_from(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "c0", *(f"id{number:04}" for number in range(500)))
        expected = {record[0]: record for record in await read_all(store, "c0")}
        for turn in range(1, 12):
            async with store.derive(f"c{turn}", f"c{turn - 1}") as patcher:
                fresh = [make_record({"_id": f"id{number:04}", "turn": turn}) for number in range(turn, 600, 50)]
                gone = [f"id{number:04}".encode() for number in range(turn + 20, 600, 70)]
                await patcher.put(fresh)
                await patcher.delete(gone)
                await patcher.commit()
            expected |= {record[0]: record for record in fresh}
            expected = {key: record for key, record in expected.items() if key not in gone}
            await store.drop(f"c{turn - 1}")
        assert await read_all(store, "c11") == sorted(expected.values())
        ids = [key.decode() for key in expected]
        assert await store.get_many("c11", ids) == [record_body(record) for record in expected.values()]

    run(tmp_path, scenario)


def test_an_abandoned_derivation_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "base", "a")
        async with store.derive("derived", "base") as patcher:
            await patcher.put(records("b"))
            assert await store.info("derived") is None
        assert await store.names() == ["base"]
        if (tmp_path / "documents").exists():
            assert list((tmp_path / "documents" / ".new").iterdir()) == []

    run(tmp_path, scenario)


def test_the_first_of_two_derivations_of_a_name_stays(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await fill(store, "base", "a")
        async with store.derive("c", "base") as first, store.derive("c", "base") as second:
            await first.put(records("b"))
            await second.put(records("c"))
            await first.commit()
            info = await second.commit()
        assert (info.count, await read_all(store, "c")) == (2, records(*"ab"))

    run(tmp_path, scenario)


async def fill_parts(store: DocumentStore, *groups: Sequence[str]) -> list[str]:
    names = [f"part{number}" for number in range(len(groups))]
    for name, ids in zip(names, groups, strict=True):
        await fill(store, name, *ids)
    return names


def test_joined_collections_are_as_if_written_at_once(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        ids = [f"id{number:03}" for number in range(60)]
        parts = await fill_parts(store, ids[:7], [], ids[7:40], ids[40:], [])
        info = await store.join("joined", parts)
        await fill(store, "whole", *ids)
        whole = await store.info("whole")
        assert whole is not None
        assert (info.name, info.count, info.digest) == ("joined", whole.count, whole.digest)
        assert await store.info("joined") == info
        for part in parts:
            await store.drop(part)
        assert await store.names() == ["joined", "whole"]
        assert await read_all(store, "joined") == await read_all(store, "whole")
        asked = ["id050", "x", "id006", "id007", "", "a", "id059", "id000"]
        assert await store.get_many("joined", asked) == await store.get_many("whole", asked)
        for start, stop in (
            (b"id005", b"id041"),
            (b"id007", b"id040"),
            (b"id039", None),
            (None, b"id007"),
            (b"x", None),
        ):
            for size in (1, 6, 100):
                found = [
                    [record async for batch in store.scan(name, start=start, stop=stop, size=size) for record in batch]
                    for name in ("joined", "whole")
                ]
                assert found[0] == found[1]

    run(tmp_path, scenario)


def test_the_parts_of_a_joined_collection_stay(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        parts = await fill_parts(store, "ab", "cd")
        await store.join("joined", parts)
        await store.drop("joined")
        assert await read_all(store, parts[1]) == records(*"cd")
        await store.join("joined", parts)
        await store.join("again", ["joined"])
        await store.drop("joined")
        await store.drop(parts[0])
        await fill(store, "other", "x")  # a writer removes what nobody can find
        assert await read_all(store, "again") == records(*"abcd")
        assert await store.names() == ["again", "other", parts[1]]

    run(tmp_path, scenario)


def test_a_joined_collection_can_be_derived_from(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        await store.join("joined", await fill_parts(store, "ab", "cd", "ef"))
        async with store.derive("derived", "joined") as patcher:
            await patcher.delete([b"c"])
            await patcher.put(records("x"))
            info = await patcher.commit()
        assert info.count == 6
        assert await read_all(store, "derived") == records(*"abdefx")
        assert await read_all(store, "joined") == records(*"abcdef")

    run(tmp_path, scenario)


def test_a_join_refuses_what_does_not_ascend_or_is_not_there(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        parts = await fill_parts(store, "bc", "ad", "c")
        for wrong in (parts[:2], [parts[0], parts[2]]):
            with pytest.raises(ValueError, match=r"ascend|follow"):
                await store.join("joined", wrong)
        with pytest.raises(NotFound, match="'gone'"):
            await store.join("joined", [parts[0], "gone"])
        assert await store.names() == parts
        await fill(store, "joined", "first")
        assert (await store.join("joined", parts[:1])).count == 1
        assert await read_all(store, "joined") == records("first")

    run(tmp_path, scenario)


def test_a_join_of_nothing_is_empty(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        info = await store.join("joined", await fill_parts(store, [], []))
        assert info.count == 0
        assert await read_all(store, "joined") == []
        assert await store.get_many("joined", ["a"]) == [None]
        await store.drop("joined")

    run(tmp_path, scenario)


def test_a_join_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        ids = [f"id{number:06}" for number in range(scaled(20_000))]
        parts = await fill_parts(store, ids[: len(ids) // 2], ids[len(ids) // 2 :])
        for delay in (0.0, 0.001, 0.005, 0.02):
            task = asyncio.create_task(store.join("joined", parts))
            await asyncio.sleep(delay)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await store.drop("joined")
        assert await store.names() == parts
        assert (await store.join("joined", parts)).count == len(ids)

    run(tmp_path, scenario)


def test_sampled_keys_cut_a_collection_into_equal_pieces(tmp_path: Path) -> None:
    async def scenario(store: DocumentStore) -> None:
        ids = [f"id{number:03}" for number in range(50)]
        await fill(store, "c", *ids)
        for step in (1, 7, 25, 50, 51):
            assert await store.sample_keys("c", step) == [item.encode() for item in ids[step - 1 :: step]]
        await store.join("joined", await fill_parts(store, ids[:20], ids[20:]))
        assert len(await store.sample_keys("joined", 5)) == 10
        await fill(store, "empty")
        assert await store.sample_keys("empty", 3) == []
        with pytest.raises(NotFound, match="'gone'"):
            await store.sample_keys("gone", 3)

    run(tmp_path, scenario)
