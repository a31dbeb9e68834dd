"""Checks what the chart renders, read from standard input: what it promises to a cluster, and to a namespace that
enforces the profile `restricted` of the Pod Security Standards. `scripts/lint_deploy/run` calls it with the names of
the application's settings."""

import sys
from typing import Any

import yaml


def pod_specs(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """The specification of the pods that a resource makes, if it makes any."""
    spec = resource["spec"]
    if resource["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return [spec["template"]["spec"]] if "template" in spec else []


def check_pod(name: str, pod: dict[str, Any], settings: set[str]) -> None:
    assert pod["automountServiceAccountToken"] is False, name
    assert pod["securityContext"]["runAsNonRoot"] is True, name
    assert pod["securityContext"]["runAsUser"] == 10001, name
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
    assert [list(volume) for volume in pod["volumes"]] == [["name", "emptyDir"]], name
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }, name
    assert not container["image"].endswith((":", ":latest")), name
    assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
    assert "memory" in container["resources"]["limits"], name
    assert [variable["name"] for variable in container["env"] if variable["name"] not in settings] == [], name
    assert all("secretRef" in source for source in container["envFrom"]), name


def check_deployment(deployment: dict[str, Any]) -> None:
    spec = deployment["spec"]
    assert spec["replicas"] >= 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    paths = {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    draining = int({one["name"]: one["value"] for one in container["env"]}["DRAIN_SECONDS"])
    readiness = container["readinessProbe"]
    assert draining > readiness["periodSeconds"] * readiness["failureThreshold"]
    assert pod["terminationGracePeriodSeconds"] == draining + 30
    assert "--no-migrate" in container["args"]


def main() -> None:
    resources = [one for one in yaml.safe_load_all(sys.stdin) if one]
    found = {(one["kind"], one["metadata"]["name"]): one for one in resources}
    for (kind, name), resource in found.items():
        for pod in pod_specs(resource):
            check_pod(f"{kind} {name}", pod, set(sys.argv[1:]))
    check_deployment(found["Deployment", "clinic"])
    migration = found["Job", "clinic-migrate"]
    assert migration["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    [container] = migration["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["python", "manage.py", "migrate"]
    assert container["envFrom"] == [{"secretRef": {"name": "healthcare-direct"}}]
    assert found["PodDisruptionBudget", "clinic"]["spec"]["maxUnavailable"] == 1
    assert found["NetworkPolicy", "clinic-egress"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not [kind for kind, _ in found if kind in {"Secret", "ConfigMap"}], "a secret in the chart"
    kinds = sorted(kind for kind, _ in found)
    assert len(kinds) == len(resources), "two resources of one name"
    print(f"The chart renders {', '.join(kinds)}.")


if __name__ == "__main__":
    main()
