package kubernetes

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	chartutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	sigsyaml "sigs.k8s.io/yaml"
)

// Where things are, seen from this folder.
const (
	root      = "../.."
	manifests = root + "/deploy/kubernetes"
	chartDir  = root + "/deploy/helm/quickthorn"
	namespace = "quickthorn"
)

// object is one rendered object: typed, and as it was written.
type object struct {
	runtime.Object
	kind, name string
	yaml       []byte
}

func (o *object) String() string { return o.kind + "/" + o.name }

// decoder refuses fields that the API does not know, and ones that are there twice.
var decoder = func() runtime.Decoder {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, monitoringv1.AddToScheme, gatewayv1.Install} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer()
}()

// decode reads all objects of a text.
func decode(text []byte) ([]*object, error) {
	var list []*object
	for r := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		var content any
		if err := sigsyaml.UnmarshalStrict(doc, &content); err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, doc)
		}
		if content == nil { // comments only
			continue
		}
		o, kind, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, doc)
		}
		m, err := meta.Accessor(o)
		if err != nil {
			return nil, err
		}
		list = append(list, &object{o, kind.Kind, m.GetName(), doc})
	}
}

// rendering is what is applied together.
type rendering struct {
	name    string
	objects []*object
}

// kustomization renders a folder of deploy/kubernetes.
func kustomization(t *testing.T, dir string) *rendering {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(manifests, dir))
	if err != nil {
		t.Fatalf("kustomize build %s: %v", dir, err)
	}
	text, err := m.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, dir, text)
}

func parsed(t *testing.T, name string, text []byte) *rendering {
	t.Helper()
	objects, err := decode(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &rendering{name, objects}
}

// valuesFile reads a file of the chart's ci folder; "" is no values.
func valuesFile(t *testing.T, name string) map[string]any {
	t.Helper()
	values := map[string]any{}
	if name == "" {
		return values
	}
	b, err := os.ReadFile(filepath.Join(chartDir, "ci", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := sigsyaml.UnmarshalStrict(b, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// template does what helm template does, and checks the values by the schema.
func template(values map[string]any) (map[string]string, error) {
	c, err := loader.Load(chartDir)
	if err != nil {
		return nil, err
	}
	caps := *common.DefaultCapabilities
	caps.KubeVersion = common.KubeVersion{Version: "v1.37.2", Major: "1", Minor: "37"}
	v, err := chartutil.ToRenderValues(c, values, common.ReleaseOptions{Name: "quickthorn", Namespace: namespace, IsInstall: true, Revision: 1}, &caps)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, v)
}

// chart renders the chart.
func chart(t *testing.T, name string, values map[string]any) *rendering {
	t.Helper()
	files, err := template(values)
	if err != nil {
		t.Fatalf("helm template %s: %v", name, err)
	}
	var text strings.Builder
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(file, ".yaml") {
			text.WriteString("---\n" + files[file] + "\n")
		}
	}
	return parsed(t, name, []byte(text.String()))
}

// renderings are all there are.
func renderings(t *testing.T) []*rendering {
	t.Helper()
	return []*rendering{
		kustomization(t, "base"), kustomization(t, "overlays/single-node"), kustomization(t, "overlays/production"),
		chart(t, "chart", nil), chart(t, "chart/production", valuesFile(t, "production-values.yaml")), chart(t, "chart/everything", valuesFile(t, "everything-values.yaml")),
	}
}

// examples are the manifests that are applied as they are.
func examples(t *testing.T) *rendering {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(manifests, "examples", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	r := &rendering{name: "examples"}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r.objects = append(r.objects, parsed(t, file, b).objects...)
	}
	return r
}

// pod is a template of pods and whose it is.
type pod struct {
	owner *object
	*corev1.PodTemplateSpec
}

// pods are the pods of a rendering.
func (r *rendering) pods() []pod {
	var list []pod
	for _, o := range r.objects {
		switch w := o.Object.(type) {
		case *appsv1.Deployment:
			list = append(list, pod{o, &w.Spec.Template})
		case *appsv1.StatefulSet:
			list = append(list, pod{o, &w.Spec.Template})
		case *batchv1.Job:
			list = append(list, pod{o, &w.Spec.Template})
		case *batchv1.CronJob:
			list = append(list, pod{o, &w.Spec.JobTemplate.Spec.Template})
		}
	}
	return list
}

// ours reports whether the pod runs one of our services or jobs.
func (p *pod) ours() bool { return p.Labels["app.kubernetes.io/name"] == "quickthorn" }

// of returns the objects of a type.
func of[T runtime.Object](r *rendering) []T {
	var list []T
	for _, o := range r.objects {
		if w, ok := o.Object.(T); ok {
			list = append(list, w)
		}
	}
	return list
}

// eachFile calls fn for every YAML file of deploy/kubernetes.
func eachFile(t *testing.T, fn func(path string, text []byte)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(manifests, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		fn(path, b)
		return nil
	})
	if err != nil || n == 0 {
		t.Fatalf("%d files, %v", n, err)
	}
}
