"""As much of a Kubernetes API as `helm install --dry-run=server` asks: which versions it serves, and objects that are there."""

import json
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Kinds that the chart makes or looks up, by their version.
KINDS = {
    "v1": ["Namespace", "Pod", "Service", "ServiceAccount", "Secret", "ConfigMap", "PersistentVolumeClaim"],
    "apps/v1": ["Deployment", "StatefulSet"],
    "networking.k8s.io/v1": ["NetworkPolicy", "Ingress"],
    "policy/v1": ["PodDisruptionBudget"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
    "monitoring.coreos.com/v1": ["ServiceMonitor", "PodMonitor", "PrometheusRule"],
    "cert-manager.io/v1": ["Certificate"],
}
PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}


def plural(kind):
    return PLURALS.get(kind, kind.lower() + "s")


class Cluster:
    """Serves on loopback while it is entered; `lacks` are versions that it does not have, `there` objects that it has."""

    def __init__(self, lacks=(), there=()):
        self.kinds = {version: kinds for version, kinds in KINDS.items() if version not in lacks}
        self.objects = {}
        for document in there:
            # As this release's own: what is another's may not be installed over.
            document["metadata"].setdefault("labels", {})["app.kubernetes.io/managed-by"] = "Helm"
            document["metadata"]["annotations"] = {"meta.helm.sh/release-name": "vol", "meta.helm.sh/release-namespace": "volcanion"}
            path = f"{base(document['apiVersion'])}/namespaces/volcanion/{plural(document['kind'])}/{document['metadata']['name']}"
            self.objects[path] = document

    def __enter__(self):
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                found = cluster.answer(self.path.split("?")[0])
                body = json.dumps(found or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound"}).encode()
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        # Also the home of Helm, which else keeps for the next cluster on this port what this one serves.
        self.home = tempfile.TemporaryDirectory()
        self.config = Path(self.home.name) / "config"
        self.config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }))
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.home.cleanup()

    def answer(self, path):
        if path == "/version":
            return {"major": "1", "minor": "20", "gitVersion": "v1.20.15"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [{"groupVersion": version, "version": version.split("/")[1]} for version in self.kinds if "/" in version]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [
                {"name": group["groupVersion"].split("/")[0], "versions": [group], "preferredVersion": group} for group in groups]}
        for version, kinds in self.kinds.items():
            if path == base(version):
                return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [
                    {"name": plural(kind), "singularName": kind.lower(), "kind": kind, "namespaced": kind != "Namespace", "verbs": ["get", "list"]}
                    for kind in kinds]}
        if path in self.objects:
            return self.objects[path]
        if path.endswith("/secrets"):
            # Helm's list of releases.
            return {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": []}
        return None


def base(version):
    return f"/apis/{version}" if "/" in version else f"/api/{version}"
