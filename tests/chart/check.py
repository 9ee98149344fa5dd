#!/usr/bin/env python3
"""Holds the Helm chart against what it says of itself.

    check.py HELM            checks; one line each, code 1 where something is wrong
    check.py HELM --write    writes helm/volcanion/README.md, helm/volcanion/files/ and deploy/kubernetes/ anew
    check.py HELM --render   prints the chart with every value chosen, for who wants to look at its flags
"""

import base64
import glob
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kubernetes_validate
import yaml

import choices
from cluster import Cluster
from promises import documented, plain_secrets, promises
from render import APIS, CHART, ROOT, Helm, comparable, documents
from written import carried, plain, readme

PLAIN = ROOT / "deploy/kubernetes"
# The oldest that the validator knows, some between, the newest. What 1.20 takes, the chart's oldest, no schema says: tests/suite/kubernetes.rs
# installs the chart on a real 1.20.
VERSIONS = ["1.25", "1.28", "1.31", "1.34", "1.37"]


def leaves(schema, path=()):
    """The values: where they are, and what the schema says of each."""
    for name, inner in schema.get("properties", {}).items():
        if "properties" in inner:
            yield from leaves(inner, path + (name,))
        elif path + (name,) != ("global",):  # Helm's own; a chart of one part has no use for it.
            yield ".".join(path + (name,)), inner


def default(values, path):
    for name in path.split("."):
        values = values.get(name, ...) if isinstance(values, dict) else ...
    return values


def wrong_type(schema, definitions):
    """A value of another type than the schema's."""
    schema = definitions.get(schema.get("$ref", "").rsplit("/", 1)[-1], schema)
    return {"array": "text", "object": "text", "boolean": "text", "integer": "text"}.get(schema.get("type"), [17])


def changed(path, schema, now):
    """Another value than the one that is there."""
    if path in choices.CHANGES:
        return choices.CHANGES[path]
    if "$ref" in schema:
        return choices.CHANGES_BY_DEFINITION[schema["$ref"].rsplit("/", 1)[-1]]
    if "enum" in schema:
        return next(value for value in schema["enum"] if value != now)
    return {"boolean": lambda: not now, "integer": lambda: now + 1}.get(schema.get("type"), lambda: "other")()


def companions(path):
    """What else is chosen so that the value matters. Certificates are there already where the value has nothing to do with them: to make them takes long."""
    found = [] if path.startswith("tls.") else list(choices.CERTIFICATES)
    for name, chosen in choices.COMPANIONS.items():
        # `x.enabled` needs no `x.enabled=true`: that is its change.
        if path == name or (path.startswith(name + ".") and f"{path}=true" not in chosen):
            found += chosen
    return found


def with_change(path, schema, defaults):
    together = choices.TOGETHER.get(path)
    # What is set as text would win over it.
    others = [value for value in companions(path) if not value.startswith(path + "=")]
    return others + (together or [(path, changed(path, schema, default(defaults, path)))])


def render_all(helm, sets):
    """Renders many sets of values at once, in their order."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(helm.template, sets))


def schema_problems(found, seen):
    """What Kubernetes' schemas have against documents; those that were seen before are as good as they were."""
    for document in found:
        text = json.dumps(document)
        if document["apiVersion"] in APIS or text in seen:
            continue
        seen.add(text)
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{version} {document['kind']} {document['metadata']['name']}: {error.message}"


def check_matrix(helm, check):
    rendered, seen = render_all(helm, choices.MATRIX.values()), set()
    for name, output in zip(choices.MATRIX, rendered):
        if output.returncode != 0:
            check(name, False, output.stderr)
            continue
        problems = list(schema_problems(comparable(documents(output.stdout)), seen))
        check(f"{name}: as Kubernetes {', '.join(VERSIONS)} have it", not problems, "; ".join(problems[:5]))
    rendered = render_all(helm, [[values] for values in choices.WRONG])
    for (value, named), output in zip(choices.WRONG.items(), rendered):
        check(f"{value} is refused", output.returncode != 0 and named in output.stderr, output.stderr or "it was taken")


def check_values(helm, check, schema, defaults):
    """Every value has a default, is refused in a wrong type, and makes a difference."""
    values = dict(leaves(schema))
    for path in values:
        check(f"{path} has a default", default(defaults, path) is not ..., "values.yaml has none")
    refused = helm.template([(path, wrong_type(inner, schema["definitions"])) for path, inner in values.items()])
    for path in values:
        check(f"{path} of a wrong type is refused", f"'/{path.replace('.', '/')}'" in refused.stderr, refused.stderr[:200])
    tried = [path for path in values if path not in choices.BY_WHAT_IS_THERE]
    # Many values have the same companions, and so the same rendering without their change.
    sets = {repr(companions(path)): companions(path) for path in tried}
    without = {key: comparable(documents(output.stdout)) for key, output in zip(sets, render_all(helm, sets.values()))}
    for path, output in zip(tried, render_all(helm, [with_change(path, values[path], defaults) for path in tried])):
        differs = output.returncode == 0 and comparable(documents(output.stdout)) != without[repr(companions(path))]
        check(f"{path} makes a difference", differs, output.stderr or "what is rendered is the same")
    for name in choices.VALUE_NAMES:
        check(f"{name} is a value", name in values or any(path.startswith(name + ".") for path in values), "the schema has none")


def check_templates(check, schema):
    used = set()
    for path in glob.glob(str(CHART / "templates/**/*"), recursive=True):
        if os.path.isfile(path):
            used |= set(re.findall(r"\.Values\.([A-Za-z.]+[A-Za-z])", Path(path).read_text()))
    known = {".".join(path.split(".")[:length]) for path, _ in leaves(schema) for length in range(1, len(path) + 1)}
    known |= {"agent.resources.requests.cpu"}
    check("templates read only values that the schema has", used <= known, ", ".join(sorted(used - known)))


def with_what_is_there(helm, check):
    """What a cluster that lacks something, or has something already, makes of the chart."""
    lacks = {"policy/v1": "PodDisruptionBudget", "autoscaling/v2": "HorizontalPodAutoscaler", "monitoring.coreos.com/v1": "PrometheusRule"}
    chosen = choices.MONITORS + ["autoscaling.enabled=true"]
    for versions in [(), tuple(lacks)]:
        with Cluster(lacks=versions) as cluster:
            done, found, notes = helm.install(cluster, chosen)
        kinds = {document["kind"] for document in found}
        for version, kind in lacks.items():
            left_out = version in versions
            holds = done.returncode == 0 and (kind in kinds) != left_out and (f"no {version}" in notes) == left_out
            check(f"{'without' if left_out else 'with'} {version}: {kind} and its note", holds, done.stderr or notes)
    there = [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "vol-agent"}, "spec": {"replicas": 7}},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "vol-etcd"}, "spec": {"replicas": 1}},
    ] + [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"vol-{name}"}, "data": {key: base64.b64encode(name.encode()).decode() for key in keys}}
        for name, keys in {"admin": ["api-key"], "cluster-key": ["cluster-key"], "master-tls": TLS, "agent-tls": TLS, "etcd-tls": TLS}.items()
    ]
    with Cluster(there=there) as cluster:
        for value, replicas in {"agent.keepReplicas=true": "7", "agent.keepReplicas=false": "2", "tls.rest=true": "2", "autoscaling.enabled=true": "2 to 10, by need"}.items():
            done, found, notes = helm.install(cluster, [value])
            agents = [document["spec"]["replicas"] for document in found if (document["kind"], document["metadata"]["name"]) == ("StatefulSet", "vol-agent")]
            holds = agents == [2 if value in ("agent.keepReplicas=false", "tls.rest=true") else 7] and f"Agents: {replicas}." in notes
            check(f"seven agents are there, {value}: {replicas}", holds, done.stderr or str(agents))
            kept = all(document in [secret["data"] for secret in there[2:]] for document in
                       [document["data"] for document in found if document["kind"] == "Secret" and document["metadata"]["name"] != "vol-rest-tls"])
            check(f"keys and certificates are kept, {value}", kept, done.stderr or str(found))
        done, _, _ = helm.install(cluster, ["etcd.replicas=3"])
        check("etcd.replicas=3 over one member is refused", "etcd.replicas" in done.stderr, done.stderr or "it was taken")
        for value, said in {"auth.mode=off": "WHOEVER REACHES", "tls.internal=false": "tls.internal is off", "etcd.tls=false": "etcd.tls is off",
                            "auth.mode=keys": "get secret vol-admin"}.items():
            done, _, notes = helm.install(cluster, [value])
            check(f"the notes speak of {value}", said in notes, done.stderr or notes)
    old = helm.template([], "--kube-version", "1.19.0")
    check("Kubernetes 1.19 is refused", old.returncode != 0 and "1.20" in old.stderr, old.stderr or "it was taken")


TLS = ["ca.crt", "tls.crt", "tls.key"]


def dump(found):
    return yaml.safe_dump_all(found, sort_keys=False, width=160)


def write(helm, values):
    (CHART / "README.md").write_text(readme(values))
    for folder, files in {PLAIN: plain(helm, dump), CHART / "files": carried(ROOT)}.items():
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            if old.suffix in (".yaml", ".json"):
                old.unlink()
        for name, text in files.items():
            (folder / name).write_text(text)


def main():
    helm = Helm(sys.argv[1])
    values = (CHART / "values.yaml").read_text()
    if "--write" in sys.argv:
        write(helm, values)
        return 0
    if "--render" in sys.argv:
        print(helm.template(choices.EVERYTHING).stdout)
        return 0
    wrong = []

    def check(what, holds, why=""):
        print(("ok    " if holds else "WRONG ") + what + ("" if holds else f": {why}"))
        if not holds:
            wrong.append(what)

    lint = helm.run("lint", "--strict", str(CHART))
    check("helm lint --strict", lint.returncode == 0, lint.stdout + lint.stderr)
    schema = json.loads((CHART / "values.schema.json").read_text())
    check_matrix(helm, check)
    check_values(helm, check, schema, yaml.safe_load(values))
    check_templates(check, schema)
    promises(helm, check)
    plain_secrets(check, PLAIN)
    documented(helm, check)
    with_what_is_there(helm, check)
    current = "write it: check.py HELM --write"
    check("helm/volcanion/README.md is current", (CHART / "README.md").read_text() == readme(values), current)
    for folder, files in {PLAIN: plain(helm, dump), CHART / "files": carried(ROOT)}.items():
        there = {path.name: path.read_text() for path in folder.iterdir() if path.suffix in (".yaml", ".json")}
        check(f"{folder.relative_to(ROOT)} is current", there == files, current)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
