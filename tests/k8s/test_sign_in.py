"""Whom a proxy names is believed where nobody comes around it, and only there; who changes something is named."""

import pytest

from tests.k8s.cluster import VARIANTS, Pods, config_map, workloads
from tests.k8s.jobs import job_of_a_run
from tests.k8s.test_connections import policies

SIGNED_IN = "production with sign-in"
PASSED = {"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Preferred-Username", "X-Forwarded-Groups"}
"""What oauth2-proxy passes on with --pass-user-headers, in the place of what a client sent under these names."""


def webserver_of(variant: str) -> Pods:
    (found,) = [pods for pods in workloads(variant) if pods.name == "dagster-webserver"]
    return found


def believed(variant: str) -> str | None:
    """The header that the webserver and the steps of runs are told to believe."""
    return config_map(variant, "ml-platform").get("ML_PLATFORM_USER_HEADER")


@pytest.mark.parametrize("variant", VARIANTS)
def test_where_a_header_is_believed_the_proxy_is_the_only_way_to_the_webserver(variant: str) -> None:
    ways = policies(variant, "ingress", webserver_of(variant).labels)
    if believed(variant) is None:
        assert ways == []
    else:
        proxy = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "oauth2-proxy-dagster"}}}
        assert ways == [{"from": [proxy], "ports": [{"port": 3000}]}]


@pytest.mark.parametrize("variant", VARIANTS)
def test_whoever_may_change_something_in_the_ui_is_named(variant: str) -> None:
    (container,) = webserver_of(variant).containers
    assert container["args"][:2] == ["ml-platform", "webserver"]
    assert "--read-only" in container["args"] or believed(variant) is not None


def test_the_proxy_names_who_signed_in_under_the_header_that_is_believed_and_lets_nobody_else_in() -> None:
    (proxy,) = [pods for pods in workloads(SIGNED_IN) if pods.name == "oauth2-proxy-dagster"]
    (container,) = proxy.containers
    assert believed(SIGNED_IN) in PASSED
    assert {"configMapRef": {"name": "oauth2-proxy"}} in container["envFrom"]
    given = {
        name: value for name, value in config_map(SIGNED_IN, "oauth2-proxy").items() if "SKIP_AUTH" in name
    }
    assert config_map(SIGNED_IN, "oauth2-proxy")["OAUTH2_PROXY_PASS_USER_HEADERS"] == "true"
    assert given == {"OAUTH2_PROXY_SKIP_AUTH_STRIP_HEADERS": "true"}, (
        "no path, method or client without sign-in"
    )
    assert not [arg for arg in container["args"] if "skip" in arg or "header" in arg or "trusted" in arg]


def test_the_webserver_and_the_steps_of_runs_are_told_the_same() -> None:
    for pods in (webserver_of(SIGNED_IN), job_of_a_run()):
        (container,) = pods.containers
        assert {"configMapRef": {"name": "ml-platform"}} in container["envFrom"]
        names = {variable["name"] for variable in container["env"]}
        assert "ML_PLATFORM_USER_HEADER" not in names, "which would hide the ConfigMap's"
