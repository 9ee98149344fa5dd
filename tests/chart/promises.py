"""What others rely on in the chart: names, labels, ports, and that pods may do nothing that they need not."""

import base64
import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

from choices import POSTGRES
from render import ROOT, names

PROGRAM = "/usr/bin/volcanion"


def promises(helm, check):
    found = {(document["kind"], document["metadata"]["name"]): document
             for document in helm.documents(POSTGRES + ["fullnameOverride=vol", "tls.rest=true", "auth.mode=keys"])}
    for kind, name in [("Deployment", "vol-master"), ("Service", "vol-master"), ("StatefulSet", "vol-agent"), ("Service", "vol-agent"),
                       ("StatefulSet", "vol-etcd"), ("Secret", "vol-admin"), ("NetworkPolicy", "vol-agent"), ("PodDisruptionBudget", "vol-agent"),
                       ("PodDisruptionBudget", "vol-master"), ("Pod", "vol-test-ready")]:
        check(f"there is {kind} {name}", (kind, name) in found, str(sorted(found)))
    ports = found["Service", "vol-master"]["spec"]["ports"]
    check("vol-master has port 8080, http", [(port["name"], port["port"]) for port in ports] == [("http", 8080)], str(ports))
    check("vol-admin has api-key alone", list(found["Secret", "vol-admin"]["data"]) == ["api-key"], "")
    check("vol-agent is headless", found["Service", "vol-agent"]["spec"]["clusterIP"] == "None", "")
    check("agents start at once", found["StatefulSet", "vol-agent"]["spec"]["podManagementPolicy"] == "Parallel", "")
    for kind, name, component in [("Deployment", "vol-master", "master"), ("StatefulSet", "vol-agent", "agent"), ("StatefulSet", "vol-etcd", "etcd")]:
        template = found[kind, name]["spec"]["template"]
        check(f"pods of {name} are labelled {component}", template["metadata"]["labels"]["app.kubernetes.io/component"] == component, "")
        restricted(check, name, template["spec"])
    etcd = found["StatefulSet", "vol-etcd"]["spec"]["template"]["metadata"]["labels"]
    check("a new chart does not restart etcd beside masters and agents", not {"helm.sh/chart", "app.kubernetes.io/version"} & set(etcd), str(etcd))
    limited = helm.documents(["fullnameOverride=vol", "agent.resources.limits.cpu=1", "agent.resources.limits.memory=1073741824"])
    agent = next(document for document in limited if (document["kind"], document["metadata"]["name"]) == ("StatefulSet", "vol-agent"))
    limits = agent["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    check("quantities that are numbers become text", limits == {"cpu": "1", "memory": "1073741824"}, str(limits))
    for kind, name in [("Deployment", "vol-master"), ("StatefulSet", "vol-agent")]:
        container = found[kind, name]["spec"]["template"]["spec"]["containers"][0]
        check(f"{name} starts by the image's entrypoint", "command" not in container and container["args"][0] == container["name"], "")
        check(f"{name} has probes", {"livenessProbe", "readinessProbe"} <= set(container), "")
    hook = found["StatefulSet", "vol-agent"]["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    check("agents hand over before they stop", hook == [PROGRAM, "leave"], str(hook))
    check("the image's entrypoint is the program", f'ENTRYPOINT ["{PROGRAM}"]' in (ROOT / "deploy/Dockerfile").read_text(), "")
    rights = [kind for kind, _ in found if "Role" in kind]
    check("nobody has rights in the cluster", not rights, str(rights))
    etcd = "vol-etcd.volcanion.svc"
    for part, expected in {"master": {"volcanion-master"}, "agent": {"volcanion-agent"}, "etcd": {etcd, f"*.{etcd}"},
                           "rest": {"volcanion-master", "vol-master", "vol-master.volcanion.svc"}}.items():
        certificate = names(base64.b64decode(found["Secret", f"vol-{part}-tls"]["data"]["tls.crt"]))
        check(f"the certificate of {part} has its names", expected <= certificate, str(certificate))


def restricted(check, name, pod):
    """The restricted Pod Security Standard, and a root that is read-only."""
    whole, container = pod["securityContext"], pod["containers"][0]["securityContext"]
    check(f"pods of {name} are restricted", all([
        whole["runAsNonRoot"] is True, isinstance(whole["runAsUser"], int), whole["seccompProfile"]["type"] == "RuntimeDefault",
        container["allowPrivilegeEscalation"] is False, container["readOnlyRootFilesystem"] is True, container["capabilities"]["drop"] == ["ALL"],
        pod["automountServiceAccountToken"] is False]), str((whole, container)))


def plain_secrets(check, folder):
    """The lines in the plain manifests' README make the Secrets that those name, with certificates of the names that are asked for."""
    wanted = {name for path in folder.glob("*.yaml") for name in re.findall(r"(?:secretName|secretKeyRef): *(\S+)", path.read_text())}
    block = re.search(r"```sh\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    with tempfile.TemporaryDirectory() as at:
        at = Path(at)
        # A kubectl that notes what it is told, and keeps the certificates.
        (at / "kubectl").write_text('#!/bin/sh\necho "$@" >>said\ncase "$*" in *tls.crt*) cp tls.crt "$6.crt";; esac\n')
        (at / "kubectl").chmod(0o755)
        done = subprocess.run(["sh", "-eu"], input=block, cwd=at, env={**os.environ, "PATH": f"{at}:{os.environ['PATH']}"},
                              capture_output=True, text=True, check=False)
        check("deploy/kubernetes/README.md: its lines run", done.returncode == 0, done.stderr)
        made = set(re.findall(r"secret generic (\S+)", (at / "said").read_text()))
        check("deploy/kubernetes/README.md makes the Secrets that are named", made == wanted, f"{made} {wanted}")
        etcd = "volcanion-etcd.volcanion.svc"
        for part, expected in {"master": {"volcanion-master"}, "agent": {"volcanion-agent"}, "etcd": {etcd, f"*.{etcd}"}}.items():
            found = names((at / f"volcanion-{part}-tls.crt").read_bytes())
            check(f"deploy/kubernetes/README.md: the certificate of {part}", found == expected, str(found))


def documented(helm, check):
    """What the pages say of Helm renders."""
    for page in ["docs/kubernetes.md", "helm/volcanion/README.md"]:
        text = (ROOT / page).read_text().replace("\\\n", " ")
        for line in re.findall(r"helm (?:install|upgrade) vol helm/volcanion[^\n`#]*", text):
            words = shlex.split(line)
            values = [word for flag, word in zip(words, words[1:]) if flag == "--set"]
            rendered = helm.template(values)
            check(f"{page}: {line.strip()}", rendered.returncode == 0, rendered.stderr)
