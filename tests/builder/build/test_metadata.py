"""What a build says of itself: which source contributes what, and what the mapping leaves out."""

from typing import Any

from sourcebook.hub.builds.model import BuildConfig
from sourcebook.hub.mappings.model import Mapping
from sourcebook_builder.build.metadata import describe_build

KEYWORD: dict[str, Any] = {"type": "keyword"}


def test_fields_that_are_not_in_the_mapping_are_counted_over_all_sources() -> None:
    inferred = {"a": KEYWORD, "new": {"type": "integer"}, "o": {"properties": {"x": KEYWORD}}}
    counts = {"a": 9, "new": 4, "o": 3, "o.x": 3}
    mappings = {
        "one": Mapping(name="one", inferred=inferred, committed={"a": KEYWORD}, counts=counts),
        "two": Mapping(name="two", inferred=inferred, committed={"a": KEYWORD, "o": inferred["o"]}, counts=counts),
    }
    config = BuildConfig(name="c", doc_type="thing", sources=["one", "two"])
    described = describe_build(config, [], total=9, version="1", mappings=mappings)
    assert described["_unmapped"] == {"new": {"type": "integer", "values": 8}}  # the other source maps `o` for both
    assert described["_root_keys"] == {"a": ["one", "two"], "o": ["two"]}
