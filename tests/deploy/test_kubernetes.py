"""deploy/k8s: every queue has a worker that scales, known settings, probes, the restricted standard, time to stop."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sourcebook.flow.stages import BEAT_QUEUE, SERVICES
from sourcebook.hub.jobs.queues import QueueLoad
from sourcebook.settings import Settings

K8S = Path(__file__).resolve().parents[2] / "deploy" / "k8s"
KNOWN = {f"SOURCEBOOK_{name.upper()}" for name in Settings.model_fields}
QUEUE_OF = {service: queue for queue, service in SERVICES.items()}
WORKERS = (*QUEUE_OF, BEAT_QUEUE)


def load(path: str) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all((K8S / path).read_text()) if item]


def find(path: str, kind: str, name: str | None = None) -> dict[str, Any]:
    (found,) = [item for item in load(path) if item["kind"] == kind and name in (None, item["metadata"]["name"])]
    return found


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(only)


BASE = load("base/kustomization.yaml")[0]
POD = find("base/pod.yaml", "Deployment")
WORKER = find("base/worker.yaml", "Deployment")


def setting(overlay: str, name: str) -> str | None:
    literals = [item for generator in load(overlay)[0]["configMapGenerator"] for item in generator["literals"]]
    return dict(item.split("=", 1) for item in literals).get(name)


def test_every_file_is_used() -> None:
    used = {"kustomization.yaml", *BASE["resources"], *(patch["path"] for patch in BASE["patches"])}
    assert {path.name for path in (K8S / "base").glob("*.yaml")} == used


def test_every_setting_that_is_named_exists() -> None:
    for path in K8S.rglob("*.yaml"):
        assert set(re.findall(r"SOURCEBOOK_[A-Z_0-9]+[A-Z0-9]", path.read_text())) <= KNOWN, path


def test_every_pod_is_patched_to_the_restricted_standard() -> None:
    (target,) = [patch["target"] for patch in BASE["patches"] if patch["path"] == "pod.yaml"]
    assert target == {"kind": "Deployment"}
    pod = POD["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    security = container(POD)["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    labels = find("base/namespace.yaml", "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_what_is_mounted_is_there_and_what_is_written_is_no_root_file_system() -> None:
    volumes = {volume["name"] for volume in POD["spec"]["template"]["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container(POD)["volumeMounts"]}
    assert set(mounts) == volumes
    assert {"/srv/sourcebook", "/tmp"} <= set(mounts.values())  # noqa: S108 - a folder of the pod
    claims = {item["metadata"]["name"] for item in load("base/volumes.yaml")}
    claimed = [item for item in POD["spec"]["template"]["spec"]["volumes"] if "persistentVolumeClaim" in item]
    named = {volume["persistentVolumeClaim"]["claimName"] for volume in claimed}
    assert named == claims


def test_secrets_are_files_named_after_settings_and_no_variables() -> None:
    keys = set(find("secret.example.yaml", "Secret")["stringData"])
    dev = load("overlays/dev/kustomization.yaml")[0]["secretGenerator"][0]
    dev_keys = {item.split("=", 1)[0] for item in dev["literals"]}
    (volume,) = [item for item in POD["spec"]["template"]["spec"]["volumes"] if "secret" in item]
    assert volume["secret"]["secretName"] == "sourcebook-engines" == dev["name"]
    assert volume["secret"]["defaultMode"] == 0o400
    (mount,) = [item for item in container(POD)["volumeMounts"] if item["name"] == volume["name"]]
    assert container(POD)["env"] == [{"name": "SOURCEBOOK_SECRETS", "value": mount["mountPath"]}]
    names = {key for key in keys | dev_keys if key.startswith("sourcebook_")}
    assert {name.upper() for name in names} <= KNOWN
    assert not any("secretKeyRef" in path.read_text() for path in K8S.rglob("*.yaml"))
    broker = find("base/keda.yaml", "TriggerAuthentication")
    assert {item["key"] for item in broker["spec"]["secretTargetRef"]} <= keys & dev_keys


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_is_found_by_the_patches_and_has_limits_and_a_budget(name: str) -> None:
    deployment = find(f"base/{name}.yaml", "Deployment")
    template = deployment["spec"]["template"]
    assert deployment["metadata"]["labels"]["sourcebook/role"] == "worker"
    assert (
        template["metadata"]["labels"] | deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    )
    only = container(deployment)
    assert (only["name"], only["image"]) == ("sourcebook", f"sourcebook-{name}")
    assert only["resources"]["requests"]["cpu"]
    assert only["resources"]["limits"]["memory"]
    budget = find(f"base/{name}.yaml", "PodDisruptionBudget")
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_workers_and_gateway_have_probes() -> None:
    for deployment in (WORKER, find("base/api.yaml", "Deployment")):
        only = container(deployment)
        ports = {port["name"] for port in only["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = only[probe]["httpGet"]
            assert asked["path"] in {"/health/live", "/health/ready"}
            assert asked["port"] in ports
        # An engine that is away must not have the pod killed.
        assert only["livenessProbe"]["httpGet"]["path"] == "/health/live"


@pytest.mark.parametrize("name", QUEUE_OF)
def test_a_worker_follows_its_queue_down_to_none(name: str) -> None:
    scaled = find("base/keda.yaml", "ScaledObject", f"sourcebook-{name}")["spec"]
    assert scaled["scaleTargetRef"]["name"] == find(f"base/{name}.yaml", "Deployment")["metadata"]["name"]
    assert scaled["minReplicaCount"] == 0
    waiting, active = scaled["triggers"]
    assert (waiting["type"], waiting["metadata"]["listName"]) == ("redis", QUEUE_OF[name])
    queue, _, field = active["metadata"]["valueLocation"].partition(".")
    assert queue == QUEUE_OF[name]
    assert field in QueueLoad.model_fields
    service = find("base/api.yaml", "Service")
    port = service["spec"]["ports"][0]["port"]
    assert (
        active["metadata"]["url"]
        == f"http://{service['metadata']['name']}.{BASE['namespace']}.svc:{port}/health/queues"
    )


def test_names_of_services_are_those_of_the_table() -> None:
    """A pod, a policy or a patch with a name that nothing has would apply to nothing."""
    services = {*WORKERS, "api"}
    engines = {item["metadata"]["name"] for item in load("overlays/dev/engines.yaml") if item["kind"] == "Deployment"}
    for path in K8S.rglob("*.yaml"):
        text = path.read_text()
        assert set(re.findall(r"app\.kubernetes\.io/component: (\S+)", text)) <= services | engines, path
        assert set(re.findall(r"kind: (?:ScaledObject|Deployment), name: sourcebook-(\w+)", text)) <= services, path
    scaled = {item["metadata"]["name"] for item in load("base/keda.yaml") if item["kind"] == "ScaledObject"}
    assert scaled == {f"sourcebook-{service}" for service in QUEUE_OF}


def test_the_clock_does_not_scale() -> None:
    assert find("base/beat.yaml", "Deployment")["spec"]["replicas"] == 1
    scaled = [
        item["spec"]["scaleTargetRef"]["name"] for item in load("base/keda.yaml") if item["kind"] == "ScaledObject"
    ]
    assert "sourcebook-beat" not in scaled


def test_a_worker_is_given_more_time_than_its_job() -> None:
    grace = setting("base/kustomization.yaml", "SOURCEBOOK_STOP_GRACE")
    assert WORKER["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= int(grace or 0) + 30
    prod = load("overlays/prod/kustomization.yaml")[0]
    (patched,) = re.findall(r"terminationGracePeriodSeconds, value: (\d+)", yaml.safe_dump(prod["patches"], width=1000))
    assert int(patched) >= int(setting("overlays/prod/kustomization.yaml", "SOURCEBOOK_STOP_GRACE") or 0) + 30


def test_the_gateway_scales_on_its_processors() -> None:
    scaler = find("base/api.yaml", "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == find("base/api.yaml", "Deployment")["metadata"]["name"]
    assert scaler["metrics"][0]["resource"]["name"] == "cpu"
    assert container(find("base/api.yaml", "Deployment"))["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_an_overlay_names_every_image(overlay: str) -> None:
    images = {image["name"] for image in load(f"overlays/{overlay}/kustomization.yaml")[0]["images"]}
    assert images == {f"sourcebook-{name}" for name in (*WORKERS, "api")}


def test_nothing_is_reached_but_what_a_policy_names() -> None:
    policies = {item["metadata"]["name"]: item["spec"] for item in load("base/network.yaml")}
    assert policies["sourcebook-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (public,) = load("overlays/prod/ingress.yaml")
    assert [path["path"] for rule in public["spec"]["rules"] for path in rule["http"]["paths"]] == ["/apis"]
