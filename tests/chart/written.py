"""What is written from the chart: its README, the plain manifests, and the copies of rules and dashboards that it carries."""

import re

from choices import SECRETS

HEADER = "# Rendered from helm/volcanion by tests/chart/check.py: change the chart, not this. README.md here says how to make the Secrets that it needs.\n"
README_HEAD = """# The chart

Masters, agents and an etcd for them. `helm install vol helm/volcanion --set fullnameOverride=vol` starts one master on SQLite and two agents; the notes that it prints say how to
go on. Kubernetes 1.20 or later. [docs/kubernetes.md](../../docs/kubernetes.md) is the longer story.

Several masters need PostgreSQL: `kubectl create secret generic database --from-literal=url=postgres://…`, then `--set store.existingSecret=database,master.replicas=2`.
More agents are more load: `kubectl scale statefulset vol-agent --replicas=10`, in mid-run too where the plan is `elastic`. `helm test vol` asks whether writes are served.
`helm uninstall` leaves PersistentVolumeClaims behind, with what was measured.

| value | default | |
|---|---|---|
"""


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
    return README_HEAD + "\n".join(rows) + "\n"


def plain(helm, dump):
    """The manifests of deploy/kubernetes/, by file name."""
    files = {}
    for document in helm.documents(SECRETS + ["fullnameOverride=volcanion"], apis=[]):
        labels = document["metadata"]["labels"]
        component = labels.get("app.kubernetes.io/component") or document["metadata"]["name"].rsplit("-", 1)[-1]
        if component == "test":
            continue
        inner = document.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {}) if isinstance(document.get("spec"), dict) else {}
        for name in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
            labels.pop(name, None)
            inner.pop(name, None)
        document["metadata"].pop("annotations", None)
        document["metadata"]["namespace"] = "volcanion"
        files.setdefault(f"{component}.yaml", []).append(document)
    return {name: HEADER + dump(found) for name, found in sorted(files.items())}


def carried(root):
    """The files that the chart carries, by name, as they are in deploy/."""
    paths = [root / "deploy/prometheus/rules.yaml", *sorted((root / "deploy/grafana").glob("*.json"))]
    return {path.name: path.read_text() for path in paths}
