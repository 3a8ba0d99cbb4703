package kubernetes

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

func TestEveryFileIsOfTheAPI(t *testing.T) {
	settings := []string{"quickthorn.yaml", "policy.yaml"} // TestEveryPodStartsWithItsSettings reads these
	eachFile(t, func(path string, text []byte) {
		if filepath.Base(path) == "kustomization.yaml" {
			var k types.Kustomization
			if err := yaml.UnmarshalStrict(text, &k); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			return
		}
		if slices.Contains(settings, filepath.Base(path)) {
			return
		}
		objects, err := decode(text)
		if err != nil || len(objects) == 0 {
			t.Errorf("%s: %d objects, %v", path, len(objects), err)
		}
	})
}

func TestUnknownAndRepeatedFieldsAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"unknown":      "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {port: 80}",
		"repeated":     "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  type: ClusterIP\n  type: NodePort",
		"unknown kind": "apiVersion: v1\nkind: Servise\nmetadata: {name: a}",
		"wrong type":   "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: http}]}",
	} {
		if _, err := decode([]byte(text)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// What the issue lists must be there, and nothing of it twice.
func TestRenderingsAreWhole(t *testing.T) {
	services := []string{
		"Deployment/proxy", "StatefulSet/ai-service", "Deployment/escalation-engine", "Deployment/tarpit", "Deployment/prompt-router", "Deployment/cloud-proxy",
		"Deployment/admin", "CronJob/sync-retention", "NetworkPolicy/default-deny", "Service/proxy", "Service/ai-service", "Service/escalation-engine",
		"Service/tarpit", "Service/prompt-router", "Service/cloud-proxy", "Service/admin",
	}
	stores := []string{"StatefulSet/redis", "StatefulSet/postgres", "Service/redis", "Service/postgres"}
	trial := append(slices.Clone(stores), "Deployment/mailhog", "Deployment/demo-site")
	grown := []string{
		"HorizontalPodAutoscaler/proxy", "HorizontalPodAutoscaler/ai-service", "PodDisruptionBudget/proxy", "PodDisruptionBudget/ai-service",
		"PodDisruptionBudget/escalation-engine", "ServiceMonitor/quickthorn", "NetworkPolicy/redis-elsewhere", "NetworkPolicy/postgres-elsewhere",
	}
	want := map[string][]string{
		"base":                 slices.Concat(services, []string{"Job/migrate", "Namespace/quickthorn"}),
		"overlays/single-node": slices.Concat(services, trial, []string{"Job/migrate"}),
		"overlays/production":  slices.Concat(services, grown, []string{"Job/migrate"}),
		"chart":                slices.Concat(services, trial, []string{"Job/migrate", "ConfigMap/quickthorn-config"}),
		"chart/production":     slices.Concat(services, grown, []string{"Job/migrate"}),
		"chart/everything":     slices.Concat(services, stores, []string{"Ingress/quickthorn", "HTTPRoute/quickthorn", "ServiceMonitor/quickthorn"}),
	}
	for _, r := range renderings(t) {
		seen := map[string]bool{}
		for _, o := range r.objects {
			if seen[o.String()] {
				t.Errorf("%s: %s is there twice", r.name, o)
			}
			seen[o.String()] = true
		}
		for _, name := range want[r.name] {
			if !seen[name] {
				t.Errorf("%s: no %s", r.name, name)
			}
		}
		if len(want[r.name]) == 0 {
			t.Errorf("%s: nothing is asked of it", r.name)
		}
		for _, kind := range []string{"Secret"} {
			for _, o := range r.objects {
				if o.kind == kind {
					t.Errorf("%s: %s: secrets come by reference, never with a value", r.name, o)
				}
			}
		}
	}
	for name, absent := range map[string][]string{"overlays/production": trial, "chart/production": trial, "chart/everything": {"Job/migrate", "Deployment/mailhog"}} {
		for _, r := range renderings(t) {
			for _, o := range r.objects {
				if r.name == name && slices.Contains(absent, o.String()) {
					t.Errorf("%s: has %s", name, o)
				}
			}
		}
	}
}

func TestPodsKeepToTheRestrictedProfile(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for _, r := range append(renderings(t), examples(t)) {
		if len(r.pods()) == 0 {
			t.Errorf("%s: no pods", r.name)
		}
		for _, p := range r.pods() {
			what := r.name + ": " + p.owner.String()
			if got := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &p.ObjectMeta, &p.Spec)); !got.Allowed {
				t.Errorf("%s: %s: %s", what, got.ForbiddenReason(), got.ForbiddenDetail())
			}
			// What the profile leaves open.
			if on := p.Spec.EnableServiceLinks; on == nil || *on {
				t.Errorf("%s: enableServiceLinks adds variables that are no settings", what)
			}
			if on := p.Spec.AutomountServiceAccountToken; on == nil || *on {
				t.Errorf("%s: the token of the API is mounted", what)
			}
			user := p.Spec.SecurityContext.RunAsUser
			if p.ours() && (user == nil || *user != 10001) {
				t.Errorf("%s: not user 10001", what)
			}
			for _, c := range p.Spec.Containers {
				if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
					t.Errorf("%s: %s: the root file system can be written to", what, c.Name)
				}
				if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
					t.Errorf("%s: %s: memory has no limit, or nothing is requested", what, c.Name)
				}
				for _, m := range c.VolumeMounts {
					if !slices.ContainsFunc(append(p.Spec.Volumes, claims(p.owner)...), func(v corev1.Volume) bool { return v.Name == m.Name }) {
						t.Errorf("%s: %s mounts %s, which is no volume", what, c.Name, m.Name)
					}
				}
			}
		}
	}
}

func claims(o *object) []corev1.Volume {
	var list []corev1.Volume
	if s, ok := o.Object.(*appsv1.StatefulSet); ok {
		for _, c := range s.Spec.VolumeClaimTemplates {
			list = append(list, corev1.Volume{Name: c.Name})
		}
	}
	return list
}

func TestProbesAskPortsThatAreThere(t *testing.T) {
	for _, r := range append(renderings(t), examples(t)) {
		for _, p := range r.pods() {
			for i := range p.Spec.Containers {
				c := &p.Spec.Containers[i]
				what := fmt.Sprintf("%s: %s: %s", r.name, p.owner, c.Name)
				probes := map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe}
				for name, probe := range probes {
					switch {
					case probe == nil:
					case probe.HTTPGet != nil && !hasPort(c, probe.HTTPGet.Port):
						t.Errorf("%s: the %s probe asks port %v", what, name, &probe.HTTPGet.Port)
					case probe.TCPSocket != nil && !hasPort(c, probe.TCPSocket.Port):
						t.Errorf("%s: the %s probe asks port %v", what, name, &probe.TCPSocket.Port)
					}
				}
				if _, service := p.owner.Object.(*batchv1.CronJob); service || p.owner.kind == "Job" || !hasPort(c, intstr.FromString("private")) {
					continue // jobs, stores, and what stands for an application
				}
				for name, path := range map[string]string{"startup": "/healthz", "readiness": readiness(p.owner), "liveness": "/healthz"} {
					if probe := probes[name]; probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port.String() != "private" {
						t.Errorf("%s: the %s probe does not ask %s of the private listener", what, name, path)
					}
				}
				// What is under way must be able to end: until nobody sends here any more, then edge.drain, then what is queued.
				stop := c.Lifecycle
				if stop == nil || stop.PreStop == nil || stop.PreStop.Sleep == nil {
					t.Errorf("%s: ends before its Service knows", what)
				} else if grace := p.Spec.TerminationGracePeriodSeconds; grace == nil || *grace < stop.PreStop.Sleep.Seconds+30+15 {
					t.Errorf("%s: is killed before it has drained", what)
				}
			}
		}
	}
}

// readiness is the path that says whether a pod takes part in its Service. An ai-service that stands by, or has lost Redis, takes
// events all the same.
func readiness(o *object) string {
	if o.name == "ai-service" {
		return "/healthz"
	}
	return "/readyz"
}

func hasPort(c *corev1.Container, port intstr.IntOrString) bool {
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool {
		return port.Type == intstr.String && p.Name == port.StrVal || port.Type == intstr.Int && p.ContainerPort == port.IntVal
	})
}

// The ports are part of what Compose, the documentation and the default addresses agree on.
func TestServicesLeadToPods(t *testing.T) {
	ports := map[string]int32{
		"proxy": 8080, "ai-service": 8000, "tarpit": 8001, "escalation-engine": 8003, "admin": 5002, "cloud-proxy": 8008, "prompt-router": 8009,
		"redis": 6379, "postgres": 5432, "mailhog": 1025, "demo-site": 8080, "metrics": 8081,
	}
	for _, r := range renderings(t) {
		for _, s := range of[*corev1.Service](r) {
			if want := ports[s.Name]; s.Spec.Ports[0].Port != want {
				t.Errorf("%s: %s has port %d, want %d", r.name, s.Name, s.Spec.Ports[0].Port, want)
			}
			found := 0
			for _, p := range r.pods() {
				if p.owner.kind == "Job" || p.owner.kind == "CronJob" || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels)) {
					continue
				}
				found++
				for _, port := range s.Spec.Ports {
					if !hasPort(&p.Spec.Containers[0], port.TargetPort) {
						t.Errorf("%s: service %s: %s has no port %v", r.name, s.Name, p.owner, &port.TargetPort)
					}
				}
			}
			if want := map[bool]int{true: 7, false: 1}[s.Name == "metrics"]; found != want {
				t.Errorf("%s: service %s leads to %d kinds of pods, want %d", r.name, s.Name, found, want)
			}
		}
	}
}

// What refers to something else must find it.
func TestReferencesLeadSomewhere(t *testing.T) {
	for _, r := range renderings(t) {
		have := map[string]*object{}
		for _, o := range r.objects {
			have[o.String()] = o
		}
		for _, h := range of[*autoscalingv2.HorizontalPodAutoscaler](r) {
			ref := h.Spec.ScaleTargetRef
			target := have[ref.Kind+"/"+ref.Name]
			if target == nil {
				t.Errorf("%s: autoscaler %s scales %s/%s", r.name, h.Name, ref.Kind, ref.Name)
				continue
			}
			if replicas(target) != nil {
				t.Errorf("%s: %s has a count, which every apply would set against the autoscaler's", r.name, target)
			}
		}
		for _, b := range of[*policyv1.PodDisruptionBudget](r) {
			selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(r.pods(), func(p pod) bool { return selector.Matches(labels.Set(p.Labels)) }) {
				t.Errorf("%s: budget %s is for no pod", r.name, b.Name)
			}
		}
		for _, m := range of[*monitoringv1.ServiceMonitor](r) {
			selector, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
			if err != nil {
				t.Fatal(err)
			}
			matches := 0
			for _, s := range of[*corev1.Service](r) {
				if selector.Matches(labels.Set(s.Labels)) && s.Spec.Ports[0].Name == m.Spec.Endpoints[0].Port {
					matches++
				}
			}
			if matches != 1 {
				t.Errorf("%s: the monitor finds %d services, each pod would be read so often", r.name, matches)
			}
		}
		for _, i := range of[*networkingv1.Ingress](r) {
			for _, rule := range i.Spec.Rules {
				if rule.HTTP.Paths[0].Backend.Service.Name != "proxy" {
					t.Errorf("%s: the Ingress goes around the proxy", r.name)
				}
			}
		}
		for _, h := range of[*gatewayv1.HTTPRoute](r) {
			if ref := h.Spec.Rules[0].BackendRefs[0]; ref.Name != "proxy" || *ref.Port != 8080 {
				t.Errorf("%s: the route goes around the proxy", r.name)
			}
		}
		for _, p := range r.pods() {
			if !p.ours() && p.owner.kind == "StatefulSet" {
				continue
			}
			for _, v := range p.Spec.Volumes {
				if v.ConfigMap != nil && have["ConfigMap/"+v.ConfigMap.Name] == nil {
					t.Errorf("%s: %s wants the ConfigMap %s", r.name, p.owner, v.ConfigMap.Name)
				}
			}
		}
	}
}

func replicas(o *object) *int32 {
	switch w := o.Object.(type) {
	case *appsv1.Deployment:
		return w.Spec.Replicas
	case *appsv1.StatefulSet:
		return w.Spec.Replicas
	}
	return nil
}

// A changed setting or policy must reach the pods: kustomize names the ConfigMap by its content, the chart notes a checksum in them.
func TestAChangedPolicyRolls(t *testing.T) {
	checksum := func(policy string) string {
		r := chart(t, "chart", map[string]any{"policy": policy})
		sums := map[string]bool{}
		for _, p := range r.pods() {
			if p.ours() && p.owner.kind != "Job" && p.owner.kind != "CronJob" {
				sums[p.Annotations["checksum/config"]] = true
			}
		}
		if len(sums) != 1 || sums[""] {
			t.Fatalf("checksums: %v", sums)
		}
		for s := range sums {
			return s
		}
		return ""
	}
	if a, b := checksum("name: a\nimports: [readers-first]\n"), checksum("name: a\nimports: [siege]\n"); a == b {
		t.Error("the chart's pods stay as they are when the policy changes")
	}
	names := map[string]bool{}
	for _, overlay := range []string{"base", "overlays/single-node", "overlays/production"} {
		for _, c := range of[*corev1.ConfigMap](kustomization(t, overlay)) {
			if !strings.HasPrefix(c.Name, "quickthorn-config-") {
				t.Errorf("%s: %s is not named by its content", overlay, c.Name)
			}
			names[c.Name] = true
		}
	}
	if len(names) != 3 {
		t.Errorf("three different contents are named %v", names)
	}
}

func TestTheChartIsClean(t *testing.T) {
	for _, file := range []string{"", "production-values.yaml", "everything-values.yaml"} {
		l := action.NewLint()
		l.Strict, l.Namespace = true, namespace
		result := l.Run([]string{chartDir}, valuesFile(t, file))
		for _, err := range result.Errors {
			t.Errorf("helm lint %s: %v", file, err)
		}
		for _, m := range result.Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("helm lint %s: %v", file, m)
			}
		}
	}
	files, err := os.ReadDir(filepath.Join(chartDir, "ci"))
	if err != nil || len(files) != 2 {
		t.Errorf("a file of ci/ is not tested: %v, %v", files, err)
	}
}

func TestTheChartRefusesWrongValues(t *testing.T) {
	for name, c := range map[string]struct{ values, want string }{
		"unknown key":                 {"prxy: {}", "prxy"},
		"unknown key below":           {"proxy: {replica: 2}", "replica"},
		"count that is none":          {"tarpit: {replicas: 0}", "replicas"},
		"service of unknown type":     {"proxy: {service: {type: Public}}", "type"},
		"schedule":                    {"sync: {retention: often}", "retention"},
		"digest":                      {"images: {proxy: {digest: latest}}", "digest"},
		"no secret":                   {"secrets: {quickthorn: null}", "quickthorn"},
		"count against an autoscaler": {"proxy: {replicas: 3, autoscaling: {enabled: true}}", "proxy.replicas"},
		"the same of ai-service":      {"aiService: {replicas: 3, autoscaling: {enabled: true}}", "aiService.replicas"},
		"ingress believed by nobody":  {"ingress: {enabled: true, hosts: [a.example.org]}", "trustedProxies"},
		"ingress without hosts":       {"{ingress: {enabled: true}, config: {edge: {trustedProxies: [192.0.2.1]}}}", "ingress.hosts"},
		"route without gateway":       {"{httpRoute: {enabled: true}, config: {edge: {trustedProxies: [192.0.2.1]}}}", "parentRefs"},
	} {
		var values map[string]any
		if err := yaml.UnmarshalStrict([]byte(c.values), &values); err != nil {
			t.Fatal(err)
		}
		if _, err := template(values); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error about %s", name, err, c.want)
		}
	}
}

// Migrations come before what needs them, and after the stores that they are done to.
func TestMigrationsRunWhenTheyCan(t *testing.T) {
	for file, want := range map[string]string{"": "post-install,pre-upgrade", "production-values.yaml": "pre-install,pre-upgrade"} {
		r := chart(t, "chart", valuesFile(t, file))
		hooks := map[string]string{}
		for _, o := range r.objects {
			switch w := o.Object.(type) {
			case *batchv1.Job:
				hooks[o.String()] = w.Annotations["helm.sh/hook"]
			case *corev1.ConfigMap:
				if on := w.Annotations["helm.sh/hook"]; on != "" {
					hooks[o.String()] = on
				}
			}
		}
		if len(hooks) != 2 || hooks["Job/migrate"] != want || hooks["ConfigMap/quickthorn-config-migrate"] != want {
			t.Errorf("%s: %v, want both %s", file, hooks, want)
		}
		for _, p := range r.pods() {
			if p.owner.name == "migrate" && p.Spec.Volumes[0].ConfigMap.Name != "quickthorn-config-migrate" {
				t.Errorf("the Job waits for a ConfigMap that comes after it: %v", p.Spec.Volumes[0])
			}
		}
	}
}
