package kubernetes

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

// apiserverVersion is the one that apiserver.sh builds.
const apiserverVersion = "1.37.2"

// TestAPIServer has a real kube-apiserver say what it thinks of everything: its validation, its defaults, and the Pod Security
// admission of the namespace. Nothing is kept: all is a dry run.
func TestAPIServer(t *testing.T) {
	c := startAPIServer(t)

	for _, o := range kustomization(t, "base").objects {
		if o.kind == "Namespace" {
			if err := c.apply(t, o, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.installTypes(t)

	for _, r := range append(renderings(t), examples(t)) {
		applied := 0
		for _, o := range r.objects {
			if err := c.apply(t, o, true); err != nil {
				t.Errorf("%s: %s: %v", r.name, o, err)
			}
			applied++
		}
		// Admission refuses pods, not the Deployments that would make them: so the pods themselves are asked about.
		for _, p := range r.pods() {
			if err := c.create(t, p); err != nil {
				t.Errorf("%s: a pod of %s: %v", r.name, p.owner, err)
			}
		}
		if applied == 0 {
			t.Errorf("%s: nothing was applied", r.name)
		}
	}
	if t.Failed() {
		return
	}

	// It must be able to say no.
	bad := kustomization(t, "base")
	for _, p := range bad.pods() {
		root := int64(0)
		p.Spec.SecurityContext.RunAsUser = &root
		if err := c.create(t, p); !apierrors.IsForbidden(err) {
			t.Errorf("a pod of %s that runs as root: %v, want it forbidden", p.owner, err)
		}
		break
	}
	wrong := parsed(t, "wrong", []byte("apiVersion: v1\nkind: Service\nmetadata: {name: Not_A_Name, namespace: quickthorn}\nspec: {ports: [{port: 80}]}"))
	if err := c.apply(t, wrong.objects[0], true); !apierrors.IsInvalid(err) {
		t.Errorf("a service with a name that is none: %v, want it invalid", err)
	}
}

// cluster is a running API server.
type cluster struct {
	client dynamic.Interface
	types  *restmapper.DeferredDiscoveryRESTMapper
}

// apply applies an object on the server's side; dry: without keeping it.
func (c *cluster) apply(t *testing.T, o *object, dry bool) error {
	t.Helper()
	body, err := yaml.YAMLToJSON(o.yaml)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(body); err != nil {
		return err
	}
	to, err := c.resource(u.GroupVersionKind(), u.GetNamespace())
	if err != nil {
		return err
	}
	options := metav1.PatchOptions{FieldManager: "test", FieldValidation: metav1.FieldValidationStrict}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	yes := true
	options.Force = &yes
	_, err = to.Patch(t.Context(), u.GetName(), "application/apply-patch+yaml", body, options)
	return err
}

// create asks whether a pod of the template may run.
func (c *cluster) create(t *testing.T, p pod) error {
	t.Helper()
	one := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: *p.ObjectMeta.DeepCopy(), Spec: *p.Spec.DeepCopy()}
	one.GenerateName, one.Namespace = p.owner.name+"-", namespace
	for _, claim := range claims(p.owner) { // what the controller of a StatefulSet adds
		claim.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name}
		one.Spec.Volumes = append(one.Spec.Volumes, claim)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(one)
	if err != nil {
		return err
	}
	to, err := c.resource(one.GroupVersionKind(), namespace)
	if err != nil {
		return err
	}
	_, err = to.Create(t.Context(), &unstructured.Unstructured{Object: content}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	return err
}

func (c *cluster) resource(kind schema.GroupVersionKind, space string) (dynamic.ResourceInterface, error) {
	m, err := c.types.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() == "root" {
		return c.client.Resource(m.Resource), nil
	}
	if space == "" {
		space = "default"
	}
	return c.client.Resource(m.Resource).Namespace(space), nil
}

// installTypes brings the types that a cluster gets by operators. What a HTTPRoute may hold its own project says; a ServiceMonitor was
// read into its Go type already, so that the server need only know that there is one.
func (c *cluster) installTypes(t *testing.T) {
	t.Helper()
	find := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api")
	dir, err := find.Output()
	if err != nil {
		t.Fatal(err)
	}
	route, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const monitor = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {kind: ServiceMonitor, plural: servicemonitors}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`
	for name, text := range map[string][]byte{"httproutes": route, "servicemonitors": []byte(monitor)} {
		if err := c.apply(t, &object{name: name, yaml: text}, false); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, kind := range []schema.GroupVersionKind{{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"}, {Group: "monitoring.coreos.com", Version: "v1", Kind: "ServiceMonitor"}} {
		eventually(t, kind.Kind+" to be served", func() error {
			c.types.Reset() // it would not ask again by itself
			to, err := c.resource(kind, namespace)
			if err == nil {
				_, err = to.List(t.Context(), metav1.ListOptions{})
			}
			return err
		})
	}
}

// startAPIServer starts etcd and the API server, with a token for one user who may do everything. The test is skipped where they are
// not there, unless STRICT_TESTS asks for it.
func startAPIServer(t *testing.T) *cluster {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(cache, "quickthorn-kube", "kube-apiserver-"+apiserverVersion)
	if _, err := os.Stat(binary); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no %s: test/kubernetes/apiserver.sh builds it", binary)
	}
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		if os.Getenv("STRICT_TESTS") != "" {
			t.Fatal("no etcd: install Debian's etcd-server")
		}
		t.Skip("no etcd: install Debian's etcd-server")
	}

	dir := t.TempDir()
	const token = "a-token-of-this-test-only"
	write := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	signing := write("service-accounts.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	tokens := write("tokens.csv", []byte(token+",test,test,\"system:masters\"\n"))

	ports := freePorts(t, 3)
	store, peer, api := ports[0], ports[1], ports[2]
	start(t, dir, etcd, "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", store, "--advertise-client-urls", store,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	// It makes its own certificate there.
	certificates := filepath.Join(dir, "certificates")
	start(t, dir, binary, "--etcd-servers", store, "--bind-address", "127.0.0.1", "--secure-port", api[strings.LastIndexByte(api, ':')+1:],
		"--cert-dir", certificates, "--token-auth-file", tokens, "--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.0.0.0/24",
		"--service-account-issuer", "https://quickthorn.invalid", "--service-account-signing-key-file", signing, "--service-account-key-file", signing,
		// Nobody makes service accounts here; pods are only asked about.
		"--disable-admission-plugins", "ServiceAccount")

	config := &rest.Config{Host: "https" + strings.TrimPrefix(api, "http"), BearerToken: token, QPS: 1000, Burst: 1000, Timeout: 30 * time.Second,
		// Made by itself for an address that it was not asked for: it is the loopback.
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))}
	plain, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API server", func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+"/readyz", nil)
		if err != nil {
			return err
		}
		answer, err := plain.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
	return c
}

// start runs a program until the test ends, and shows the end of what it said if the test failed.
func start(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	var said bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Stdout, c.Stderr = dir, &said, &said
	c.WaitDelay = 10 * time.Second // nothing is kept, so that it is killed
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		err := c.Wait()
		if text := said.String(); t.Failed() {
			t.Logf("%s ended (%v) and had said at the end:\n%s", filepath.Base(name), err, text[max(0, len(text)-3000):])
		}
	})
}

// freePorts returns addresses on which nothing listens, and which no connection gets as its own end before they are listened on: their ports lie below
// those that systems choose from.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var list []string
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+mathrand.IntN(20_000))
		l, err := net.Listen("tcp4", address)
		if err != nil {
			continue
		}
		defer l.Close()
		if list = append(list, "http://"+address); len(list) == n {
			return list
		}
	}
	t.Fatal("there is no free port")
	return nil
}

// eventually tries until fn succeeds.
func eventually(t *testing.T, what string, fn func() error) {
	t.Helper()
	var err error
	for range 600 {
		if err = fn(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal(fmt.Errorf("waited in vain for %s: %w", what, err))
}
