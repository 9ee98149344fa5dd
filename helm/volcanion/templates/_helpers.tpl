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
