"""The Helm chart's combinations of values, and what is read of the manifests."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "cxr-serve"
ALWAYS = {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"}
Helm = Callable[..., "subprocess.CompletedProcess[str]"]
Manifest = dict[str, Any]
Manifests = dict[str, dict[str, Manifest]]
"""Resource by kind, by the name of the combination of values."""

COMBINATIONS = {
    "default": "",
    "one replica without any switch": "replicas=1,podDisruptionBudget.enabled=false,"
    "topologySpread.enabled=false,networkPolicy.enabled=false,metrics.enabled=false",
    "TLS": "tls.secretName=cert",
    "TLS with tokens": "tls.secretName=cert,tokens.secretName=cxr,tokens.key=list",
    "mutual TLS": "tls.secretName=cert,tls.clientCA=true",
    "TLS without the health port": "tls.secretName=cert,probes.healthPort=false",
    "plaintext without the health port": "probes.healthPort=false",
    "a real model in an emptyDir": "model.name=densenet121-res224-all,"
    "model.prepareArgs={--url,https://mirror.example.org/weights.pt}",
    "two models": "model.name=chest=densenet121-res224-all,model.others={canary=phantom}",
    "a real model in a new volume": "model.name=densenet121-res224-all,bundles.claim.create=true,"
    "bundles.claim.storageClassName=nfs",
    "a bundle that is there": "model.name=mine,model.prepare=false,bundles.existingClaim=models",
    "GPU": "gpu.enabled=true,rollingUpdate.maxSurge=0,rollingUpdate.maxUnavailable=9,"
    "gpu.runtimeClassName=nvidia,resources.limits.memory=4Gi,"
    "nodeSelector.disk=ssd,tolerations[0].key=nvidia.com/gpu,tolerations[0].operator=Exists",
    "scaled by the queue": "autoscaling.enabled=true",
    "scaled by CPU": "autoscaling.enabled=true,autoscaling.queueDepth=0,autoscaling.cpuPercent=80",
    "scaled by both": "autoscaling.enabled=true,autoscaling.cpuPercent=80",
    "the Prometheus operator": "metrics.serviceMonitor.enabled=true,"
    "metrics.serviceMonitor.labels.release=prometheus,metrics.prometheusRule.enabled=true",
    "another image": "image.repository=registry.example.org/cxr/serve,image.tag=1.2.3,"
    "image.pullPolicy=Always,image.pullSecrets={one,two}",
    "an image by digest": f"image.digest=sha256:{'0' * 64}",
    "a Service with an address": "service.headless=false,service.port=443,"
    "service.annotations.a=b",
    "IPv6": "listenHost=[::]",
    "settings and variables": "settings.CXR_MAX_PIXELS=50000000,settings.CXR_REFLECTION=false,"
    "settings.CXR_UPLOAD_TIMEOUT_S=2.5,env[0].name=HTTPS_PROXY,env[0].value=http://proxy:3128",
    "an audit file": "settings.CXR_AUDIT_FILE=/var/log/cxr/audit.jsonl,volumes[0].name=audit,"
    "volumes[0].persistentVolumeClaim.claimName=audit,volumeMounts[0].name=audit,"
    "volumeMounts[0].mountPath=/var/log/cxr",
    "other callers": "networkPolicy.callers[0].namespaceSelector.matchLabels.pacs=yes,"
    "networkPolicy.egress[0].ports[0].port=4317",
    "no callers": "networkPolicy.callers=null",
    "no scrapers": "networkPolicy.scrapers=null",
    "neither": "networkPolicy.callers=null,networkPolicy.scrapers=null",
    "ids of OpenShift": "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null,"
    "podSecurityContext.fsGroup=null",
    "labels and priority": "podLabels.team=imaging,podAnnotations.note=x,priorityClassName=high",
    "all at once": "tls.secretName=cert,tls.clientCA=true,tokens.secretName=cxr,gpu.enabled=true,"
    "bundles.claim.create=true,autoscaling.enabled=true,metrics.serviceMonitor.enabled=true,"
    "metrics.prometheusRule.enabled=true,metrics.prometheusRule.labels.release=prometheus",
}  # fmt: skip


def pod(manifest: dict[str, Manifest]) -> Manifest:
    spec = manifest["Deployment"]["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def server(manifest: dict[str, Manifest]) -> Manifest:
    (container,) = pod(manifest)["containers"]
    assert isinstance(container, dict)
    return container


def environment(container: Manifest) -> dict[str, str]:
    names = [entry["name"] for entry in container["env"]]
    assert len(set(names)) == len(names)
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}
