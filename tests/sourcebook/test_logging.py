"""Log lines carry their context and no secret."""

import json
import logging

import pytest

from sourcebook.logging import (
    bind_log_context,
    configure_logging,
    get_logger,
    hide_secrets,
    hide_secrets_in,
    strip_controls,
)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
        ("to mongodb://me:p%40ss@a,b/x and https://u:v@w/", "to mongodb://me:***@a,b/x and https://u:***@w/"),
        ("http://host:8000/path@x", "http://host:8000/path@x"),
        ("nothing here", "nothing here"),
        ("redis://:p@ss:w@host/0", "redis://:***@host/0"),
        ("https://ghp_abc@github.com/x", "https://***@github.com/x"),
        ("git+https://ghp_abc@github.com/x.git@v1", "git+https://***@github.com/x.git@v1"),
        ("mongodb://me@host/x and ssh://git@host", "mongodb://me@host/x and ssh://git@host"),
        ("https://h/a?token=abc&v=1", "https://h/a?token=***&v=1"),
        ("https://h/a?v=1&api_key=abc#access_token=def", "https://h/a?v=1&api_key=***#access_token=***"),
        (
            "https://b.s3/k?X-Amz-Credential=A%2Fb&X-Amz-Date=2026&X-Amz-Signature=0af1.",
            "https://b.s3/k?X-Amz-Credential=***&X-Amz-Date=2026&X-Amz-Signature=***",
        ),
        ("https://b.blob/k?sv=2020&sig=a%2Bb", "https://b.blob/k?sv=2020&sig=***"),
        ("'https://h/?KEY=abc', twice", "'https://h/?KEY=***', twice"),
        ("Authorization: Basic bWU6c2VjcmV0", "Authorization: Basic ***"),
        ("header Bearer eyJhbGciOi.x-y_z==", "header Bearer ***"),
        ("https://h/q?author=me&keyword=x&tokens=3", "https://h/q?author=me&keyword=x&tokens=3"),
    ],
)
def test_passwords_of_urls_are_hidden(text: str, hidden: str) -> None:
    assert hide_secrets(text) == hidden


def test_secrets_are_hidden_however_deep_a_value_is() -> None:
    told = {"urls": ["https://h/?token=abc", {"a": ("ftp://me:pw@h",)}], "count": 3}
    assert hide_secrets_in(told) == {"urls": ["https://h/?token=***", {"a": ["ftp://me:***@h"]}], "count": 3}


def test_what_a_terminal_would_obey_is_replaced() -> None:
    assert strip_controls("v1\x1b[31m\r\x9b2J\x00\u202e", "_") == "v1_[31m__2J__"
    assert strip_controls("a\tb\nc \u00e9 \u4e2d") == "a\tb\nc \u00e9 \u4e2d"


@pytest.mark.parametrize("as_json", [True, False])
def test_neither_secrets_nor_control_characters_get_into_a_line(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("INFO", as_json=as_json)
        get_logger("test").warning("found", release="v1\x1b[31m", urls=["https://h/?token=hunter2"])
        error = ValueError("from redis://:hunter2@host/\x1b[2J")
        get_logger("test").error("broken", exc_info=error)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    lines = capsys.readouterr().err
    assert "hunter2" not in lines
    assert "ValueError" in lines
    assert "\x1b" not in lines


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
