"""deploy/compose.yml from images to answers under a container engine: the gene example, three uploaders, containers that die.

`make test-containers`; it takes minutes, and is skipped where no engine runs.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.containers import Containers, find_reason_to_skip
from support.stack import SlowPlugin

REASON = find_reason_to_skip()
pytestmark = [pytest.mark.stack, pytest.mark.timeout(2400), pytest.mark.skipif(bool(REASON), reason=REASON)]
GENES = Path(__file__).resolve().parents[2] / "examples" / "genes"
SOURCES = ("hgnc", "ncbi_gene", "cpic")
SLOW = ("first", "second", "third")
TOTAL, PAIRS, SLOW_DOCUMENTS = 44_997, 75, 5_000


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gene plugins, and three whose parsers wait while a file is there; all are mounted into the containers."""
    folder = tmp_path_factory.mktemp("plugins")
    for name in SOURCES:
        shutil.copytree(GENES / name, folder / name)
    for name in SLOW:
        SlowPlugin(folder / name, SLOW_DOCUMENTS)
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory, plugins: Path) -> Iterator[Containers]:
    made = Containers(tmp_path_factory.mktemp("containers"), plugins)
    made.build()
    try:
        made.up()
        yield made
    finally:
        made.down()


def served(containers: Containers) -> tuple[int, int]:
    """How many genes the API has, and how many CPIC pairs one of them."""
    total = containers.client.get("/apis/genes/query?q=*&size=0").json()["total"]
    gene = containers.client.get("/apis/genes/gene/CYP2D6").json()
    return total, len(gene["cpic"]["pairs"])


def start_build(containers: Containers) -> str:
    # In full: where nothing changed, a build of the changes is over before it can be killed.
    return str(containers.post("/hub/builds", {"config": "genes", "mode": "full"})["id"])


def release(containers: Containers, build_job: dict[str, Any]) -> str:
    return str(containers.post(f"/hub/builds/{build_job['result']['build']}/release", {"mode": "full"})["id"])


def test_the_gene_example_is_served(containers: Containers) -> None:
    dumps = [containers.post(f"/hub/sources/{name}/dump")["id"] for name in SOURCES]
    for job_id in dumps:
        containers.wait_for_job(job_id)
    config = {"name": "genes", "doc_type": "gene", "sources": list(SOURCES), "root": ["hgnc"]}
    assert containers.client.put("/hub/build-configs/genes", json=config).is_success
    built = containers.wait_for_job(start_build(containers))
    containers.wait_for_job(release(containers, built))
    assert served(containers) == (TOTAL, PAIRS)


def test_containers_are_of_an_ordinary_user_and_write_to_their_volumes_alone(containers: Containers) -> None:
    for service in ("api", "uploader", "beat"):
        (container,) = containers.ids(service)
        assert containers.inside(container, "id", "-u").strip() == "10001"
        assert "denied" in containers.inside(container, "sh", "-c", "touch /srv/new /opt/new 2>&1 || echo denied")
        containers.inside(container, "touch", "/srv/sourcebook/new", "/srv/sourcebook/files/.new", "/tmp/new")  # noqa: S108
        containers.inside(container, "healthy")


def test_an_image_has_the_dependencies_of_its_service_alone(containers: Containers) -> None:
    uploader, api = containers.ids("uploader")[0], containers.ids("api")[0]
    look = "import importlib.util as u; print(*(n for n in ('fastapi', 'httpx', 'lmdb', 'motor', 'pip') if u.find_spec(n)))"
    assert containers.inside(uploader, "python", "-c", look).split() == ["motor"]
    assert containers.inside(api, "python", "-c", look).split() == ["fastapi", "motor"]


def test_of_three_uploaders_one_is_killed_and_one_is_stopped_in_the_middle(
    containers: Containers, plugins: Path
) -> None:
    containers.up("--scale", "uploader=3")
    uploaders = containers.ids("uploader")
    assert len(uploaders) == 3
    flags = [plugins / name / "slow_upload" for name in SLOW]
    for flag in flags:
        flag.touch()
    dumps = [containers.post(f"/hub/sources/{name}/dump")["id"] for name in SLOW]
    containers.wait_for(lambda: all(containers.job(job)["state"] == "succeeded" for job in dumps), 120, "the dumps")
    uploads = [containers.job(job)["children"][0] for job in dumps]
    # One job a container: all three run at once only because there are three.
    containers.wait_for(lambda: all(containers.job(job)["state"] == "running" for job in uploads), 60, "three uploads")
    assert containers.client.get("/health/queues").json()["upload"]["running"] == 3
    containers.run("docker", "kill", uploaders[0])
    containers.run("docker", "stop", "--time", "60", uploaders[1])
    for flag in flags:
        flag.unlink()
    ended = [containers.wait_for_job(job) for job in uploads]
    # The stopped worker handed its job back, which costs no attempt; the killed one's was taken over once its lock was free.
    assert sorted(job["attempt"] for job in ended) == [1, 1, 2]
    assert sum("stopped" in " ".join(job["warnings"]) for job in ended) == 1
    for name in SLOW:
        upload = containers.client.get(f"/hub/sources/{name}").json()["uploads"][name]
        assert upload["count"] == SLOW_DOCUMENTS
    assert served(containers) == (TOTAL, PAIRS)
    (left,) = containers.ids("uploader")
    metrics = containers.inside(
        left,
        "python",
        "-c",
        "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9464/metrics').read().decode())",
    )
    assert 'sourcebook_job_seconds_count{kind="upload",state="succeeded"}' in metrics
    containers.up("--scale", "uploader=1")


@pytest.mark.parametrize("service", ["builder", "indexer"])
def test_a_container_is_killed_while_it_works_for_a_release(containers: Containers, service: str) -> None:
    job_id = start_build(containers)
    if service == "indexer":
        job_id = release(containers, containers.wait_for_job(job_id))
    containers.wait_for(
        lambda: containers.job(job_id)["state"] != "running" or containers.job(job_id)["progress"]["done"] > 0,
        60,
        "the job to be in the middle",
    )
    assert containers.job(job_id)["state"] in {"queued", "running"}
    (container,) = containers.ids(service)
    containers.run("docker", "kill", container)
    assert served(containers) == (TOTAL, PAIRS)
    containers.up()
    job = containers.wait_for_job(job_id)
    if service == "builder":
        containers.wait_for_job(release(containers, job))
    assert served(containers) == (TOTAL, PAIRS)


def test_broker_gateway_and_document_store_are_killed_in_the_middle_of_an_upload(
    containers: Containers, plugins: Path
) -> None:
    flag = plugins / SLOW[0] / "slow_upload"
    flag.touch()
    upload = containers.post(f"/hub/sources/{SLOW[0]}/upload", {"force": True})
    upload_id = (upload[0] if isinstance(upload, list) else upload)["id"]
    containers.wait_for(lambda: containers.job(upload_id)["state"] == "running", 60, "the upload")
    for service in ("redis", "api", "mongo"):
        (container,) = containers.ids(service)
        containers.run("docker", "kill", container)
    containers.up()
    flag.unlink()
    containers.wait_for_job(upload_id)
    upload = containers.client.get(f"/hub/sources/{SLOW[0]}").json()["uploads"][SLOW[0]]
    assert upload["count"] == SLOW_DOCUMENTS
    assert served(containers) == (TOTAL, PAIRS)


def test_after_all_that_every_gene_is_there_once(containers: Containers) -> None:
    built = containers.wait_for_job(start_build(containers))
    containers.wait_for_job(release(containers, built))
    seen: list[str] = []
    page = containers.client.get("/apis/genes/query?q=*&fetch_all=true&fields=_id").json()
    while "hits" in page:
        seen += [hit["_id"] for hit in page["hits"]]
        page = containers.client.get(f"/apis/genes/query?scroll_id={page['_scroll_id']}").json()
    assert (len(seen), len(set(seen))) == (TOTAL, TOTAL)
    active = containers.client.get("/health/queues").json()
    assert {queue: load["active"] for queue, load in active.items()} == dict.fromkeys(active, 0)
