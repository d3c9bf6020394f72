"""The manifests, held against KubeRay's own definitions, against Kubernetes' schemas, and against the keys that the job has."""

import copy
import functools
import gzip
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from jobs import code_reports

ROOT = Path(__file__).parents[2]
DEFINITIONS = ROOT / "tests" / "data" / "kubernetes"
MANIFESTS = {path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "infra" / "kubernetes").glob("*.yaml"))}
OF_RAY = {name: manifest for name, manifest in MANIFESTS.items() if manifest["apiVersion"] == "ray.io/v1"}


def closed(schema: Any, top: bool = True) -> Any:
    """The schema with every unknown key forbidden, which an API server drops without a word."""
    if isinstance(schema, list):
        return [closed(each, top=False) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value, top=False) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        made["properties"] = {name: closed(each, top=False) for name, each in schema["properties"].items()}
    if top:
        # `metadata` of the object itself is Kubernetes' own.
        made["properties"]["metadata"] = {"type": "object"}
    if schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@functools.cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    """What finds in a manifest all that KubeRay does not know or take."""
    path = DEFINITIONS / f"ray.io_{kind.lower()}s.yaml.gz"
    versions = yaml.load(gzip.decompress(path.read_bytes()), yaml.CSafeLoader)["spec"]["versions"]
    (schema,) = [each["schema"]["openAPIV3Schema"] for each in versions if each["name"] == "v1"]
    return jsonschema.Draft202012Validator(closed(schema))


def templates(part: Any) -> list[dict]:
    """Every pod template below a part of a manifest."""
    if isinstance(part, list):
        return [each for item in part for each in templates(item)]
    if not isinstance(part, dict):
        return []
    if "containers" in part.get("spec", {}):
        return [part]
    return [each for item in part.values() for each in templates(item)]


def every(condition: Any, manifest: dict) -> bool:
    """Whether a condition holds for the spec and the container of each pod, of which there must be some."""
    pods = [template["spec"] for template in templates(manifest["spec"])]
    return bool(pods) and all(condition(pod, container) for pod in pods for container in pod["containers"])


@pytest.mark.parametrize("name", OF_RAY)
def test_kuberay_knows_every_key(name: str) -> None:
    validator(OF_RAY[name]["kind"]).validate(OF_RAY[name])


@pytest.mark.parametrize("name", OF_RAY)
def test_a_misspelt_key_is_noticed(name: str) -> None:
    for wrong in (lambda m: m["spec"], lambda m: templates(m)[-1]["spec"], lambda m: templates(m)[-1]["spec"]["containers"][0]):
        manifest = copy.deepcopy(OF_RAY[name])
        wrong(manifest)["imagePullPolice"] = "Always"
        with pytest.raises(jsonschema.ValidationError, match="imagePullPolice"):
            validator(manifest["kind"]).validate(manifest)


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_takes_every_pod(name: str) -> None:
    manifest = MANIFESTS[name]
    if name not in OF_RAY:
        kubernetes_validate.validate(manifest, "1.37", strict=True)
    for template in templates(manifest["spec"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, "1.37", strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_run_with_few_rights_in_bounded_memory_and_read_secrets_by_name(name: str) -> None:
    manifest = MANIFESTS[name]
    assert every(lambda pod, _: pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"], manifest)
    assert every(lambda _, container: container["securityContext"]["readOnlyRootFilesystem"], manifest)
    assert every(lambda _, container: {"cpu", "memory"} <= set(container["resources"]["limits"]), manifest)
    assert every(lambda _, container: "env" not in container, manifest)
    for template in templates(manifest["spec"]):
        volumes = {volume["name"]: volume["emptyDir"] for volume in template["spec"]["volumes"]}
        (container,) = template["spec"]["containers"]
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert "sizeLimit" in mounts["/tmp"]
        if container["name"] != "ray-job-submitter":
            assert mounts["/dev/shm"]["medium"] == "Memory" and container["envFrom"] == [{"secretRef": {"name": "marginalia-s3"}}]


def test_the_versions_are_those_of_the_lock_and_of_the_product() -> None:
    from importlib.metadata import version

    from engine import __version__

    for manifest in OF_RAY.values():
        assert manifest["spec"].get("rayClusterSpec", manifest["spec"])["rayVersion"] == version("ray")
    pods = [template["spec"] for manifest in MANIFESTS.values() for template in templates(manifest["spec"])]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert images == {f"marginalia:{__version__}", f"marginalia:{__version__}-gpu"}


def test_the_object_store_fits_into_shared_memory() -> None:
    """Where it does not, Ray takes the disk for it."""
    for manifest in OF_RAY.values():
        cluster = manifest["spec"].get("rayClusterSpec", manifest["spec"])
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            assert 0 < int(group["rayStartParams"]["object-store-memory"]) < 3 * 2**30
            assert group["template"]["spec"]["volumes"][0]["emptyDir"]["sizeLimit"] == "3Gi"


def test_what_a_run_may_take_fits_into_its_pods() -> None:
    """Actors, shared memory and the child that retries a shard, beside 2 GiB for Ray and the readers: otherwise the pod is killed
    before the child's own limit can tell which record it was."""
    pod = MANIFESTS["job.yaml"]["spec"]["template"]["spec"]
    workers = MANIFESTS["rayjob.yaml"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    worker = workers[0]["template"]["spec"]
    for spec, words in (
        (pod, pod["containers"][0]["args"]),
        (worker, shlex.split(MANIFESTS["rayjob.yaml"]["spec"]["entrypoint"])),
    ):
        cluster = code_reports.main.compose(words[3:], {})[0]["cluster"]
        limits = spec["containers"][0]["resources"]["limits"]
        actors = min(cluster["actors"], int(limits["cpu"]))
        shared = spec["volumes"][0]["emptyDir"]["sizeLimit"]
        assert 1.3 * actors + gibi(shared) + cluster["child_memory_gb"] + 2 <= gibi(limits["memory"])


def gibi(size: str) -> float:
    assert size.endswith("Gi")
    return float(size.removesuffix("Gi"))


def test_the_job_has_every_key_of_its_commands() -> None:
    alone = MANIFESTS["job.yaml"]["spec"]["template"]["spec"]["containers"][0]["args"]
    for words in (alone, shlex.split(MANIFESTS["rayjob.yaml"]["spec"]["entrypoint"])):
        assert words[:3] == ["python", "-m", "jobs.code_reports"]
        values, missing = code_reports.main.compose(words[3:], {})
        assert not missing and values["cluster"]["actors"]
        assert all(values[each]["path"].startswith("s3://") for each in ("input", "output"))
    assert 0 < code_reports.main.compose(alone[3:], {})[0]["cluster"]["object_store_gb"] < 3
