package kubernetes

import (
	"encoding/json"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// The chart and the kustomizations are two ways to write one thing. Whatever is not a matter of the tool must be the same in both: to
// change one is to change the other.
func TestChartAndKustomizationsAreTheSame(t *testing.T) {
	local := map[string]any{}
	for _, image := range []string{"quickthorn", "proxy", "cloudProxy", "promptRouter"} {
		local[image] = map[string]any{"tag": "local"}
	}
	for _, c := range []struct {
		overlay string
		values  map[string]any
	}{
		{"overlays/single-node", map[string]any{"images": local}},
		{"overlays/production", valuesFile(t, "production-values.yaml")},
	} {
		a, b := plain(t, kustomization(t, c.overlay)), plain(t, chart(t, "chart", c.values))
		for name, object := range a {
			switch {
			case b[name] == nil:
				t.Errorf("%s: %s is not in the chart", c.overlay, name)
			case text(t, object) != text(t, b[name]):
				t.Errorf("%s: %s differs; kustomize:\n%s\nchart:\n%s", c.overlay, name, text(t, object), text(t, b[name]))
			}
		}
		for name := range b {
			if a[name] == nil {
				t.Errorf("%s: %s is in the chart only", c.overlay, name)
			}
		}
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var configName = regexp.MustCompile(`^quickthorn-config(-migrate|-[a-z0-9]{10})?$`)

// plain are the objects by kind and name, without what is a matter of the tool: labels that say who made them, names and
// annotations by which a change of the settings rolls the pods, hooks, the order of lists that have none.
func plain(t *testing.T, r *rendering) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	for _, o := range r.objects {
		if o.kind == "Namespace" || o.name == "quickthorn-config-migrate" {
			continue // Helm makes the namespace itself; the second is the first once more
		}
		name := o.String()
		if c, ok := o.Object.(*corev1.ConfigMap); ok && configName.MatchString(c.Name) {
			name = "ConfigMap/quickthorn-config"
			for key := range c.Data {
				var content any
				if err := yaml.UnmarshalStrict([]byte(c.Data[key]), &content); err != nil {
					t.Fatalf("%s: %s: %v", r.name, key, err)
				}
				c.Data[key] = text(t, content)
			}
		}
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = strip(m).(map[string]any)
	}
	return all
}

func strip(v any) any {
	switch v := v.(type) {
	case string:
		if configName.MatchString(v) {
			return "quickthorn-config"
		}
	case []any:
		for i := range v {
			v[i] = strip(v[i])
		}
		key := func(x any) string {
			b, err := json.Marshal(x)
			if err != nil {
				panic(err)
			}
			return string(b)
		}
		if len(v) > 0 {
			if _, ok := v[0].(map[string]any); ok {
				sort.Slice(v, func(i, j int) bool { return key(v[i]) < key(v[j]) })
			}
		}
	case map[string]any:
		for k := range v {
			v[k] = strip(v[k])
			made := []string{"app.kubernetes.io/managed-by", "app.kubernetes.io/version", "app.kubernetes.io/part-of", "helm.sh/chart", "checksum/config"}
			if slices.Contains(made, k) || strings.HasPrefix(k, "helm.sh/hook") {
				delete(v, k)
			}
		}
		if a, ok := v["annotations"].(map[string]any); ok && len(a) == 0 {
			delete(v, "annotations")
		}
		if m, ok := v["metadata"].(map[string]any); ok { // of objects that only say what they are part of
			if l, ok := m["labels"].(map[string]any); ok && l["app.kubernetes.io/component"] == "network" || l["app.kubernetes.io/component"] == "config" {
				delete(m, "labels")
			}
			if m["labels"] == nil || v["kind"] == "NetworkPolicy" {
				delete(m, "labels")
			}
			if l, ok := m["labels"].(map[string]any); ok && len(l) == 0 {
				delete(m, "labels")
			}
		}
	}
	return v
}
