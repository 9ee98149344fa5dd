{{- define "volcanion.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "volcanion.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "volcanion.labels" -}}
{{ include "volcanion.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "volcanion.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "volcanion.keySecret" -}}
{{ .Values.clusterKey.existingSecret | default (printf "%s-cluster-key" (include "volcanion.fullname" .)) }}
{{- end -}}

{{- define "volcanion.adminSecret" -}}
{{ .Values.auth.existingSecret | default (printf "%s-admin" (include "volcanion.fullname" .)) }}
{{- end -}}

{{- define "volcanion.storeSecret" -}}
{{ .Values.store.existingSecret | default (printf "%s-store" (include "volcanion.fullname" .)) }}
{{- end -}}

{{- define "volcanion.hasPostgres" -}}
{{- if or .Values.store.url .Values.store.existingSecret }}yes{{ end -}}
{{- end -}}

{{- /* The Secret with ca.crt, tls.crt and tls.key of a part: volcanion.tlsSecret (list $ "master") */ -}}
{{- define "volcanion.tlsSecret" -}}
{{- $root := index . 0 }}{{ $part := index . 1 -}}
{{- if eq $root.Values.tls.source "secret" -}}
{{ required (printf "tls.existing.%s is missing: with tls.source=secret it names a Secret with ca.crt, tls.crt and tls.key" $part) (index $root.Values.tls.existing $part) }}
{{- else -}}
{{ include "volcanion.fullname" $root }}-{{ $part }}-tls
{{- end -}}
{{- end -}}

{{- define "volcanion.etcdTls" -}}
{{- if and .Values.etcd.enabled .Values.etcd.tls }}yes{{ end -}}
{{- end -}}

{{- /* Whether the Secret for an etcd that is there already holds a key: volcanion.etcdSecretHas (list $ "ca.crt") */ -}}
{{- define "volcanion.etcdSecretHas" -}}
{{- $etcd := (index . 0).Values.etcd -}}
{{- if and (not $etcd.enabled) $etcd.existingSecret (has (index . 1) $etcd.existingSecretKeys) }}yes{{ end -}}
{{- end -}}

{{- /* Whether masters and agents have certificates: for each other, or for etcd. */ -}}
{{- define "volcanion.hasCertificates" -}}
{{- if or .Values.tls.internal (include "volcanion.etcdTls" .) }}yes{{ end -}}
{{- end -}}

{{- define "volcanion.endpoints" -}}
{{- if .Values.etcd.enabled -}}
{{ ternary "https" "http" .Values.etcd.tls }}://{{ include "volcanion.fullname" . }}-etcd.{{ .Release.Namespace }}.svc:2379
{{- else -}}
{{ join "," (required "etcd.endpoints is missing: name an etcd, or say etcd.enabled=true" (.Values.etcd.endpoints | default nil)) }}
{{- end -}}
{{- end -}}

{{- /* The flags that masters and agents have in common. */ -}}
{{- define "volcanion.commonArgs" -}}
- --etcd={{ include "volcanion.endpoints" . }}
- --prefix={{ .Values.etcd.prefix }}
- --cluster-key-file=/etc/volcanion/key/cluster-key
{{- if .Values.tls.internal }}
- --cluster-ca=/etc/volcanion/tls/ca.crt
- --cluster-cert=/etc/volcanion/tls/tls.crt
- --cluster-cert-key=/etc/volcanion/tls/tls.key
{{- end }}
{{- if include "volcanion.etcdTls" . }}
- --etcd-ca=/etc/volcanion/tls/ca.crt
- --etcd-cert=/etc/volcanion/tls/tls.crt
- --etcd-key=/etc/volcanion/tls/tls.key
{{- end }}
{{- if include "volcanion.etcdSecretHas" (list . "ca.crt") }}
- --etcd-ca=/etc/volcanion/etcd/ca.crt
{{- end }}
{{- if include "volcanion.etcdSecretHas" (list . "tls.crt") }}
- --etcd-cert=/etc/volcanion/etcd/tls.crt
- --etcd-key=/etc/volcanion/etcd/tls.key
{{- end }}
{{- with .Values.tracing.otlpEndpoint }}
- --otlp-endpoint={{ . }}
{{- end }}
{{- if .Values.tracing.existingSecret }}
- --otlp-ca=/etc/volcanion/tracing/ca.crt
{{- end }}
{{- with .Values.targets.allow }}
- --allow-target={{ join "," . }}
{{- end }}
{{- end -}}

{{- define "volcanion.commonEnv" -}}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: POD_IP
  valueFrom: { fieldRef: { fieldPath: status.podIP } }
{{- if include "volcanion.etcdSecretHas" (list . "username") }}
{{- range $setting, $key := dict "USER" "username" "PASSWORD" "password" }}
- name: VOLCANION_ETCD_{{ $setting }}
  valueFrom: { secretKeyRef: { name: {{ $.Values.etcd.existingSecret }}, key: {{ $key }} } }
{{- end }}
{{- end }}
{{- end -}}

{{- define "volcanion.commonMounts" -}}
- { name: key, mountPath: /etc/volcanion/key, readOnly: true }
{{- if include "volcanion.hasCertificates" . }}
- { name: tls, mountPath: /etc/volcanion/tls, readOnly: true }
{{- end }}
{{- if include "volcanion.etcdSecretHas" (list . "ca.crt") }}
- { name: etcd, mountPath: /etc/volcanion/etcd, readOnly: true }
{{- end }}
{{- if .Values.tracing.existingSecret }}
- { name: tracing, mountPath: /etc/volcanion/tracing, readOnly: true }
{{- end }}
{{- end -}}

{{- /* volcanion.commonVolumes (list $ "master") */ -}}
{{- define "volcanion.commonVolumes" -}}
{{- $root := index . 0 -}}
- name: key
  secret: { secretName: {{ include "volcanion.keySecret" $root }} }
{{- if include "volcanion.hasCertificates" $root }}
- name: tls
  secret: { secretName: {{ include "volcanion.tlsSecret" . }} }
{{- end }}
{{- if include "volcanion.etcdSecretHas" (list $root "ca.crt") }}
- name: etcd
  secret: { secretName: {{ $root.Values.etcd.existingSecret }} }
{{- end }}
{{- with $root.Values.tracing.existingSecret }}
- name: tracing
  secret: { secretName: {{ . }} }
{{- end }}
{{- end -}}

{{- /* Not two pods of a part on one node, where that can be: volcanion.spread (list $ "master") */ -}}
{{- define "volcanion.spread" -}}
{{- $root := index . 0 -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "volcanion.selector" $root | nindent 8 }}
        app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "volcanion.besideMasters" -}}
topologyKey: kubernetes.io/hostname
labelSelector:
  matchLabels: {{- include "volcanion.selector" . | nindent 4 }}
    app.kubernetes.io/component: master
{{- end -}}

{{- /* How many agents: what the autoscaler, or somebody by kubectl, has chosen stays over an upgrade where that is wanted. */ -}}
{{- define "volcanion.agents" -}}
{{- $there := dict -}}
{{- if or .Values.autoscaling.enabled .Values.agent.keepReplicas -}}
{{- $there = lookup "apps/v1" "StatefulSet" .Release.Namespace (printf "%s-agent" (include "volcanion.fullname" .)) -}}
{{- end -}}
{{- if $there -}}
{{ $there.spec.replicas }}
{{- else -}}
{{ ternary .Values.autoscaling.minReplicas .Values.agent.replicas .Values.autoscaling.enabled }}
{{- end -}}
{{- end -}}

{{- /* Requests and limits with their quantities as text: what a cluster applies by itself takes no numbers. */ -}}
{{- define "volcanion.resources" -}}
{{- $all := dict }}
{{- range $kind, $quantities := . }}
{{- $texts := dict }}
{{- range $name, $quantity := $quantities }}
{{- $isWhole := and (kindIs "float64" $quantity) (eq (floor $quantity) $quantity) }}
{{- $_ := set $texts $name (ternary (int64 $quantity | toString) (toString $quantity) $isWhole) }}
{{- end }}
{{- $_ := set $all $kind $texts }}
{{- end }}
{{- toYaml $all }}
{{- end -}}

{{- define "volcanion.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "volcanion.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}
