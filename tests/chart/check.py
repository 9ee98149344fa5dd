#!/usr/bin/env python3
"""Holds the Helm chart against what it says of itself.

    check.py HELM            checks; one line each, code 1 where something is wrong
    check.py HELM --write    writes helm/volcanion/README.md and deploy/kubernetes/ anew
"""

import glob
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/volcanion"
PLAIN = ROOT / "deploy/kubernetes"
# The oldest that the validator knows, some between, the newest.
VERSIONS = ["1.25", "1.28", "1.31", "1.34", "1.37"]
POSTGRES = ["store.existingSecret=database", "master.replicas=2"]
CERT_MANAGER = ["tls.source=cert-manager", "tls.issuerRef.name=ca"]
SECRETS = [
    "tls.source=secret",
    "tls.existing.master=volcanion-master-tls",
    "tls.existing.agent=volcanion-agent-tls",
    "tls.existing.etcd=volcanion-etcd-tls",
    "auth.existingSecret=volcanion-admin",
    "clusterKey.existingSecret=volcanion-cluster-key",
]
MATRIX = {
    "defaults": [],
    "three members of etcd": ["etcd.replicas=3", "etcd.persistence.storageClassName=fast"],
    "etcd in the clear": ["etcd.tls=false"],
    "an etcd that is there": ["etcd.enabled=false", "etcd.endpoints={https://a:2379,https://b:2379}"],
    "PostgreSQL by its URL": ["store.url=postgres://u:p@h/d", "master.replicas=3"],
    "PostgreSQL by a Secret": POSTGRES,
    "SQLite that goes with the pod": ["store.persistence.enabled=false"],
    "SQLite in a class": ["store.persistence.storageClassName=fast", "store.persistence.size=10Gi"],
    "everybody may": ["auth.mode=off"],
    "no TLS within": ["tls.internal=false"],
    "no TLS at all": ["tls.internal=false", "etcd.tls=false"],
    "TLS of REST": ["tls.rest=true"],
    "cert-manager": CERT_MANAGER + ["tls.rest=true"],
    "Secrets that are there": SECRETS + ["tls.rest=true", "tls.existing.rest=r"],
    "agents by need": ["autoscaling.enabled=true", "autoscaling.maxReplicas=20"],
    "an Ingress": ["ingress.enabled=true", "ingress.host=load.example.com", "ingress.className=nginx", "ingress.tlsSecret=t",
                   "ingress.annotations.a=b"],
    "monitors": ["metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.labels.release=p", "tls.rest=true"],
    "no policies": ["networkPolicy.enabled=false", "podDisruptionBudget.enabled=false"],
    "limits": ["limits.maxRate=100/s", "limits.maxVus=50", "limits.maxDuration=1h", "targets.allow={10.0.0.0/8,*.example.com:443}"],
    "everything": POSTGRES + CERT_MANAGER + [
        "tls.rest=true", "etcd.replicas=3", "autoscaling.enabled=true", "ingress.enabled=true", "ingress.host=a.example.com",
        "metrics.serviceMonitor.enabled=true", "config.VOLCANION_LOG=debug", "imagePullSecrets={a,b}", "service.type=LoadBalancer",
        "service.annotations.a=b", "agent.labels.zone=a", "agent.cores=2", "agent.extraArgs={--busy-poll}", "master.extraArgs={--keep-runs=9}",
        "agent.nodeSelector.a=b", "master.nodeSelector.a=b", "agent.tolerations[0].operator=Exists", "master.tolerations[0].operator=Exists"],
}
# A wrong value, and what the error must name.
WRONG = {
    "agent.replicas=many": "replicas", "agent.replicas=-1": "replicas", "master.replicas=0": "replicas", "master.replicas=2": "store.url",
    "etcd.replicas=2": "replicas", "etcd.enabled=false": "etcd.endpoints", "etcd.endpoints={etcd:2379}": "endpoints",
    "auth.mode=open": "mode", "auth.public={metrics}": "public", "store.url=mysql://a": "url", "store.persistence.size=big": "size",
    "tls.source=vault": "source", "tls.source=secret": "tls.existing.", "tls.internal=maybe": "internal", "tls.days=0": "days",
    "limits.maxRate=fast": "maxRate", "limits.maxDuration=long": "maxDuration", "targets.allow={a\\,b}": "allow",
    "image.pullPolicy=Sometimes": "pullPolicy", "image.repository=": "repository", "ingress.enabled=true": "ingress.host",
    "config.LOG=debug": "LOG", "agent.extraArgs={busy}": "extraArgs", "fullnameOverride=Big_Name": "fullnameOverride",
    "no.such=value": "no", "service.type=Magic": "type", "autoscaling.targetCPUUtilizationPercentage=0": "targetCPU",
}
# What is there on a cluster beside Kubernetes itself.
APIS = ["monitoring.coreos.com/v1", "cert-manager.io/v1"]
HEADER = """# Rendered from helm/volcanion by tests/chart/check.py; change the chart, not this.
# Needs the Secrets volcanion-cluster-key (cluster-key), volcanion-admin (api-key), and volcanion-master-tls, volcanion-agent-tls and
# volcanion-etcd-tls (ca.crt, tls.crt, tls.key; DNS names volcanion-master, volcanion-agent, volcanion-etcd.volcanion.svc and
# *.volcanion-etcd.volcanion.svc): docs/operate.md says how to make them.
"""


def template(helm, values, apis=APIS):
    words = [helm, "template", "vol", str(CHART), "--namespace", "volcanion"]
    for api in apis:
        words += ["--api-versions", api]
    for value in values:
        words += ["--set", value]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def leaves(schema, path=()):
    properties = schema.get("properties")
    if properties is None:
        yield path
        return
    for name, inner in properties.items():
        yield from leaves(inner, path + (name,))


def readme(values):
    """The table of values, from values.yaml and its comments."""
    rows, comment, path = [], [], []
    for line in values.splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment.append(text.lstrip("# "))
            continue
        found = re.match(r"( *)([A-Za-z]+):(.*)", line)
        if not found:
            comment = []
            continue
        depth, name, value = len(found[1]) // 2, found[2], found[3].strip()
        path = path[:depth] + [name]
        if value or comment:
            rows.append(f"| `{'.'.join(path)}` | {f'`{value}`' if value else ''} | {' '.join(comment)} |")
        comment = []
    head = """# The chart

Masters, agents and an etcd for them. `helm install vol helm/volcanion --set fullnameOverride=vol` starts one master on SQLite and two agents; the notes that it prints say how to
go on. Kubernetes 1.20 or later.

Several masters need PostgreSQL: `kubectl create secret generic database --from-literal=url=postgres://…`, then `--set store.existingSecret=database,master.replicas=2`.
More agents are more load: `kubectl scale statefulset vol-agent --replicas=10`, in mid-run too where the plan is `elastic`. `helm test vol` asks whether writes are served.
`helm uninstall` leaves PersistentVolumeClaims behind, with what was measured.

| value | default | |
|---|---|---|
"""
    return head + "\n".join(rows).replace("| |", "| |") + "\n"


def plain(helm):
    """The manifests of deploy/kubernetes/, by file name."""
    rendered = template(helm, SECRETS + ["fullnameOverride=volcanion"], apis=[])
    assert rendered.returncode == 0, rendered.stderr
    files = {}
    for document in documents(rendered.stdout):
        labels = document["metadata"]["labels"]
        component = labels.get("app.kubernetes.io/component") or document["metadata"]["name"].rsplit("-", 1)[-1]
        if component == "test":
            continue
        for name in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
            labels.pop(name, None)
        inner = document.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {}) if isinstance(document.get("spec"), dict) else {}
        for name in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
            inner.pop(name, None)
        document["metadata"].pop("annotations", None)
        document["metadata"]["namespace"] = "volcanion"
        files.setdefault(f"{component}.yaml", []).append(document)
    return {name: HEADER + yaml.safe_dump_all(found, sort_keys=False, width=160) for name, found in sorted(files.items())}


def main():
    helm = sys.argv[1]
    values = (CHART / "values.yaml").read_text()
    if "--write" in sys.argv:
        (CHART / "README.md").write_text(readme(values))
        PLAIN.mkdir(exist_ok=True)
        for old in PLAIN.glob("*.yaml"):
            old.unlink()
        for name, text in plain(helm).items():
            (PLAIN / name).write_text(text)
        return 0
    wrong = []

    def check(what, holds, why=""):
        print(("ok    " if holds else "WRONG ") + what + ("" if holds else f": {why}"))
        if not holds:
            wrong.append(what)

    lint = subprocess.run([helm, "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False)
    check("helm lint --strict", lint.returncode == 0, lint.stdout + lint.stderr)
    for name, chosen in MATRIX.items():
        rendered = template(helm, chosen)
        if rendered.returncode != 0:
            check(name, False, rendered.stderr)
            continue
        problems = []
        for document in documents(rendered.stdout):
            if document["apiVersion"] in APIS:
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    problems.append(f"{version} {document['kind']} {document['metadata']['name']}: {error.message}")
        check(f"{name}: as Kubernetes {', '.join(VERSIONS)} have it", not problems, "; ".join(problems[:5]))
    for value, named in WRONG.items():
        refused = template(helm, [value])
        check(f"{value} is refused", refused.returncode != 0 and named in refused.stderr, refused.stderr or "it was taken")
    used = set()
    for path in glob.glob(str(CHART / "templates/**/*"), recursive=True):
        if os.path.isfile(path):
            used |= set(re.findall(r"\.Values\.([A-Za-z.]+[A-Za-z])", Path(path).read_text()))
    schema, defaults = json.loads((CHART / "values.schema.json").read_text()), yaml.safe_load(values)
    for path in leaves(schema):
        if path == ("global",):
            continue
        text = ".".join(path)
        check(f"{text} is used", any(text == name or text.startswith(name + ".") for name in used), "no template reads it")
        at = defaults
        for name in path:
            at = at.get(name, ...) if isinstance(at, dict) else ...
        check(f"{text} has a default", at is not ..., "values.yaml has none")
    known = {".".join(path[:length]) for path in leaves(schema) for length in range(1, len(path) + 1)}
    check("templates read only values that the schema has", used <= known, ", ".join(sorted(used - known)))
    check("helm/volcanion/README.md is current", (CHART / "README.md").read_text() == readme(values), "write it: check.py HELM --write")
    there = {path.name: path.read_text() for path in PLAIN.glob("*.yaml")}
    check("deploy/kubernetes/ is current", there == plain(helm), "write it: check.py HELM --write")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
