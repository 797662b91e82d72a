"""A source whose parser the test writes."""

from pathlib import Path

import pytest
from support.uploads import SourceBench


@pytest.fixture
def bench(tmp_path: Path) -> SourceBench:
    return SourceBench(tmp_path)
