"""Services reach the pods that they are for, and NetworkPolicies allow what is configured and nothing else."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.k8s.cluster import (
    VARIANTS,
    Manifest,
    Pods,
    config_map,
    matches,
    of_kind,
    rendered,
    workloads,
)
from tests.k8s.jobs import job_of_a_run

S3_CLIENTS = {"asset-metrics", "code-location", "dagster", "mlflow", "serving"}
STORES_READ_BY = {"asset-metrics", "code-location", "dagster", "serving"}
EVENT_LOG_READ_BY = {"asset-metrics", "code-location", "dagster", "dagster-daemon", "dagster-webserver"}

CONNECTIONS = {
    "postgres": EVENT_LOG_READ_BY | {"migration", "mlflow", "serving"},
    "redis": STORES_READ_BY,
    "mlflow": STORES_READ_BY,
    "code-location": {"dagster-daemon", "dagster-webserver"},
}
"""Server by name of its Service: the pods that are configured to ask it. `dagster` are runs and their steps."""
MORE = {
    "local": {"object-store": S3_CLIENTS},
    "production with sign-in": {
        "dagster-webserver": {"oauth2-proxy-dagster"},
        "mlflow": {"oauth2-proxy-mlflow"},
    },
}


def name_of(pods: Pods) -> str:
    return pods.labels["app.kubernetes.io/name"]


def all_pods(variant: str) -> list[Pods]:
    return [*workloads(variant), job_of_a_run()]


def port_number(pods: Pods, port: str | int) -> int:
    """A port's number, also where it is told by its name; AssertionError where no container has it."""
    ports = [port for container in pods.containers for port in container.get("ports", ())]
    found = [p["containerPort"] for p in ports if port in (p.get("name"), p["containerPort"])]
    assert len(found) == 1, f"{pods.name} has no port {port}"
    return found[0]


def served(variant: str) -> Iterator[tuple[str, Pods, int, int]]:
    """Every Service with the pods behind it: its port, and that of the pods."""
    for service in of_kind(variant, "Service"):
        behind = [
            p for p in workloads(variant) if matches({"matchLabels": service["spec"]["selector"]}, p.labels)
        ]
        assert len(behind) == 1, f"{service['metadata']['name']} is for one workload"
        for port in service["spec"]["ports"]:
            yield (
                service["metadata"]["name"],
                behind[0],
                port["port"],
                port_number(behind[0], port["targetPort"]),
            )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_selector_takes_the_pods_of_its_own_template(variant: str) -> None:
    for kind in ("Deployment", "StatefulSet"):
        for manifest in of_kind(variant, kind):
            spec = manifest["spec"]
            assert spec["selector"]["matchLabels"]
            assert matches(spec["selector"], spec["template"]["metadata"]["labels"])
            takes = [p.name for p in all_pods(variant) if matches(spec["selector"], p.labels)]
            assert takes == [manifest["metadata"]["name"]], "and of no other"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_service_sends_to_a_port_that_a_container_opens(variant: str) -> None:
    assert {name for name, *_ in served(variant)} >= {
        *CONNECTIONS,
        "serving",
        "asset-metrics",
        "dagster-webserver",
    }
    for stateful in of_kind(variant, "StatefulSet"):
        assert stateful["spec"]["serviceName"] in {name for name, *_ in served(variant)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_container_listens_on_the_port_that_it_opens(variant: str) -> None:
    for pods in workloads(variant):
        for container in pods.containers:
            args = container.get("args", [])
            if "--port" in args:
                assert [int(args[args.index("--port") + 1])] == [
                    p["containerPort"] for p in container["ports"]
                ]
                assert args[args.index("--host") + 1] == "0.0.0.0"


@pytest.mark.parametrize("variant", VARIANTS)
def test_addresses_in_the_configuration_are_services_with_that_port(variant: str) -> None:
    ports = {(name, port) for name, _, port, _ in served(variant)}
    assert set(addresses(variant)) <= ports
    assert {("mlflow", 5000), ("postgres", 5432), ("code-location", 3030)} <= set(addresses(variant))


def addresses(variant: str) -> Iterator[tuple[str, int]]:
    """Hosts and ports inside the namespace that something is configured with."""
    texts = [v for m in of_kind(variant, "ConfigMap") for v in m["data"].values()]
    texts += [
        text
        for pods in workloads(variant)
        for container in pods.containers
        for text in [*container.get("args", ()), *(e.get("value", "") for e in container.get("env", ()))]
    ]
    for text in texts:
        for url in re.findall(r"\w[\w+]*://[^\s\"']+", text):
            parts = urlsplit(url)
            if parts.hostname and "." not in parts.hostname and parts.port:
                yield parts.hostname, parts.port
    instance = yaml.safe_load(config_map(variant, "dagster-instance")["dagster.yaml"])
    database = instance["storage"]["custom"]["config"]["postgres_db"]
    yield database["hostname"], database["port"]
    workspace = yaml.safe_load(config_map(variant, "dagster-instance")["workspace.yaml"])
    for entry in workspace["load_from"]:
        yield entry["grpc_server"]["host"], entry["grpc_server"]["port"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_whoever_reads_features_is_told_where_both_of_their_stores_are(variant: str) -> None:
    stores = {"ML_PLATFORM_ONLINE_STORE", "ML_PLATFORM_FEAST_REGISTRY"}
    readers = [pods for pods in workloads(variant) if name_of(pods) in STORES_READ_BY]
    assert {name_of(pods) for pods in readers} == STORES_READ_BY - {"dagster"}, "runs have the whole Secret"
    for pods in readers:
        (container,) = pods.containers
        single = {
            env["name"]: env["valueFrom"]["secretKeyRef"]
            for env in container["env"]
            if "secretKeyRef" in env.get("valueFrom", {})
        }
        whole = {"secretRef": {"name": "ml-platform"}} in container["envFrom"]
        assert whole or {name: single.get(name) for name in stores} == {
            name: {"name": "ml-platform", "key": name} for name in stores
        }, pods.name


def policies(variant: str, direction: str, labels: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """The rules for one direction, `ingress` or `egress`, of all policies that select these pods."""
    found = [
        manifest["spec"]
        for manifest in of_kind(variant, "NetworkPolicy")
        if direction.capitalize() in manifest["spec"]["policyTypes"]
        and matches(manifest["spec"]["podSelector"], labels)
    ]
    assert found, "pods that no policy selects may do anything"
    return [rule for spec in found for rule in spec.get(direction, ())]


def is_of_names(rule: Mapping[str, Any]) -> bool:
    """Whether a rule lets nothing out but questions for names."""
    return {port["port"] for port in rule["ports"]} == {53}


def allows(rule: Mapping[str, Any], peer: str, labels: Mapping[str, str], port: int) -> bool:
    """Whether a rule's peers (`from` or `to`) include pods of this namespace with these labels, on a TCP port."""
    ports = rule.get("ports")
    assert ports, "a rule without ports allows all of them"
    return any(p["port"] == port and p.get("protocol", "TCP") == "TCP" for p in ports) and any(
        "podSelector" in one and "namespaceSelector" not in one and matches(one["podSelector"], labels)
        for one in rule[peer]
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_policies_allow_the_connections_that_are_configured_and_no_other(variant: str) -> None:
    wanted = {name: set(clients) for name, clients in CONNECTIONS.items()}
    for name, clients in MORE.get(variant, {}).items():
        wanted.setdefault(name, set()).update(clients)
    found: dict[str, set[str]] = {}
    for name, server, _, port in served(variant):
        for client in all_pods(variant):
            out = any(
                allows(r, "to", server.labels, port) for r in policies(variant, "egress", client.labels)
            )
            into = any(
                allows(r, "from", client.labels, port) for r in policies(variant, "ingress", server.labels)
            )
            assert out == into, f"{name_of(client)} to {name}: one end allows it and the other does not"
            if out:
                found.setdefault(name, set()).add(name_of(client))
    assert found == wanted


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_is_denied_that_is_not_allowed_and_names_are_resolved(variant: str) -> None:
    by_name = {m["metadata"]["name"]: m["spec"] for m in of_kind(variant, "NetworkPolicy")}
    assert by_name["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for pods in all_pods(variant):
        names = [rule for rule in policies(variant, "egress", pods.labels) if is_of_names(rule)]
        assert [{(port["protocol"], port["port"]) for port in rule["ports"]} for rule in names] == [
            {("UDP", 53), ("TCP", 53)}
        ]
        peers = [peer.get("ipBlock", {}).get("cidr", "cluster") for rule in names for peer in rule["to"]]
        assert peers == ["cluster", "169.254.20.10/32"], "the cluster's, and what nodes may have in its place"


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_who_has_a_reason_reaches_the_outside_and_nobody_the_nodes_credentials(variant: str) -> None:
    reach: dict[int, set[str]] = {}
    for pods in all_pods(variant):
        for rule in policies(variant, "egress", pods.labels):
            for peer in rule["to"]:
                if "ipBlock" in peer and not is_of_names(rule):
                    assert peer["ipBlock"]["except"] == ["169.254.0.0/16"]
                    for port in rule["ports"]:
                        reach.setdefault(port["port"], set()).add(name_of(pods))
    signed_in = variant == "production with sign-in"
    proxies = {"oauth2-proxy-dagster", "oauth2-proxy-mlflow"} if signed_in else set()
    api = {"dagster", "dagster-daemon"} | ({"dagster-webserver"} if signed_in else set())
    assert reach == {443: S3_CLIENTS | api | proxies, 6443: api, 8443: api}


def test_traces_leave_for_the_collector_that_is_configured_and_only_with_its_component() -> None:
    for variant in VARIANTS:
        endpoint = config_map(variant, "ml-platform").get("ML_PLATFORM_OTLP_ENDPOINT")
        out = {
            (name_of(pods), *peer["namespaceSelector"]["matchLabels"].values(), port["port"])
            for pods in all_pods(variant)
            for rule in policies(variant, "egress", pods.labels)
            for peer in rule["to"]
            if "namespaceSelector" in peer and "podSelector" not in peer
            for port in rule["ports"]
        }
        if endpoint is None:
            assert out == set()
        else:
            address = urlsplit(endpoint)
            _, namespace = str(address.hostname).split(".")
            assert out == {(name, namespace, address.port) for name in ("dagster", "serving")}


def from_other_namespaces(variant: str, pods: Pods) -> Iterator[tuple[str, int]]:
    for rule in policies(variant, "ingress", pods.labels):
        for peer in rule["from"]:
            if "namespaceSelector" in peer:
                ((key, value),) = peer["namespaceSelector"]["matchLabels"].items()
                for port in rule["ports"]:
                    yield f"{key}={value}", port["port"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_serving_metrics_and_proxies_are_reached_from_other_namespaces(variant: str) -> None:
    found = {name_of(p): set(from_other_namespaces(variant, p)) for p in workloads(variant)}
    prometheus = "kubernetes.io/metadata.name=monitoring"
    scraped = {(prometheus, 8080), (prometheus, 9464)} if variant != "local" else set()
    proxy = {("ml-platform/exposes-uis=true", 4180)}
    wanted = {
        "serving": {("ml-platform/asks-serving=true", 8080)} | scraped,
        "asset-metrics": scraped,
        "oauth2-proxy-dagster": proxy,
        "oauth2-proxy-mlflow": proxy,
    }
    assert found == {name: wanted.get(name, set()) for name in found}


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "local"])
def test_what_prometheus_scrapes_is_a_named_port_of_a_service_and_nothing_is_missed(variant: str) -> None:
    scraped = set()
    for monitor in of_kind(variant, "ServiceMonitor"):
        services = [
            s
            for s in of_kind(variant, "Service")
            if matches(monitor["spec"]["selector"], s["metadata"].get("labels", {}))
        ]
        assert len(services) == 1
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint["port"] in {port["name"] for port in services[0]["spec"]["ports"]}
        scraped.add(services[0]["metadata"]["name"])
    assert scraped == {"serving", "asset-metrics"}


def test_an_ingress_leads_to_the_port_of_a_service() -> None:
    variant = "production with sign-in"
    ports = {
        (s["metadata"]["name"], port["name"])
        for s in of_kind(variant, "Service")
        for port in s["spec"]["ports"]
    }
    ingresses = of_kind(variant, "Ingress")
    for ingress in ingresses:
        (rule,), (tls,) = ingress["spec"]["rules"], ingress["spec"]["tls"]
        assert tls["hosts"] == [rule["host"]]
        (path,) = rule["http"]["paths"]
        service = path["backend"]["service"]
        assert (service["name"], service["port"]["name"]) in ports
        assert service["name"].startswith("oauth2-proxy-"), "nothing is exposed without sign-in"
    assert len(ingresses) == 2
    exposed = [
        m
        for v in VARIANTS
        for m in rendered(v)
        if m.get("spec", {}).get("type") in ("NodePort", "LoadBalancer")
    ]
    assert exposed == []


def test_who_signs_in_has_to_be_of_a_group_to_reach_what_takes_all_that_they_write() -> None:
    proxies = [p for p in workloads("production with sign-in") if p.name.startswith("oauth2-proxy-")]
    upstreams = {}
    for pods in proxies:
        given = dict(arg.removeprefix("--").split("=", 1) for arg in pods.containers[0]["args"])
        upstreams[given["upstream"]] = given.get("allowed-group")
    assert set(upstreams) == {"http://mlflow:5000", "http://dagster-webserver:3000"}
    assert all(upstreams.values()), upstreams


def test_mlflow_answers_under_every_name_that_it_is_asked_by() -> None:
    for variant in VARIANTS:
        (server,) = [p for p in workloads(variant) if p.name == "mlflow"]
        env = {e["name"]: e.get("value", "") for e in server.containers[0]["env"]}
        hosts = {"mlflow:5000"} | {
            i["spec"]["rules"][0]["host"] for i in of_kind(variant, "Ingress") if is_mlflow(i)
        }
        assert hosts <= set(env["MLFLOW_SERVER_ALLOWED_HOSTS"].split(","))


def is_mlflow(ingress: Manifest) -> bool:
    return ingress["metadata"]["name"] == "mlflow"
