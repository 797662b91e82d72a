"""Settings work with none set, and say what is wrong with one."""

from datetime import timedelta
from pathlib import Path

import pytest

from sourcebook.errors import SettingsError
from sourcebook.settings import Settings, load_settings


def test_defaults_work_with_none_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.home == tmp_path / ".sourcebook"
    assert settings.host == "127.0.0.1"
    assert settings.celery_broker_url == f"redis+socket://{tmp_path}/.sourcebook/run/broker.sock"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCEBOOK_PORT", "8123")
    monkeypatch.setenv("SOURCEBOOK_LOCK_TTL", "2.5")
    monkeypatch.setenv("SOURCEBOOK_PLUGINS", "/a:/b/c")
    monkeypatch.setenv("SOURCEBOOK_BROKER_URL", "redis://localhost/3")
    settings = load_settings()
    assert (settings.port, settings.lock_ttl) == (8123, timedelta(seconds=2.5))
    assert settings.plugin_folders == [Path("/a"), Path("/b/c")]
    assert settings.celery_broker_url == "redis://localhost/3"
    assert load_settings(port=9).port == 9


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("rediss://host/0", "rediss://host/0?ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_ca_certs=/ca.pem", "rediss://host/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=none", "rediss://host/0?ssl_cert_reqs=none"),
    ],
)
def test_the_brokers_certificate_is_checked_unless_the_url_says_otherwise(url: str, used: str) -> None:
    assert Settings(broker_url=url).celery_broker_url == used


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SOURCEBOOK_PROT", "1", ["SOURCEBOOK_PROT", "SOURCEBOOK_PORT"]),
        ("SOURCEBOOK_PORT", "http", ["SOURCEBOOK_PORT", "'http'", "integer"]),
        ("SOURCEBOOK_PORT", "70000", ["SOURCEBOOK_PORT", "65535"]),
        ("SOURCEBOOK_LOG_LEVEL", "loud", ["SOURCEBOOK_LOG_LEVEL", "DEBUG"]),
    ],
    ids=["misspelt name", "no number", "too large", "unknown level"],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: list[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_home_too_deep_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    deep = Settings(home=tmp_path / ("x" * 120))
    assert len(str(deep.broker_socket)) < 108
    assert deep.broker_socket != Settings(home=tmp_path / ("y" * 120)).broker_socket
