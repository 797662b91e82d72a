"""deploy/compose.yml and deploy/Dockerfile: every service, known settings, nothing writable or privileged, little published."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from sourcebook.flow.stages import BEAT_QUEUE
from sourcebook.flow.stages import SERVICES as WORKERS
from sourcebook.settings import RENAMED, Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
SERVICES = ("api", *WORKERS.values(), BEAT_QUEUE)
ENGINES = ("redis", "mongo", "opensearch")
KNOWN = {f"SOURCEBOOK_{name.upper()}" for name in (*Settings.model_fields, *RENAMED)}


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_built_for_itself_and_can_write_to_its_volumes_alone(name: str) -> None:
    service: dict[str, Any] = COMPOSE["services"][name]
    assert service["build"]["args"] == {"SERVICE": name}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"/srv/sourcebook", "files:/srv/sourcebook/files"} <= set(service["volumes"])
    (secrets,) = [item for item in service["volumes"] if "SECRETS_FOLDER" in item]
    assert secrets.endswith(f":{service['environment']['SOURCEBOOK_SECRETS']}:ro")
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - a folder of the container
    assert service["mem_limit"]
    assert set(service["depends_on"]) == set(ENGINES)
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_a_worker_is_given_more_time_than_its_job(name: str) -> None:
    service = COMPOSE["services"][name]
    grace = re.search(r":-(\d+)\}", service["environment"]["SOURCEBOOK_STOP_GRACE"])
    assert grace
    if name != "api":
        assert seconds(service["stop_grace_period"]) >= int(grace[1]) + 30


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_pinned_checked_kept_and_out_of_reach(name: str) -> None:
    engine = COMPOSE["services"][name]
    assert re.search(r":\d+\.\d+\.\d+", engine["image"])
    assert engine["healthcheck"]["test"]
    assert engine["volumes"][0].partition(":")[0] in COMPOSE["volumes"]
    assert engine["mem_limit"]
    assert engine["networks"] == ["engines"]
    assert "ports" not in engine


def test_only_the_gateway_is_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert list(published) == ["api"]
    assert all(port.startswith("127.0.0.1:") for port in published["api"])
    assert COMPOSE["networks"]["engines"]["internal"] is True


def test_every_setting_that_is_named_exists() -> None:
    text = DOCKERFILE + (ROOT / "deploy" / "compose.yml").read_text()
    assert set(re.findall(r"SOURCEBOOK_[A-Z_0-9]+[A-Z0-9]", text)) <= KNOWN


def test_the_image_of_a_service_works_on_its_queue() -> None:
    commands = dict(re.findall(r"(\w+)\) command='([\w ]+)'", DOCKERFILE))
    workers = {service: f"worker {queue}" for queue, service in WORKERS.items()}
    assert commands == {**workers, BEAT_QUEUE: f"worker {BEAT_QUEUE}", "api": "api"}
    (named,) = re.findall(r"SERVICE=([\w|]+),", DOCKERFILE)
    assert set(named.split("|")) == set(SERVICES)


def test_compose_has_the_services_and_the_engines_and_nothing_else() -> None:
    assert set(COMPOSE["services"]) == {*SERVICES, *ENGINES}


def test_the_image_is_of_an_ordinary_user_with_tini_and_a_health_check() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "\nUSER 10001:10001\n" in final
    assert 'ENTRYPOINT ["tini", "--"' in final
    assert "\nHEALTHCHECK " in final
    assert re.search(r"ARG BASE_IMAGE=python:\d+\.\d+\.\d+-slim", DOCKERFILE)


def test_images_take_their_dependencies_from_extras_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    engines = re.search(r"ARG ENGINES=([\w,]+)", DOCKERFILE)
    assert engines
    assert {*SERVICES, *engines[1].split(","), "embedded"} <= set(project["optional-dependencies"])
    (everything,) = project["optional-dependencies"]["all"]
    assert set(re.findall(r"\w+", everything)) - {"sourcebook"} == set(project["optional-dependencies"]) - {"all"}
