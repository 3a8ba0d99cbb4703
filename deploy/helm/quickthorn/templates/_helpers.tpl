{{/* An image by its name in images: list of the root and that name. */}}
{{- define "quickthorn.image" -}}
{{- $root := index . 0 -}}
{{- $i := index $root.Values.images (index . 1) -}}
{{- if $i.digest -}}
{{ $i.repository }}@{{ $i.digest }}
{{- else -}}
{{ $i.repository }}:{{ $i.tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Labels that choose the pods of a component: they never change. */}}
{{- define "quickthorn.selector" -}}
app.kubernetes.io/name: {{ .name | default "quickthorn" }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Name, namespace and labels of an object. */}}
{{- define "quickthorn.metadata" -}}
name: {{ .object | default .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "quickthorn.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: quickthorn
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* What every pod has, whosever it is: uid is the user. */}}
{{- define "quickthorn.everyPod" -}}
enableServiceLinks: false
automountServiceAccountToken: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .uid }}
  runAsGroup: {{ .uid }}
  {{- if .group }}
  fsGroup: {{ .uid }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* What every container has. */}}
{{- define "quickthorn.everyContainer" -}}
{{- with .Values.imagePullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/*
The pod of a service, or of a Job with job: true. Of the caller: root, component, image, command, port, ready (the path of its readiness),
resources, env (variables and values), keys (variables and the keys of the Secret that their files hold), optional (variables with the
Secret and key that may be missing), optionalFiles (keys of the Secret that may be missing and the files that they become), data ("memory": an emptyDir of that size; "claim"), config (name of the ConfigMap).
*/}}
{{- define "quickthorn.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "quickthorn.selector" . | nindent 4 }}
    app.kubernetes.io/part-of: quickthorn
  {{- if not .job }}
  annotations:
    # A changed setting or policy rolls the pods.
    checksum/config: {{ include "quickthorn.config" $root | sha256sum }}
  {{- end }}
spec:
  {{- include "quickthorn.everyPod" (dict "root" $root "uid" 10001 "group" true) | nindent 2 }}
  {{- if .job }}
  restartPolicy: {{ .restart }}
  {{- else }}
  # Longer than preStop and edge.drain (30s) together, with time to write what is queued.
  terminationGracePeriodSeconds: 60
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          app.kubernetes.io/name: quickthorn
      matchLabelKeys: [app.kubernetes.io/component]
    {{- end }}
  {{- end }}
  containers:
    - name: quickthorn
      image: {{ include "quickthorn.image" (list $root .image) }}
      {{- include "quickthorn.everyContainer" $root | nindent 6 }}
      command: {{ toJson .command }}
      env:
        - name: QUICKTHORN_CONFIG
          value: /etc/quickthorn/quickthorn.yaml
        - name: QUICKTHORN_DATA_DIRECTORY
          value: /data
        - name: QUICKTHORN_PRIVATE_LISTEN
          value: ":8081"
        - name: QUICKTHORN_LOG_FORMAT
          value: json
        {{- range $name, $value := .env }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
        {{- range $name, $key := .keys }}
        - name: {{ $name }}
          value: /run/secrets/quickthorn/{{ $key }}
        {{- end }}
        {{- range $name, $ref := .optional }}
        - name: {{ $name }}
          valueFrom:
            secretKeyRef: {name: {{ index $ref 0 }}, key: {{ index $ref 1 }}, optional: true}
        {{- end }}
      {{- if not .job }}
      ports:
        - name: http
          containerPort: {{ .port }}
        - name: private
          containerPort: 8081
      startupProbe:
        httpGet:
          path: /healthz
          port: private
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet:
          path: /healthz
          port: private
        periodSeconds: 10
        timeoutSeconds: 3
        failureThreshold: 3
      readinessProbe:
        httpGet:
          path: {{ .ready | default "/readyz" }}
          port: private
        periodSeconds: 5
        timeoutSeconds: 3
      lifecycle:
        preStop:
          # Until every node has stopped sending here.
          sleep:
            seconds: 5
      {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/quickthorn
          readOnly: true
        - name: tmp
          mountPath: /tmp
        {{- if .keys }}
        - name: secrets
          mountPath: /run/secrets/quickthorn
          readOnly: true
        {{- end }}
        {{- if .data }}
        - name: data
          mountPath: /data
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ .config | default "quickthorn-config" }}
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- if .keys }}
    - name: secrets
      {{- if .optionalFiles }}
      projected:
        defaultMode: 0440
        sources:
          - secret:
              name: {{ $root.Values.secrets.quickthorn }}
              items:
                {{- range values .keys | sortAlpha }}
                - {key: {{ . }}, path: {{ . }}}
                {{- end }}
          - secret:
              name: {{ $root.Values.secrets.quickthorn }}
              optional: true
              items:
                {{- range $key, $path := .optionalFiles }}
                - {key: {{ $key }}, path: {{ $path }}}
                {{- end }}
      {{- else }}
      secret:
        secretName: {{ $root.Values.secrets.quickthorn }}
        defaultMode: 0440
        items:
          {{- range values .keys | sortAlpha }}
          - {key: {{ . }}, path: {{ . }}}
          {{- end }}
      {{- end }}
    {{- end }}
    {{- if and .data (ne .data "claim") }}
    - name: data
      emptyDir:
        sizeLimit: {{ .data }}
    {{- end }}
{{- end -}}

{{/* A Deployment with its Service, for the services that keep nothing. */}}
{{- define "quickthorn.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "quickthorn.metadata" . | nindent 2 }}
spec:
  {{- with .replicas }}
  replicas: {{ . }}
  {{- end }}
  {{- if .surge }}
  strategy:
    rollingUpdate:
      # A new pod serves before an old one goes.
      maxSurge: 1
      maxUnavailable: 0
  {{- end }}
  selector:
    matchLabels:
      {{- include "quickthorn.selector" . | nindent 6 }}
  template:
    {{- include "quickthorn.pod" . | nindent 4 }}
---
{{ include "quickthorn.service" . }}
{{- end -}}

{{/* The Service of a component's port. */}}
{{- define "quickthorn.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "quickthorn.metadata" . | nindent 2 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .type }}
  type: {{ . }}
  {{- end }}
  {{- with .externalTrafficPolicy }}
  externalTrafficPolicy: {{ . }}
  {{- end }}
  selector:
    {{- include "quickthorn.selector" . | nindent 4 }}
  ports:
    - name: http
      port: {{ .port }}
      targetPort: http
{{- end -}}

{{/* The autoscaler of a component: kind is what it scales. */}}
{{- define "quickthorn.autoscaler" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "quickthorn.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .kind }}
    name: {{ .component }}
  minReplicas: {{ .autoscaling.minReplicas }}
  maxReplicas: {{ .autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .autoscaling.cpu }}
  behavior:
    # Up at once: a siege does not wait. Down slowly: it comes back.
    scaleUp:
      stabilizationWindowSeconds: 0
    scaleDown:
      stabilizationWindowSeconds: 600
{{- end -}}

{{/* A claim for a StatefulSet's data: a storage of the values. */}}
{{- define "quickthorn.claim" -}}
- metadata:
    name: data
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .className }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .size }}
{{- end -}}

{{/* The data of the ConfigMap. */}}
{{- define "quickthorn.config" -}}
quickthorn.yaml: |
  {{- toYaml .Values.config | nindent 2 }}
policy.yaml: |
  {{- .Values.policy | nindent 2 }}
{{- end -}}

{{/* Rules of egress: a dict of components and the ports that are called there. */}}
{{- define "quickthorn.calls" -}}
{{- range $component, $port := . }}
- to:
    - podSelector:
        matchLabels:
          app.kubernetes.io/component: {{ $component }}
  ports:
    - {protocol: TCP, port: {{ $port }}}
{{- end }}
{{- end -}}

{{/* The internet without private addresses. */}}
{{- define "quickthorn.internet" -}}
- ipBlock:
    cidr: 0.0.0.0/0
    except: [10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
- ipBlock:
    cidr: ::/0
    except: ["::1/128", "fc00::/7", "fe80::/10"]
{{- end -}}
