{{- define "healthcare.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "healthcare.labels" -}}
{{ include "healthcare.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* What every pod has in common; the profile `restricted` of the Pod Security Standards. */}}
{{- define "healthcare.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  # In memory: imports write the bodies of requests there.
  - name: tmp
    emptyDir: { medium: Memory, sizeLimit: 512Mi }
{{- end }}

{{- /* Of every container. Takes the root context, and the Secret as `secret`. */}}
{{- define "healthcare.container" -}}
image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
securityContext:
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: { drop: [ALL] }
resources: {{- toYaml .root.Values.resources | nindent 2 }}
envFrom:
  - secretRef: { name: {{ .secret }} }
env:
  - { name: ALLOWED_HOSTS, value: {{ join "," .root.Values.allowedHosts | quote }} }
  - { name: TRUSTED_PROXIES, value: {{ .root.Values.trustedProxies | quote }} }
  - { name: LOG_FORMAT, value: json }
  - { name: METRICS, value: "0.0.0.0:9100" }
  - { name: DRAIN_SECONDS, value: {{ .root.Values.drainSeconds | quote }} }
  {{- range $name, $value := .root.Values.settings }}
  - { name: {{ $name }}, value: {{ $value | quote }} }
  {{- end }}
volumeMounts:
  - { name: tmp, mountPath: /tmp }
{{- end }}
