{{/* Name of every resource: the release's, with the chart's where that says something. */}}
{{- define "cxr-serve.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* What selects the pods. It must never change: a Deployment's selector cannot. */}}
{{- define "cxr-serve.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Helm adds managed-by when it installs; kubectl applies the same manifest without it. */}}
{{- define "cxr-serve.labels" -}}
{{ include "cxr-serve.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "cxr-serve.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default (printf "%s%s" $.Chart.AppVersion (ternary "-cuda" "" $.Values.gpu.enabled)) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The bundle of a model, which is written BUNDLE or NAME=BUNDLE. */}}
{{- define "cxr-serve.bundle" -}}
{{ splitList "=" . | last }}
{{- end -}}

{{/* Values that are right one by one, but not together. */}}
{{- define "cxr-serve.check" -}}
{{- $owned := dict "CXR_MODEL" "model.name" "CXR_LISTEN" "listenHost" "CXR_HEALTH_LISTEN" "probes.healthPort"
    "CXR_METRICS_LISTEN" "metrics.enabled" "CXR_INSECURE" "tls.secretName" "CXR_TLS_CERT" "tls.secretName"
    "CXR_TLS_KEY" "tls.secretName" "CXR_TLS_CLIENT_CA" "tls.clientCA" "CXR_TOKENS_FILE" "tokens.secretName"
    "CXR_BUNDLE_HOME" "bundles" "CXR_DRAIN_PAUSE_S" "drain.pauseSeconds" "CXR_GRACE_S" "drain.graceSeconds" -}}
{{- with .Values -}}
{{- range $name, $_ := .settings -}}
{{- if hasKey $owned $name -}}
{{- fail (printf "settings.%s: set %s instead" $name (get $owned $name)) -}}
{{- end -}}
{{- if not (regexMatch "^CXR_[A-Z0-9_]+$" $name) -}}
{{- fail (printf "settings.%s: settings have the names of their variables, such as CXR_MAX_IN_FLIGHT; others belong into env" $name) -}}
{{- end -}}
{{- end -}}
{{- $names := list -}}
{{- range prepend .model.others .model.name -}}
{{- $name := splitList "=" . | first -}}
{{- if has $name $names -}}
{{- fail (printf "model: two models are called %s: give one another name, NAME=BUNDLE" $name) -}}
{{- end -}}
{{- $names = append $names $name -}}
{{- end -}}
{{- if and .service.headless (ne (int .service.port) 50051) -}}
{{- fail "service.port: callers of a headless Service reach the pods, at port 50051; leave it, or set service.headless: false" -}}
{{- end -}}
{{- if and .tls.clientCA (not .tls.secretName) -}}
{{- fail "tls.clientCA: callers have certificates only with TLS; set tls.secretName" -}}
{{- end -}}
{{- if and (not .probes.healthPort) .tls.clientCA -}}
{{- fail "probes.healthPort: false: the kubelet has no certificate for tls.clientCA; leave it true" -}}
{{- end -}}
{{- if and (not .probes.healthPort) .tls.secretName (semverCompare "<1.37.0-0" $.Capabilities.KubeVersion.Version) -}}
{{- fail (printf "probes.healthPort: false: probes over TLS need Kubernetes 1.37, and this is %s; leave it true" $.Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if list .rollingUpdate.maxSurge .rollingUpdate.maxUnavailable | join "" | regexMatch "^[0%]+$" -}}
{{- fail "rollingUpdate: maxSurge and maxUnavailable cannot both be 0: nothing could be replaced" -}}
{{- end -}}
{{- if and .bundles.existingClaim .bundles.claim.create -}}
{{- fail "bundles: set existingClaim or claim.create, not both" -}}
{{- end -}}
{{- if and .autoscaling.enabled (not (or .autoscaling.queueDepth .autoscaling.cpuPercent)) -}}
{{- fail "autoscaling: set queueDepth or cpuPercent; without one nothing tells the load" -}}
{{- end -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) -}}
{{- fail "autoscaling: minReplicas is above maxReplicas" -}}
{{- end -}}
{{- if and .autoscaling.enabled .autoscaling.queueDepth (not .metrics.enabled) -}}
{{- fail "autoscaling.queueDepth is a metric: set metrics.enabled, or cpuPercent and queueDepth: 0" -}}
{{- end -}}
{{- if and (or .metrics.serviceMonitor.enabled .metrics.prometheusRule.enabled) (not .metrics.enabled) -}}
{{- fail "metrics.serviceMonitor and metrics.prometheusRule need metrics.enabled" -}}
{{- end -}}
{{- if not (or .model.prepare .bundles.existingClaim .bundles.claim.create) -}}
{{- range prepend .model.others .model.name -}}
{{- if ne (include "cxr-serve.bundle" .) "phantom" -}}
{{- fail (printf "model.prepare: false: nothing would put %s into an emptyDir; set bundles.existingClaim" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
