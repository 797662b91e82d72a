"""Log lines carry their context and no secret."""

import json
import logging

import pytest

from sourcebook.logging import bind_log_context, configure_logging, get_logger, hide_secrets


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
        ("to mongodb://me:p%40ss@a,b/x and https://u:v@w/", "to mongodb://me:***@a,b/x and https://u:***@w/"),
        ("http://host:8000/path@x", "http://host:8000/path@x"),
        ("nothing here", "nothing here"),
    ],
)
def test_passwords_of_urls_are_hidden(text: str, hidden: str) -> None:
    assert hide_secrets(text) == hidden


def test_a_json_line_has_context_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("INFO", as_json=True)
        with bind_log_context(job="j1"):
            get_logger("test").info("connected", url="redis://:hunter2@host/")
            logging.getLogger("other").warning("from redis://:hunter2@host/")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["job"], first["url"]) == ("connected", "j1", "redis://:***@host/")
    assert (second["event"], second["job"]) == ("from redis://:***@host/", "j1")


@pytest.mark.parametrize("name", ["httpx", "opensearch", "pymongo.command", "kombu.connection"])
def test_libraries_write_no_line_for_each_request(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("DEBUG", as_json=True)
        logging.getLogger(name).info("GET http://host:9200/ [status:200]")
        logging.getLogger(name).error("it is broken")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "it is broken"
