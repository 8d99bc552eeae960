{{- define "fal-exporter.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
Room is left for what Kubernetes appends to the names of a StatefulSet's pods, and a Service's name begins with a letter.
*/}}
{{- define "fal-exporter.fullname" -}}
{{- $name := printf "%s-%s" .Release.Name (include "fal-exporter.name" .) }}
{{- if .Values.fullnameOverride }}
{{- $name = .Values.fullnameOverride }}
{{- else if contains (include "fal-exporter.name" .) .Release.Name }}
{{- $name = .Release.Name }}
{{- end }}
{{- regexReplaceAll "^([^a-z])" $name "fal-${1}" | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "fal-exporter.selector" -}}
app.kubernetes.io/name: {{ include "fal-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "fal-exporter.labels" -}}
{{ include "fal-exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "fal-exporter.image" -}}
{{- if (.Values.image).digest -}}
{{ (.Values.image).repository }}@{{ (.Values.image).digest }}
{{- else -}}
{{- $reads := has (toString (.Values.settings).events | lower) (list "true" "1" "yes" "on" "y" "t") -}}
{{- $version := $reads | ternary (printf "%s-events" .Chart.AppVersion) .Chart.AppVersion -}}
{{ (.Values.image).repository }}:{{ (.Values.image).tag | default $version }}
{{- end }}
{{- end }}

{{- define "fal-exporter.serviceAccountName" -}}
{{- if (.Values.serviceAccount).create }}{{ include "fal-exporter.fullname" . }}{{ else }}{{ (.Values.serviceAccount).name | default "default" }}{{ end }}
{{- end }}

{{/*
The Secrets that are mounted as files, each {secret, key, path} with the path below /run/secrets/fal-exporter, as a
JSON list: those of accounts, and the files of tokens.
*/}}
{{- define "fal-exporter.files" -}}
{{- $files := list }}
{{- range .Values.accounts }}
{{- $files = append $files (dict "secret" .existingSecret "key" (.secretKey | default "fal-key") "path" (printf "accounts/%s" .name)) }}
{{- else }}
{{- if eq (.Values.key).from "file" }}
{{- $files = append $files (dict "secret" (include "fal-exporter.keySecret" .) "key" (.Values.key).secretKey "path" "fal-key") }}
{{- end }}
{{- end }}
{{- range $view, $tokens := .Values.auth }}
{{- with $tokens.existingSecret }}
{{- $files = append $files (dict "secret" . "key" $tokens.secretKey "path" (printf "%s-tokens" $view)) }}
{{- end }}
{{- end }}
{{- $files | toJson }}
{{- end }}

{{- define "fal-exporter.keySecret" -}}
{{- (.Values.key).existingSecret | default (include "fal-exporter.fullname" .) }}
{{- end }}

{{/* The names by which agents reach MCP: the service's, those from outside, and the user's. */}}
{{- define "fal-exporter.mcpHosts" -}}
{{- $service := include "fal-exporter.fullname" . }}
{{- $hosts := list $service }}
{{- range list "" ".svc" ".svc.cluster.local" }}
{{- $hosts = append $hosts (printf "%s.%s%s" $service $.Release.Namespace .) }}
{{- end }}
{{- if (.Values.ingress).enabled }}{{ $hosts = append $hosts (.Values.ingress).host }}{{ end }}
{{- if (.Values.httpRoute).enabled }}{{ $hosts = concat $hosts (.Values.httpRoute).hostnames }}{{ end }}
{{- with (.Values.settings).mcp_allowed_hosts }}{{ $hosts = concat $hosts (kindIs "slice" . | ternary . (list .)) }}{{ end }}
{{- $hosts | join "," }}
{{- end }}

{{/* The port of scrapes, REST and the landing page. */}}
{{- define "fal-exporter.port" -}}
{{- $port := .Values.listen | default "0.0.0.0:8080" | splitList ":" | last }}
{{- if and (.Values.mcp).enabled (eq $port "9090") }}
{{- fail "listen has port 9090, which MCP needs: give it another, or set mcp.enabled=false" }}
{{- end }}
{{- $port }}
{{- end }}

{{/* The exporter's configuration file. */}}
{{- define "fal-exporter.configuration" -}}
{{- $folder := "/run/secrets/fal-exporter" }}
{{- $file := deepCopy (.Values.settings | default dict) }}
{{- if not (hasKey $file "log_format") }}{{ $_ := set $file "log_format" "json" }}{{ end }}
{{- $listen := .Values.listen | default "0.0.0.0:8080" }}
{{- $_ := set $file "listen" $listen }}
{{- $host := $listen | trimSuffix (printf ":%s" (include "fal-exporter.port" .)) }}
{{- $_ := set $file "mcp_listen" (ternary (printf "%s:9090" $host) "off" ((.Values.mcp).enabled | default false)) }}
{{- with .Values.webConfig }}
{{- if .existingSecret }}{{ $_ := set $file "web_config_file" (printf "/run/secrets/fal-exporter-web/%s" .secretKey) }}{{ end }}
{{- end }}
{{- if (.Values.mcp).enabled }}
{{- $_ := set $file "mcp_allowed_hosts" (include "fal-exporter.mcpHosts" .) }}
{{- end }}
{{- if .Values.accounts }}
{{- $accounts := list }}
{{- range .Values.accounts }}
{{- $account := dict "name" .name "key_file" (printf "%s/accounts/%s" $folder .name) }}
{{- with .sources }}{{ $_ := set $account "sources" . }}{{ end }}
{{- if hasKey . "credit_floor" }}{{ $_ := set $account "credit_floor" .credit_floor }}{{ end }}
{{- $accounts = append $accounts $account }}
{{- end }}
{{- $_ := set $file "accounts" $accounts }}
{{- else if eq (.Values.key).from "file" }}
{{- $_ := set $file "key_file" (printf "%s/fal-key" $folder) }}
{{- end }}
{{- range $view, $tokens := .Values.auth }}
{{- if $tokens.existingSecret }}{{ $_ := set $file (printf "%s_tokens_file" $view) (printf "%s/%s-tokens" $folder $view) }}{{ end }}
{{- end }}
{{- with .Values.budgets }}{{ $_ := set $file "budgets" . }}{{ end }}
{{- if (.Values.replicated).enabled }}{{ $_ := set $file "replicated" true }}{{ end }}
{{- toYaml $file }}
{{- end }}

{{/* Whoever lets in people from outside needs tokens. */}}
{{- define "fal-exporter.requireTokens" -}}
{{- if not (or (.root.Values.webConfig).existingSecret ((.root.Values.auth).rest).existingSecret) }}
{{- fail (printf "%s.enabled lets in whoever can reach it: give tokens by auth.rest.existingSecret, or users by webConfig.existingSecret" .way) }}
{{- end }}
{{- if and (.root.Values.mcp).enabled (not (or (.root.Values.webConfig).existingSecret ((.root.Values.auth).mcp).existingSecret)) }}
{{- fail (printf "%s.enabled with mcp.enabled lets in whoever can reach it: give tokens by auth.mcp.existingSecret, or users by webConfig.existingSecret" .way) }}
{{- end }}
{{- end }}
