"""What is chosen of the chart's values: sets that must render, ones that must not, and a change for each value."""

POSTGRES = ["store.existingSecret=database", "master.replicas=2"]
CERT_MANAGER = ["tls.source=cert-manager", "tls.issuerRef.name=ca"]
CERTIFICATES = [
    "tls.source=secret",
    "tls.existing.master=volcanion-master-tls",
    "tls.existing.agent=volcanion-agent-tls",
    "tls.existing.etcd=volcanion-etcd-tls",
]
SECRETS = CERTIFICATES + ["auth.existingSecret=volcanion-admin", "clusterKey.existingSecret=volcanion-cluster-key"]
ELSEWHERE = ["etcd.enabled=false", "etcd.endpoints={https://a:2379,https://b:2379}", "etcd.existingSecret=etcd"]
MONITORS = ["metrics.serviceMonitor.enabled=true", "metrics.prometheusRule.enabled=true", "metrics.grafanaDashboards.enabled=true"]
AGENT_EXTRAS = [
    "agent.labels.zone=a", "agent.cores=2", "agent.extraArgs={--busy-poll}", "agent.nodeSelector.a=b", "agent.tolerations[0].operator=Exists",
    "agent.secrets.existingSecret=s", "agent.files.existingConfigMap=f", "agent.extraEnv[0].name=VOLCANION_PIN", "agent.extraEnv[0].value=x",
    "agent.extraVolumes[0].name=more", "agent.extraVolumes[0].emptyDir.medium=Memory",
    "agent.extraVolumeMounts[0].name=more", "agent.extraVolumeMounts[0].mountPath=/more"]
MASTER_EXTRAS = [
    "master.extraArgs={--keep-runs=9}", "master.nodeSelector.a=b", "master.tolerations[0].operator=Exists", "master.antiAffinity=required",
    "master.extraEnv[0].name=PGPASSWORD", "master.extraEnv[0].valueFrom.secretKeyRef.name=p", "master.extraEnv[0].valueFrom.secretKeyRef.key=k",
    "master.extraVolumes[0].name=more", "master.extraVolumes[0].secret.secretName=s",
    "master.extraVolumeMounts[0].name=more", "master.extraVolumeMounts[0].mountPath=/more"]
# Everything at once; its flags and variables are held against the program's help too.
EVERYTHING = POSTGRES + CERT_MANAGER + MONITORS + AGENT_EXTRAS + MASTER_EXTRAS + ELSEWHERE + [
    "etcd.existingSecretKeys={ca.crt,tls.crt,tls.key,username,password}", "tls.rest=true", "autoscaling.enabled=true",
    "ingress.enabled=true", "ingress.host=a.example.com", "metrics.serviceMonitor.authorizationSecret=k", "config.VOLCANION_LOG=debug",
    "imagePullSecrets={a,b}", "service.type=LoadBalancer", "service.annotations.a=b", "tracing.otlpEndpoint=https://otel:4317",
    "tracing.existingSecret=otel",
    "limits.maxRate=100/s", "limits.maxVus=50", "limits.maxDuration=1h", "targets.allow={10.0.0.0/8}"]
MATRIX = {
    "defaults": [],
    "three members of etcd": ["etcd.replicas=3", "etcd.persistence.storageClassName=fast"],
    "etcd in the clear": ["etcd.tls=false"],
    "an etcd that is there": ELSEWHERE,
    "an etcd that is there, by password": ELSEWHERE + ["etcd.existingSecretKeys={ca.crt,username,password}"],
    "an etcd that is there, in the clear": ["etcd.enabled=false", "etcd.endpoints={http://a:2379}", "tls.internal=false"],
    "PostgreSQL by its URL": ["store.url=postgres://u:p@h/d", "master.replicas=3"],
    "PostgreSQL by a Secret": POSTGRES,
    "masters apart": POSTGRES + ["master.antiAffinity=required"],
    "masters anywhere": POSTGRES + ["master.antiAffinity=none"],
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
    "monitors": MONITORS + ["metrics.serviceMonitor.labels.release=p", "tls.rest=true"],
    "pod monitors, with a key": MONITORS + ["metrics.serviceMonitor.kind=PodMonitor", "auth.public={health}",
                                            "metrics.serviceMonitor.authorizationSecret=k"],
    "no policies": ["networkPolicy.enabled=false", "podDisruptionBudget.enabled=false"],
    "limits": ["limits.maxRate=100/s", "limits.maxVus=50", "limits.maxDuration=1h", "targets.allow={10.0.0.0/8,*.example.com:443}"],
    "everything": EVERYTHING,
}
# A wrong value, or values that contradict each other, and what the error must name. Wrong types are made from the schema.
WRONG = {
    "agent.replicas=-1": "replicas", "master.replicas=0": "replicas", "master.replicas=2": "store.url", "etcd.replicas=2": "replicas",
    "etcd.enabled=false": "etcd.endpoints", "etcd.endpoints={http://a:2379}": "etcd.endpoints", "etcd.existingSecret=a": "etcd.existingSecret",
    "etcd.enabled=false,etcd.endpoints={etcd:2379}": "endpoints",
    "etcd.enabled=false,etcd.endpoints={https://a:2379}": "etcd.existingSecret",
    "etcd.enabled=false,etcd.endpoints={http://a:2379},etcd.existingSecret=a": "etcd.endpoints",
    "etcd.enabled=false,etcd.endpoints={https://a:2379},etcd.existingSecret=a,etcd.existingSecretKeys={ca.crt,tls.crt}": "tls.key",
    "etcd.enabled=false,etcd.endpoints={http://a:2379},etcd.existingSecret=a,etcd.existingSecretKeys={username}": "password",
    "etcd.enabled=false,etcd.endpoints={http://a:2379},etcd.existingSecret=a,etcd.existingSecretKeys={tls.crt,tls.key}": "ca.crt",
    "etcd.existingSecretKeys={token}": "existingSecretKeys",
    "etcd.replicas=3,etcd.persistence.enabled=false": "etcd.persistence.enabled",
    "etcd.tls=false,networkPolicy.enabled=false": "etcd.tls",
    "auth.mode=open": "mode", "auth.public={metrics}": "public", "store.url=mysql://a": "url", "store.persistence.size=big": "size",
    "store.url=postgres://a/b,store.existingSecret=a": "store.existingSecret",
    "tls.source=vault": "source", "tls.source=secret": "tls.existing.", "tls.source=cert-manager": "tls.issuerRef.name", "tls.days=0": "days",
    "limits.maxRate=fast": "maxRate", "limits.maxDuration=long": "maxDuration", "targets.allow={a\\,b}": "allow",
    "image.pullPolicy=Sometimes": "pullPolicy", "image.repository=": "repository", "image.tag=a/b": "tag", "ingress.enabled=true": "ingress.host",
    "config.LOG=debug": "LOG", "agent.extraArgs={busy}": "extraArgs", "fullnameOverride=Big_Name": "fullnameOverride",
    "no.such=value": "no", "agent.replica=2": "replica", "service.type=Magic": "type", "master.antiAffinity=always": "antiAffinity",
    "autoscaling.targetCPUUtilizationPercentage=0": "targetCPU",
    "autoscaling.enabled=true,autoscaling.minReplicas=5,autoscaling.maxReplicas=4": "autoscaling.minReplicas",
    "autoscaling.enabled=true,agent.resources.requests.cpu=null": "agent.resources.requests.cpu",
    "agent.resources.requests.cpu=much": "cpu", "agent.resources.limit.cpu=1": "limit", "master.resources.requests.memori=1Gi": "memori",
    "metrics.serviceMonitor.enabled=true,auth.public={health}": "authorizationSecret",
    "agent.extraVolumes[0].name=tls,agent.extraVolumes[0].emptyDir.medium=Memory": "extraVolumes",
    "agent.extraEnv[0].value=a": "extraEnv", "tracing.otlpEndpoint=otel": "otlpEndpoint",
    "tracing.otlpEndpoint=http://otel:4317,tracing.existingSecret=otel": "tracing.existingSecret", "auth.existingSecret=Big_Name": "existingSecret",
}
# A value that is changed must change what is rendered. The change is made from the schema where it is not here.
CHANGES = {
    "fullnameOverride": "other", "image.repository": "other", "image.tag": "v9", "imagePullSecrets": ["other"],
    "targets.allow": ["10.0.0.0/8"], "limits.maxRate": "9/s", "limits.maxDuration": "9h", "auth.public": ["health"],
    "etcd.image.repository": "other", "etcd.image.tag": "v9", "etcd.endpoints": ["https://c:2379"], "etcd.prefix": "/other",
    "etcd.replicas": 3, "etcd.existingSecretKeys": ["ca.crt", "username", "password"], "store.url": "postgres://other/db",
    "ingress.host": "other.example.com", "metrics.serviceMonitor.interval": "9s", "tls.source": "cert-manager",
    "tracing.otlpEndpoint": "http://other:4317", "config": {"VOLCANION_LOG": "debug"},
    "agent.tolerations": [{"operator": "Exists"}], "master.tolerations": [{"operator": "Exists"}],
}
# By what a definition of the schema says what a value is.
CHANGES_BY_DEFINITION = {
    "objectName": "other", "size": "9Gi", "texts": {"other": "value"}, "resources": {"limits": {"memory": "9Gi"}}, "flags": ["--other"],
    "environment": [{"name": "OTHER", "value": "9"}], "volumes": [{"name": "other", "emptyDir": {}}],
    "volumeMounts": [{"name": "other", "mountPath": "/other"}],
}
# Changed together with another, for alone it is refused.
TOGETHER = {
    "etcd.enabled": ["etcd.enabled=false", "etcd.endpoints={http://a:2379}"],
    "ingress.enabled": ["ingress.enabled=true", "ingress.host=a.example.com"],
}
# What else must be chosen for a value, or the values below it, to matter.
COMPANIONS = {
    "autoscaling": ["autoscaling.enabled=true"],
    "ingress": TOGETHER["ingress.enabled"],
    "metrics.serviceMonitor": ["metrics.serviceMonitor.enabled=true"],
    "metrics.prometheusRule": ["metrics.prometheusRule.enabled=true"],
    "metrics.grafanaDashboards": ["metrics.grafanaDashboards.enabled=true"],
    "master.replicas": ["store.existingSecret=database"],
    "tls.source": ["tls.issuerRef.name=ca"],
    "tls.issuerRef": CERT_MANAGER,
    "tls.existing": CERTIFICATES + ["tls.rest=true", "tls.existing.rest=r"],
    "tracing.existingSecret": ["tracing.otlpEndpoint=https://otel:4317"],
    "etcd.endpoints": ELSEWHERE,
    "etcd.existingSecret": ELSEWHERE,
    "etcd.existingSecretKeys": ELSEWHERE,
}
# Values that another cluster is needed to see: what is there decides. `with_what_is_there` in check.py tries them.
BY_WHAT_IS_THERE = {"agent.keepReplicas"}
# Names that others rely on.
VALUE_NAMES = """image.repository image.tag image.pullPolicy master.replicas agent.replicas agent.resources etcd.enabled etcd.endpoints
    etcd.image.repository etcd.image.tag store.url store.existingSecret store.persistence.enabled etcd.persistence.enabled auth.mode tls.internal
    tls.rest targets.allow metrics.serviceMonitor.enabled autoscaling.enabled autoscaling.minReplicas autoscaling.maxReplicas fullnameOverride""".split()
