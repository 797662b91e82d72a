"""Settings work with none set, and say what is wrong with one."""

from datetime import timedelta
from pathlib import Path

import pytest

from sourcebook.errors import SettingsError
from sourcebook.settings import Settings, load_settings, warn_of_renamed


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


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setenv("SOURCEBOOK_SECRETS", str(folder))
    return folder


def test_a_secret_is_read_from_its_file_which_wins_over_the_environment(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secrets / "sourcebook_documents_url").write_text("mongodb://me:hunter2@mongo/docs\n")
    (secrets / "of-another-program").write_text("x")
    monkeypatch.setenv("SOURCEBOOK_DOCUMENTS_URL", "mongodb://mongo/docs")
    monkeypatch.setenv("SOURCEBOOK_BROKER_URL", "redis://two/0")
    settings = load_settings()
    assert (settings.documents_url, settings.broker_url) == ("mongodb://me:hunter2@mongo/docs", "redis://two/0")
    assert load_settings(documents_url="lmdb:").documents_url == "lmdb:"


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("sourcebook_document_url", b"x", ["sourcebook_document_url", "did you mean sourcebook_documents_url"]),
        ("sourcebook_documents_url", b"\xff", ["SOURCEBOOK_SECRETS", "must be a folder"]),
    ],
    ids=["misspelt name", "no text"],
)
def test_a_wrong_file_among_the_secrets_is_named(secrets: Path, name: str, body: bytes, words: list[str]) -> None:
    (secrets / name).write_bytes(body)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_folder_of_secrets_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOURCEBOOK_SECRETS", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="nowhere"):
        load_settings()


def test_a_wrong_value_in_a_secret_is_not_quoted(secrets: Path) -> None:
    (secrets / "sourcebook_port").write_text("hunter2")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert "sourcebook_port" in str(caught.value)


@pytest.mark.parametrize("place", ["environment", "secrets"])
def test_the_earlier_name_of_the_state_counts_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, secrets: Path, place: str
) -> None:
    if place == "environment":
        monkeypatch.setenv("SOURCEBOOK_CATALOG_URL", "mongodb://old/hub")
    else:
        (secrets / "sourcebook_catalog_url").write_text("mongodb://old/hub\n")
    assert load_settings().state_url == "mongodb://old/hub"
    assert load_settings(state_url="sqlite:here").state_url == "sqlite:here"
    assert warn_of_renamed() == ["SOURCEBOOK_CATALOG_URL is now called SOURCEBOOK_STATE_URL: rename it."]


@pytest.mark.parametrize("place", ["environment", "secrets"])
def test_the_new_name_of_the_state_counts_where_both_are_set(
    monkeypatch: pytest.MonkeyPatch, secrets: Path, place: str
) -> None:
    (secrets / "sourcebook_catalog_url").write_text("mongodb://old/hub")
    monkeypatch.setenv("SOURCEBOOK_CATALOG_URL", "mongodb://older/hub")
    if place == "environment":
        monkeypatch.setenv("SOURCEBOOK_STATE_URL", "mongodb://new/hub")
    else:
        (secrets / "sourcebook_state_url").write_text("mongodb://new/hub")
    assert load_settings().state_url == "mongodb://new/hub"
    (warning,) = warn_of_renamed()
    assert "the new one counts" in warning


def test_no_warning_without_an_earlier_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCEBOOK_STATE_URL", "sqlite:")
    assert warn_of_renamed() == []
