"""What a build configuration may say."""

import pytest
from pydantic import ValidationError

from sourcebook.model.build import BuildConfig


@pytest.mark.parametrize("doc_type", ["query", "metadata", "status", "docs", "spec", "v1", "", "a/b", "1a"])
def test_a_document_type_is_a_path_that_no_route_has(doc_type: str) -> None:
    with pytest.raises(ValidationError, match="doc_type"):
        BuildConfig.model_validate({"name": "genes", "doc_type": doc_type, "sources": ["a"]})
