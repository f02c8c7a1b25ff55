{{/* The name that all objects of the release begin with. */}}
{{- define "keep-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The labels that select the pods of a part; they never change. Takes root, part. */}}
{{- define "keep-operator.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{/* The labels of an object. Takes root, part; part is empty for what belongs to all of them. */}}
{{- define "keep-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: keep-operator
{{- with .part }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The labels of a pod: without versions, so that an upgrade that changes nothing of it starts nothing anew. Takes root, part. */}}
{{- define "keep-operator.podLabels" -}}
{{ include "keep-operator.selector" . }}
app.kubernetes.io/part-of: keep-operator
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The name of a part's objects: the operator has the plain name. Takes root, part. */}}
{{- define "keep-operator.name" -}}
{{- $full := include "keep-operator.fullname" .root -}}
{{- if eq .part "operator" }}{{ $full }}{{ else }}{{ printf "%s-%s" $full .part }}{{ end -}}
{{- end -}}

{{/* The name of a part's service account. Takes root, part. */}}
{{- define "keep-operator.account" -}}
{{- $account := (index .root.Values .part).serviceAccount -}}
{{- if $account.create -}}
{{- default (include "keep-operator.name" .) $account.name -}}
{{- else -}}
{{- required (printf "%s.serviceAccount.name is needed where %s.serviceAccount.create is false: the account that is there" .part .part) $account.name -}}
{{- end -}}
{{- end -}}

{{- define "keep-operator.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Rules of a role from files/rights.yaml. Takes root, of (operator, console), reaches. */}}
{{- define "keep-operator.rules" -}}
{{- $rights := index (.root.Files.Get "files/rights.yaml" | fromYaml) .of -}}
{{- range .reaches }}
{{- with index $rights . }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where the control database is. Takes root, part. */}}
{{- define "keep-operator.database" -}}
{{- $own := dict -}}
{{- if ne .part "operator" }}{{ $own = (index .root.Values .part).database.secret }}{{ end -}}
{{- $secret := ternary $own .root.Values.database.secret (not (empty $own.name)) -}}
- name: KEEP_OPERATOR_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.key }}
{{- end -}}

{{/* What a pod of ours has besides its containers. Takes root, part, values (of the part). */}}
{{- define "keep-operator.pod" -}}
serviceAccountName: {{ include "keep-operator.account" . }}
automountServiceAccountToken: {{ ne .part "runner" }}
{{- /* Else the Service `keep-operator-console` would give each pod a variable with the name of a setting. */}}
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.podSecurityContext }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
{{ toYaml . }}
{{- end }}
{{- with .values.affinity }}
affinity:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
-{{ toYaml . | indent 2 | trimPrefix " " }}
  labelSelector:
    matchLabels:
{{ include "keep-operator.selector" $ | indent 6 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What a container of ours has besides command, environment, ports. */}}
{{- define "keep-operator.container" -}}
image: {{ include "keep-operator.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* Liveness fails for what a restart mends, and readiness tells how far the start is. */}}
{{- define "keep-operator.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{/* The volume with the key that seals credentials, and where it is mounted and told. */}}
{{- define "keep-operator.keyVolume" -}}
- name: encryption-key
  secret:
    secretName: {{ .Values.encryptionKey.secret.name }}
    defaultMode: 0440
    items:
    - key: {{ .Values.encryptionKey.secret.key }}
      path: {{ .Values.encryptionKey.secret.key }}
{{- end -}}

{{- define "keep-operator.keyMount" -}}
- name: encryption-key
  mountPath: /etc/keep-operator/encryption-key
  readOnly: true
{{- end -}}

{{- define "keep-operator.key" -}}
- name: KEEP_OPERATOR_ENCRYPTION_KEY_FILE
  value: /etc/keep-operator/encryption-key/{{ .Values.encryptionKey.secret.key }}
{{- end -}}

{{/* Where people reach the console's pages; empty where nobody knows. */}}
{{- define "keep-operator.consoleUrl" -}}
{{- with .Values.console -}}
{{- if .url -}}
{{ .url }}
{{- else if and .enabled .ingress.enabled .ingress.host (not (hasPrefix "*" .ingress.host)) -}}
https://{{ .ingress.host }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Settings that operator, console and runner share with `doctor` and other commands that are run in their pods. */}}
{{- define "keep-operator.settings" -}}
{{- with .Values.clusterId }}
- name: KEEP_OPERATOR_CLUSTER_ID
  value: {{ . | quote }}
{{- end }}
- name: KEEP_OPERATOR_LOG_FORMAT
  value: {{ .Values.logFormat }}
- name: KEEP_OPERATOR_HEALTH_PORT
  value: "8080"
{{- end -}}

{{/* What the server is too old for, in words for people: one line each. */}}
{{- define "keep-operator.lacks" -}}
{{- $version := .Capabilities.KubeVersion.Version -}}
{{- if semverCompare "<1.25.0-0" $version }}
- rules in CustomResourceDefinitions (CEL, from 1.25): a wrong object is accepted, and then refused by the
  operator in its conditions
{{- else if semverCompare "<1.28.0-0" $version }}
- the field in the message of a rule (from 1.28): messages name the object
{{- end }}
{{- if semverCompare "<1.30.0-0" $version }}
- admission policies (from 1.30): nobody can prove who made a WorkflowDecision, see value decisionsUnverified, and
  the foreground deletion of a Tenant takes its Providers and Workflows along
{{- end }}
{{- if semverCompare "<1.31.0-0" $version }}
- field selectors of our kinds (from 1.31): labels select the same
{{- end }}
{{- end -}}
