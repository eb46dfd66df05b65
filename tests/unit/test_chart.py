"""The Helm chart, rendered by Helm, and held against Kubernetes' schemas and against what our processes are."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any
from zipfile import ZipFile

import pytest
import yaml
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

import celery_config
import settings
from api import create_app
from cli import helm_package
from cli.containers import health, secrets
from cli.credentials import Credentials
from tests.conftest import CHECKOUT
from tests.recording import configure

CHART = CHECKOUT / "docs" / "deploy" / "helm" / "sluice"
SERVICES: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
KUBERNETES = "v1.37.0"
#: The jobs by whose names rules and panels go.
WATCHED: dict[str, Any] = yaml.safe_load((CHECKOUT / "monitoring" / "prometheus.yml").read_text(encoding="utf-8"))
JOBS = {job["job_name"] for job in WATCHED["scrape_configs"]}
#: The ways in which the chart can be told to be otherwise.
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without KEDA": {"keda": {"enabled": False}},
    "with servers elsewhere": {"servers": {"mysql": "mysql.example.internal", "redis": "redis.example.internal"}},
    "without root": {"migrate": {"asRoot": False}},
    "with figures": {"metrics": {"enabled": True, "labels": {"release": "prometheus"}}},
    "with little": {
        "ingress": {"enabled": False},
        "migrate": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "storage": {"existingClaim": "shared"},
        "image": {"repository": "registry.example.com/sluice", "tag": "v1", "pullSecrets": [{"name": "pull"}]},
    },
}
#: What KEDA's own definition of its resources asks for, of the parts that the chart uses.
SCALED = {
    "type": "object",
    "required": ["scaleTargetRef", "triggers"],
    "additionalProperties": False,
    "properties": {
        "scaleTargetRef": {"type": "object", "required": ["name"]},
        "minReplicaCount": {"type": "integer"},
        "maxReplicaCount": {"type": "integer"},
        "pollingInterval": {"type": "integer"},
        "cooldownPeriod": {"type": "integer"},
        "fallback": {
            "required": ["failureThreshold", "replicas"],
            "properties": {
                "behavior": {"enum": ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]}
            },
        },
        "triggers": {
            "minItems": 1,
            "items": {
                "required": ["type", "metadata", "authenticationRef"],
                "properties": {
                    "type": {"const": "rabbitmq"},
                    "metadata": {
                        "required": ["queueName", "mode", "value"],
                        # Whatever it says, a trigger's metadata are words.
                        "additionalProperties": {"type": "string"},
                        "properties": {"mode": {"enum": ["QueueLength", "MessageRate"]}},
                    },
                },
            },
        },
    },
}
#: The same of the Prometheus Operator's.
MONITORED = {
    "type": "object",
    "required": ["selector", "podMetricsEndpoints"],
    "additionalProperties": False,
    "properties": {
        "selector": {"required": ["matchLabels"], "additionalProperties": False, "properties": {"matchLabels": {}}},
        "podMetricsEndpoints": {
            "items": {
                "required": ["port"],
                "additionalProperties": False,
                "properties": {
                    "port": {"type": "string"},
                    "authorization": {
                        "additionalProperties": False,
                        "properties": {"credentials": {"required": ["key", "name"]}},
                    },
                    "relabelings": {
                        "items": {
                            "additionalProperties": False,
                            "properties": {
                                "sourceLabels": {"items": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}},
                                "targetLabel": {"type": "string"},
                                "replacement": {"type": "string"},
                            },
                        }
                    },
                },
            },
        },
    },
}

pytestmark = pytest.mark.skipif(
    not helm_package.HELM.exists() and "CI" not in os.environ, reason="Helm is not here: make helm brings it"
)


def helm(*arguments: str, values: dict[str, Any] | None = None) -> str:
    command = [str(helm_package.HELM), *arguments, "--values", "-"]
    text = yaml.safe_dump(values or {})
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@cache
def rendered(variant: str) -> tuple[dict[str, Any], ...]:
    text = helm("template", "sluice", str(CHART), values=VARIANTS[variant])
    return tuple(found for found in yaml.safe_load_all(text) if found)


def of(kind: str, variant: str = "as it is") -> dict[str, dict[str, Any]]:
    """By its name without that of the release."""
    found = (each for each in rendered(variant) if each["kind"] == kind)
    return {each["metadata"]["name"].removeprefix("sluice-"): each for each in found}


def pods(variant: str = "as it is") -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in ("Deployment", "Job"):
        for name, found in of(kind, variant).items():
            yield name, found["spec"]["template"]["spec"]


def container(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any]
    [found] = pod["containers"]
    return found


def variables(pod: dict[str, Any]) -> dict[str, str]:
    """Those that have a value before there is a pod."""
    return {each["name"]: each["value"] for each in container(pod)["env"] if "value" in each}


def shown(pod: dict[str, Any]) -> set[str]:
    [volume] = [each["secret"] for each in pod["volumes"] if "secret" in each]
    assert all(each["key"] == each["path"] for each in volume["items"])
    return {each["key"] for each in volume["items"]}


@cache
def registry() -> Registry[Any]:
    """Kubernetes' schemas, out of the wheel as they are asked for."""
    folder = f"kubernetes_validate/kubernetes-json-schema/{KUBERNETES}-local-strict/"
    archive = ZipFile(helm_package.SCHEMAS)

    def schema(name: str) -> Resource[Any]:
        contents = json.loads(archive.read(folder + name.rpartition("/")[2]))
        return Resource(contents=contents, specification=DRAFT7)  # type: ignore[call-arg]

    return Registry(retrieve=schema)  # type: ignore[call-arg]


def faults(resource: dict[str, Any]) -> list[str]:
    group, _, version = resource["apiVersion"].rpartition("/")
    name = "-".join(filter(None, (resource["kind"].lower(), group.removesuffix(".k8s.io").partition(".")[0], version)))
    validator = Draft7Validator({"$ref": f"{name}.json"}, registry=registry())
    found = validator.iter_errors(resource)
    return [f"{resource['kind']}: {'/'.join(map(str, error.path))}: {error.message}" for error in found]


def test_helm_finds_nothing_to_blame() -> None:
    helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize("variant", VARIANTS)
def test_kubernetes_would_take_every_resource(variant: str) -> None:
    foreign = ("keda.sh/", "monitoring.coreos.com/")
    of_kubernetes = [each for each in rendered(variant) if not each["apiVersion"].startswith(foreign)]
    assert len(of_kubernetes) > 12
    assert [fault for each in of_kubernetes for fault in faults(each)] == []


def test_a_fault_would_be_found() -> None:
    api = json.dumps(of("Deployment")["api"])
    broken = json.loads(api.replace("terminationGracePeriodSeconds", "terminationGraceSeconds"))
    assert faults(broken)


def test_each_kind_of_worker_follows_its_queues() -> None:
    assert {*of("ScaledObject")} == {*celery_config.WORKERS}
    [(login, authentication)] = of("TriggerAuthentication").items()
    [target] = authentication["spec"]["secretTargetRef"]
    assert (target["parameter"], target["key"]) == ("host", "rabbitmq_page_url")
    for kind, scaled in of("ScaledObject").items():
        assert [error.message for error in Draft7Validator(SCALED).iter_errors(scaled["spec"])] == []
        assert scaled["spec"]["scaleTargetRef"]["name"] == f"sluice-{kind}"
        queues = [each["metadata"]["queueName"] for each in scaled["spec"]["triggers"]]
        assert queues == [celery_config.queue_name(kind, priority) for priority in celery_config.PRIORITIES]
        assert {each["authenticationRef"]["name"] for each in scaled["spec"]["triggers"]} == {f"sluice-{login}"}
        # Whoever scales it counts its replicas.
        assert "replicas" not in of("Deployment")[kind]["spec"]
    assert not any("keda" in each["apiVersion"] for each in rendered("without KEDA"))
    assert of("Deployment", "without KEDA")["data"]["spec"]["replicas"] >= 2


def test_pods_run_what_containers_run_with_the_same_secrets() -> None:
    for name, pod in pods():
        service = SERVICES[name]
        assert container(pod).get("command") == service.get("command"), name
        urls = {key: value for key, value in variables(pod).items() if re.search("URL|BACKEND|DATABASES", key)}
        assert urls == {key: value for key, value in service["environment"].items() if key in urls}, name
        besides = {"rabbitmq_page_url"} if name == "migrate" else set()
        assert shown(pod) == {*service["secrets"]} - besides, name
        files = {value for value in variables(pod).values() if value.startswith("/run/secrets/")}
        assert {value.removeprefix("/run/secrets/") for value in files} == shown(pod), name


def test_every_secret_is_one_that_make_secrets_writes() -> None:
    written = {*secrets.files(Credentials())}
    for variant in VARIANTS:
        assert {key for _, pod in pods(variant) for key in shown(pod)} <= written


def test_every_setting_is_one() -> None:
    for variant in VARIANTS:
        told = {*of("ConfigMap", variant)["settings"]["data"]}
        assert told <= settings.variables()
        for _, pod in pods(variant):
            named = {name.removesuffix("_FILE") for name in variables(pod)}
            of_the_hook = {"MYSQL_ROOT_PASSWORD", "MYSQL_USERS", "SLUICE_API_KEY", "SLUICE_METRICS_KEY"}
            assert named <= settings.variables() | {"TMPDIR"} | of_the_hook


def test_a_pod_may_do_nothing_but_its_work() -> None:
    for name, pod in pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] >= 10_000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        rights = container(pod)["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True and rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        resources = container(pod)["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"} and "memory" in resources["limits"], name
        mounted = {each["mountPath"] for each in container(pod)["volumeMounts"]}
        assert {"/tmp", "/run/secrets"} <= mounted
        assert ("/storage" in mounted) == (name != "webhooks")


def test_a_pod_has_longer_to_end_than_its_process() -> None:
    drain = settings.Settings.model_fields["shutdown_grace_seconds"].default
    for name, pod in pods():
        if name in celery_config.WORKERS:
            assert pod["terminationGracePeriodSeconds"] >= drain + 10
        elif name == "api":
            assert pod["terminationGracePeriodSeconds"] > 30 + 5  # gunicorn's graceful_timeout, and the preStop
    longer = yaml.safe_load_all(helm("template", "sluice", str(CHART), values={"shutdownGraceSeconds": 100}))
    found = {each["metadata"]["name"]: each for each in longer if each and each["kind"] in ("Deployment", "ConfigMap")}
    assert found["sluice-data"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 120
    assert found["sluice-settings"]["data"]["SLUICE_SHUTDOWN_GRACE_SECONDS"] == "100"


def test_probes_ask_what_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch)
    routes = {rule.rule for rule in create_app().url_map.iter_rules()}
    for name, pod in pods():
        probes = {key: each for key, each in container(pod).items() if key.endswith("Probe")}
        if name == "api":
            assert (probes["livenessProbe"]["httpGet"]["path"], probes["readinessProbe"]["httpGet"]["path"]) == (
                *("/livez", "/readyz"),
            )
            assert {each["httpGet"]["path"] for each in probes.values()} <= routes
            [host] = of("ConfigMap")["settings"]["data"]["SLUICE_HOSTS"].split(",")
            assert {each["httpGet"]["httpHeaders"][0]["value"] for each in probes.values()} == {host}
            assert container(pod)["ports"] == [{"name": "http", "containerPort": 5000}]
        elif name != "migrate":
            commands = [each["exec"]["command"] for each in probes.values()]
            assert commands == [["python", "-m", "cli.containers.health", name]] * 2
            assert name in health.CHECKS


def test_the_world_reaches_every_route_but_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch)
    [rule] = of("Ingress")["sluice"]["spec"]["rules"]
    let_in = {path["path"] for path in rule["http"]["paths"]}
    first = {re.match(r"/[^/<]*", rule.rule)[0] for rule in create_app().url_map.iter_rules()}  # type: ignore[index]
    assert let_in == first - {"/metrics"}


def test_nobody_but_the_ingress_speaks_to_the_api_and_nobody_to_the_rest() -> None:
    policies = of("NetworkPolicy")
    assert "ingress" not in policies["nobody"]["spec"]
    [allowed] = policies["api"]["spec"]["ingress"]
    assert allowed["ports"] == [{"port": "http"}]
    assert of("Service")["api"]["spec"]["ports"][0]["targetPort"] == "http"


def test_prometheus_finds_the_figures_of_each_process_under_the_name_of_its_job() -> None:
    [monitor] = of("PodMonitor", "with figures").values()
    assert [error.message for error in Draft7Validator(MONITORED).iter_errors(monitor["spec"])] == []
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    endpoints = {each["port"]: each for each in monitor["spec"]["podMetricsEndpoints"]}
    assert endpoints.keys() == {"http", "figures"}
    for name, deployment in of("Deployment", "with figures").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        [relabeling] = endpoints["http" if name == "api" else "figures"]["relabelings"]
        source = "app.kubernetes.io/component"
        assert relabeling["sourceLabels"] == [f"__meta_kubernetes_pod_label_{re.sub(r'[^a-zA-Z0-9_]', '_', source)}"]
        assert relabeling["replacement"].replace("$1", labels[source]) in JOBS
        pod = deployment["spec"]["template"]["spec"]
        [port] = container(pod)["ports"]
        assert port["name"] in endpoints
        if name != "api":
            told = {key: value for key, value in variables(pod).items() if key.startswith("SLUICE_METRICS")}
            assert told == {"SLUICE_METRICS_ADDRESS": "0.0.0.0", "SLUICE_METRICS_PORT": str(port["containerPort"])}


def test_the_api_lets_prometheus_in_by_its_pods_address_and_with_a_key_for_figures() -> None:
    [monitor] = of("PodMonitor", "with figures").values()
    [wanted] = [each["authorization"] for each in monitor["spec"]["podMetricsEndpoints"] if each["port"] == "http"]
    assert wanted["credentials"] == {"name": "sluice", "key": "metrics_key"}
    pod = dict(pods("with figures"))["api"]
    names = [each["name"] for each in container(pod)["env"]]
    # Kubernetes fills in what stands before.
    assert names.index("POD_IP") < names.index("SLUICE_HOSTS")
    assert variables(pod)["SLUICE_HOSTS"] == "sluice.example.com,$(POD_IP)"
    hook = dict(pods("with figures"))["migrate"]
    assert variables(hook)["SLUICE_METRICS_KEY_FILE"] == "/run/secrets/metrics_key" and "metrics_key" in shown(hook)


def test_figures_are_told_to_nobody_unless_that_is_wanted_and_then_to_prometheus() -> None:
    assert not of("PodMonitor")
    assert {name for name, pod in pods() if "ports" in container(pod)} == {"api"}
    assert not [name for name, pod in pods() for each in variables(pod) if each.startswith("SLUICE_METRICS")]
    [allowed] = of("NetworkPolicy", "with figures")["figures"]["spec"]["ingress"]
    assert allowed["ports"] == [{"port": "http"}, {"port": "figures"}]
    assert allowed["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


def test_the_tables_come_before_the_processes() -> None:
    [job] = of("Job").values()
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    weights = [each["metadata"]["annotations"]["helm.sh/hook-weight"] for each in (of("ConfigMap")["settings"], job)]
    assert int(weights[0]) < int(weights[1])
    [command] = [container(pod)["command"] for name, pod in pods("without root") if name == "migrate"]
    assert command == ["python", "-m", "ledger", "migrate"]


def test_one_of_a_kind_goes_at_a_time() -> None:
    kinds = {*of("Deployment")}
    assert {*of("PodDisruptionBudget")} == kinds
    for kind, budget in of("PodDisruptionBudget").items():
        assert budget["spec"]["maxUnavailable"] == 1
        selected = budget["spec"]["selector"]["matchLabels"].items()
        assert selected <= of("Deployment")[kind]["spec"]["template"]["metadata"]["labels"].items()
    assert of("Deployment")["monitor"]["spec"]["replicas"] == 2


def test_every_selector_finds_its_pods() -> None:
    for kind, deployment in of("Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items(), kind
    service = of("Service")["api"]["spec"]["selector"]
    assert service.items() <= of("Deployment")["api"]["spec"]["template"]["metadata"]["labels"].items()
    scaled = of("HorizontalPodAutoscaler")["api"]["spec"]["scaleTargetRef"]
    assert scaled["name"] == of("Deployment")["api"]["metadata"]["name"]


def test_no_secret_is_in_the_chart() -> None:
    for path in CHART.rglob("*"):
        if path.is_file():
            assert not re.search(r"://[^/@\s]+:[^/@\s]+@", path.read_text(encoding="utf-8")), path
    assert not of("Secret")


def test_the_page_shows_commands_that_are_there() -> None:
    page = (CHECKOUT / "docs" / "deploy" / "kubernetes.md").read_text(encoding="utf-8")
    assert str(CHART.relative_to(CHECKOUT)) in page
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for name in re.findall(r"--set ([\w.]+)=", page):
        found = values
        for part in name.split("."):
            # `servers` is empty: its names are the reader's.
            assert part in found or found == {}, name
            found = found.get(part)
