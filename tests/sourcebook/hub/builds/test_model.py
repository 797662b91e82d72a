"""What a build configuration may say."""

import pytest
from pydantic import ValidationError

from sourcebook.hub.builds.model import BuildConfig, IndexSettings


@pytest.mark.parametrize("doc_type", ["query", "metadata", "status", "docs", "spec", "v1", "", "a/b", "1a"])
def test_a_document_type_is_a_path_that_no_route_has(doc_type: str) -> None:
    with pytest.raises(ValidationError, match="doc_type"):
        BuildConfig.model_validate({"name": "genes", "doc_type": doc_type, "sources": ["a"]})


@pytest.mark.parametrize(("count", "shards"), [(0, 1), (10_000_000, 1), (10_000_001, 2), (1_000_000_000, 100)])
def test_shards_follow_the_number_of_documents_unless_they_are_given(count: int, shards: int) -> None:
    assert IndexSettings().for_documents(count)["shards"] == shards
    assert IndexSettings(shards=5).for_documents(count)["shards"] == 5
