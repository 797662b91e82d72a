"""One stack a module: starting it takes seconds."""

from collections.abc import Iterator

import pytest
from support.stack import SlowPlugin, Stack, release


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("stack"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def plugin(stack: Stack) -> SlowPlugin:
    """A registered plugin, uploaded, built and served as API `things`."""
    made = SlowPlugin(stack.folder / "things", 40_000)
    assert stack.post("/hub/plugins", {"folder": str(made.folder)}).status_code in {200, 201}
    config = {"name": "things", "doc_type": "thing", "sources": ["things"]}
    assert stack.client.put("/hub/build-configs/things", json=config).is_success
    release(stack, made)
    return made
