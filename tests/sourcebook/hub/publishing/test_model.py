"""The shortest way from what is here to a published release."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sourcebook.hub.publishing.model import Content, PublishedBase, PublishedVersion, find_path


def content(number: int) -> Content:
    return Content(number, f"{number:032x}")


def version(new: int, old: int | None = None, *, size: int = 10) -> PublishedVersion:
    base = None if old is None else PublishedBase(build=f"b{old}", count=old, digest=f"{old:032x}")
    return PublishedVersion(
        build=f"b{new}",
        build_version=str(new),
        type="full" if old is None else "incremental",
        base=base,
        url=f"full/b{new}/metadata.json",
        count=new,
        digest=f"{new:032x}",
        size=size,
        sha256="0" * 64,
    )


def steps(versions: list[PublishedVersion], target: int, *have: int) -> list[str] | None:
    path = find_path(versions, content(target), [content(number) for number in have])
    return None if path is None else [f"{item.base.build if item.base else ''}>{item.build}" for item in path]


CHAIN = [version(1, size=100), version(2, 1), version(3, 2), version(4, 3), version(4, size=100)]


def test_a_machine_with_nothing_takes_the_full_release_that_costs_least() -> None:
    assert steps(CHAIN, 4) == [">b4"]
    assert steps(CHAIN, 3) == [">b1", "b1>b2", "b2>b3"]


def test_a_machine_that_has_some_takes_increments_unless_the_full_release_is_smaller() -> None:
    assert steps(CHAIN, 4, 1, 2) == ["b2>b3", "b3>b4"]
    assert steps([*CHAIN[:-1], version(4, size=5)], 4, 2) == [">b4"]
    assert steps(CHAIN, 4, 4) == []


def test_no_way_is_none() -> None:
    assert steps(CHAIN[1:3], 3) is None
    assert steps([], 1) is None


def test_increments_in_a_circle_end() -> None:
    assert steps([version(2, 1), version(1, 2), version(3, 2)], 3, 1) == ["b1>b2", "b2>b3"]
    assert steps([version(2, 1), version(1, 2)], 3, 1) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 5), st.integers(0, 9)), max_size=12))
def test_a_path_leads_from_step_to_step(entries: list[tuple[int, int | None, int]]) -> None:
    versions = [version(new, old, size=size) for new, old, size in entries]
    path = find_path(versions, content(3), [content(0)])
    reached: Content | None = None
    for number, item in enumerate(path or []):
        base = Content(item.base.count, item.base.digest) if item.base else None
        assert base in ({None, content(0)} if number == 0 else {reached})
        reached = item.content
    assert reached == (content(3) if path else None)


@pytest.mark.parametrize(
    "url", ["x/metadata.json", "full/../x/metadata.json", "full/a b/metadata.json", "full/x/y.json"]
)
def test_an_entry_cannot_lead_out_of_its_address(url: str) -> None:
    with pytest.raises(ValidationError):
        PublishedVersion.model_validate({**version(1).model_dump(), "url": url})
