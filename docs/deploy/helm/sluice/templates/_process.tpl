{{/* What every process of Sluice has in common: who it is, what it may do, what it is told. */}}

{{- define "sluice.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "sluice.labels" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Of a pod: nobody in particular, without a way to the cluster's API. */}}
{{- define "sluice.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Of a container. */}}
{{- define "sluice.container" -}}
image: {{ include "sluice.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
envFrom:
  - configMapRef: {name: {{ .Release.Name }}-settings}
{{- end }}

{{/* Where a process that is no API tells its figures. */}}
{{- define "sluice.figures" -}}
{{- if .Values.metrics.enabled -}}
- {name: SLUICE_METRICS_ADDRESS, value: 0.0.0.0}
- {name: SLUICE_METRICS_PORT, value: {{ .Values.metrics.port | quote }}}
{{- end }}
{{- end }}

{{/* Not two of a kind on one node while there is another. */}}
{{- define "sluice.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "sluice.selector" . | nindent 8 }}
{{- end }}

{{/* The URLs of a process as files, and no others: `role` is who it is on the ledger, on RabbitMQ and on Redis. */}}
{{- define "sluice.urls" -}}
- {name: LEDGER_DATABASE_URL_FILE, value: /run/secrets/{{ . }}_ledger_url}
- {name: DATA_DATABASE_URL_FILE, value: /run/secrets/tasks_data_url}
- {name: DATA_DATABASES_FILE, value: /run/secrets/tasks_databases}
- {name: CELERY_BROKER_URL_FILE, value: /run/secrets/{{ . }}_broker_url}
- {name: CELERY_RESULT_BACKEND_FILE, value: /run/secrets/{{ . }}_redis_url}
{{- end }}

{{- define "sluice.secrets" -}}
- name: secrets
  secret:
    secretName: {{ .root.Values.secret }}
    defaultMode: 0440
    items:
      {{- range .names }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}

{{- define "sluice.names" -}}
{{ . }}_ledger_url {{ . }}_broker_url {{ . }}_redis_url tasks_data_url tasks_databases
{{- end }}
