"""Helm, and what it renders."""

import base64
import json
import os
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/volcanion"
# What is there on a cluster beside Kubernetes itself.
APIS = ["monitoring.coreos.com/v1", "cert-manager.io/v1"]


class Helm:
    def __init__(self, program):
        self.program = program

    def run(self, *words, **further):
        return subprocess.run([self.program, *words], capture_output=True, text=True, check=False, **further)

    def template(self, values, *further, apis=APIS):
        """`helm template` with these values: `a.b=c`, or a pair of a path and what is set there."""
        words = []
        for api in apis:
            words += ["--api-versions", api]
        for value in values:
            words += ["--set", value] if isinstance(value, str) else ["--set-json", f"{value[0]}={json.dumps(value[1])}"]
        return self.run("template", "vol", str(CHART), "--namespace", "volcanion", *words, *further)

    def documents(self, values, apis=APIS):
        rendered = self.template(values, apis=apis)
        assert rendered.returncode == 0, f"{values}: {rendered.stderr}"
        return documents(rendered.stdout)

    def install(self, cluster, values):
        """What an install on a cluster would make, and its notes."""
        words = [word for value in values for word in ("--set", value)]
        done = self.run("install", "vol", str(CHART), "--namespace", "volcanion", "--dry-run=server", "--disable-openapi-validation",
                        "--kubeconfig", str(cluster.config), "--set", "fullnameOverride=vol", *words, env={**os.environ, "HOME": cluster.home.name})
        manifest, _, notes = done.stdout.partition("\nNOTES:\n")
        return done, documents(manifest.partition("\nMANIFEST:\n")[2]), notes


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def comparable(found):
    """Without what is random in it: keys, and of certificates all but how long they hold."""
    for document in found:
        if document["kind"] == "Secret":
            data = document["data"]
            for key in data:
                if key == "tls.crt":
                    data[key] = base64.b64encode(lifetime(base64.b64decode(data[key]))).decode()
                elif key != "url":
                    data[key] = "cmFuZG9t"
    return found


def lifetime(certificate):
    """The day on which a certificate ends; it begins now."""
    said = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601"], input=certificate, capture_output=True, check=True).stdout
    return said.split()[0]


def names(certificate):
    """The DNS names of a certificate."""
    said = subprocess.run(["openssl", "x509", "-noout", "-ext", "subjectAltName"], input=certificate, capture_output=True, check=True).stdout
    return {word.strip(" ,").removeprefix("DNS:") for word in said.decode().split() if word.startswith("DNS:")}
