"""Every manifest is of a known kind and has only fields of that kind, in two versions of Kubernetes."""

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes.client import V1PodSpec

from tests.k8s.cluster import K8S, VARIANTS, Manifest, of_kind, rendered
from tests.k8s.kserve_models import unknown

VERSIONS = ("1.32", "1.37")
OPERATORS = {"monitoring.coreos.com/v1", "serving.kserve.io/v1beta1"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_of_every_variant_fits_the_schema_of_its_kind(version: str) -> None:
    different = {json.dumps(manifest): manifest for variant in VARIANTS for manifest in rendered(variant)}
    assert len(different) > 60
    for manifest in different.values():
        if manifest["apiVersion"] not in OPERATORS:
            validate(manifest, version)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"spec": {"minReplica": 2}}, kubernetes_validate.ValidationError),
        ({"apiVersion": "autoscaling/v2beta2"}, kubernetes_validate.SchemaNotFoundError),
        ({"kind": "HorizontalPodAutoscalers"}, kubernetes_validate.SchemaNotFoundError),
    ],
)
def test_a_misspelt_field_a_removed_version_and_an_unknown_kind_are_refused(
    change: dict[str, Any], error: type[Exception]
) -> None:
    (good,) = of_kind("production", "HorizontalPodAutoscaler")
    with pytest.raises(error):
        validate({**good, **change, "spec": {**good["spec"], **change.get("spec", {})}}, VERSIONS[0])


def validate(manifest: Manifest, version: str) -> None:
    """Raises for a kind without schema and for a field that the kind does not have."""
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.filterwarnings("ignore")  # of the generated models, as they are defined
def test_what_the_prometheus_operator_reads_has_fields_that_it_knows() -> None:
    from cloudcoil.models.prometheus_operator import v1

    monitors = of_kind("production", "ServiceMonitor")
    assert monitors
    for manifest in (m for m in rendered("production") if m["apiVersion"] == "monitoring.coreos.com/v1"):
        model = getattr(v1, manifest["kind"])  # a kind that it does not have is an error too
        assert dropped(model, manifest) == {}, (
            "fields that the operator does not know are dropped without a word"
        )
    misspelt = {**monitors[0], "spec": {**monitors[0]["spec"], "endpoint": []}}
    assert dropped(v1.ServiceMonitor, misspelt)


def dropped(model: Any, manifest: Manifest) -> dict[str, Any]:
    """What a model does not keep of a manifest."""
    kept = model.model_validate(manifest).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {key: value for key, value in manifest.items() if kept.get(key) != value}


def test_the_inference_service_has_fields_that_kserve_knows() -> None:
    service = inference_service()
    assert unknown(service, "V1beta1InferenceService") == []
    predictor = service["spec"]["predictor"]
    for change, said in (
        ({"minReplica": 2}, ".spec.predictor.minReplica: no field of V1beta1PredictorSpec"),
        ({"minReplicas": "2"}, ".spec.predictor.minReplicas: no int"),
        ({"logger": {"sink": "x"}}, ".spec.predictor.logger.sink: no field of V1beta1LoggerSpec"),
    ):
        changed = {**service, "spec": {"predictor": {**predictor, **change}}}
        assert unknown(changed, "V1beta1InferenceService") == [said]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pods_of_the_inference_service_fit_the_schema_of_kubernetes(version: str) -> None:
    predictor = inference_service()["spec"]["predictor"]
    pod = {name: predictor[name] for name in predictor if name in V1PodSpec.attribute_map.values()}
    labels = {"a": "b"}
    spec = {
        "selector": {"matchLabels": labels},
        "strategy": predictor["deploymentStrategy"],
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    validate(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}, version
    )


def inference_service() -> Manifest:
    """The only resource of KServe that is deployed."""
    (found,) = [
        m for m in rendered("production with KServe") if m["apiVersion"] == "serving.kserve.io/v1beta1"
    ]
    return found


def test_no_plain_y_or_no_becomes_a_boolean() -> None:
    for path in K8S.rglob("*.yaml"):
        for token in yaml.scan(path.read_text()):
            if isinstance(token, yaml.ScalarToken) and token.plain:
                assert token.value.lower() not in {"y", "n", "yes", "no", "on", "off"}, (
                    f"{path}: {token.start_mark}"
                )
