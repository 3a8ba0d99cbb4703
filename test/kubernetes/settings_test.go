package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// programs builds the programs of the repository, once, and returns the folder they are in.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "quickthorn-kubernetes-")
	if err != nil {
		return "", err
	}
	programsDir = dir
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "./cmd/quickthorn", "./proxy", "./cloud-proxy", "./prompt-router")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if programsDir != "" {
		os.RemoveAll(programsDir)
	}
	os.Exit(code)
}

// programsDir is the folder that programs made, to be removed at the end.
var programsDir string

// program is the path of a built program.
func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// place is a container's file system as far as its settings go: its ConfigMap and its Secret's files, with made-up secrets.
type place struct{ dir string }

// mounts are where manifests put things.
var mounts = []string{"/etc/quickthorn", "/run/secrets/quickthorn", "/data"}

func (p *place) here(text string) string {
	for _, m := range mounts {
		text = strings.ReplaceAll(text, m, p.dir+m)
	}
	return text
}

// furnish makes the place of one container and returns its environment; whole: with the secrets that may be missing.
func furnish(t *testing.T, r *rendering, p *pod, c *corev1.Container, whole bool) (*place, []string) {
	t.Helper()
	at := &place{t.TempDir()}
	write := func(path, content string) {
		t.Helper()
		path = at.dir + path
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			continue // a claim
		}
		switch v := p.Spec.Volumes[i]; {
		case v.ConfigMap != nil:
			for _, config := range of[*corev1.ConfigMap](r) {
				if config.Name == v.ConfigMap.Name {
					for key, content := range config.Data {
						write(m.MountPath+"/"+key, at.here(content))
					}
				}
			}
		default:
			for _, from := range secrets(&v) {
				if from.Optional != nil && *from.Optional && !whole {
					continue
				}
				for _, item := range from.Items {
					write(m.MountPath+"/"+item.Path, "a-secret-of-the-test-"+item.Key)
				}
			}
		}
	}
	env := []string{"PATH=" + os.Getenv("PATH")}
	for _, e := range c.Env {
		value := at.here(e.Value)
		if from := e.ValueFrom; from != nil && from.SecretKeyRef != nil {
			value = "https://example.org/a-secret-of-the-test-" + from.SecretKeyRef.Key
			if optional := from.SecretKeyRef.Optional; optional != nil && *optional && !whole {
				continue
			}
		}
		env = append(env, e.Name+"="+value)
	}
	return at, env
}

// Variables that are no settings, a policy that cannot be compiled and a file that is not where its setting says are found by the
// program itself, as a pod would find them when it is too late.
func TestEveryPodStartsWithItsSettings(t *testing.T) {
	quickthorn := program(t, "quickthorn")
	for _, r := range append(renderings(t), examples(t)) {
		checked := 0
		for _, p := range r.pods() {
			for i := range p.Spec.Containers {
				c := &p.Spec.Containers[i]
				if len(c.Env) == 0 || !strings.HasPrefix(c.Env[0].Name, "QUICKTHORN_") {
					continue
				}
				checked++
				at, env := furnish(t, r, &p, c, true)
				args := []string{"check"}
				if p.Labels["app.kubernetes.io/name"] == "app" { // run takes its upstream by flag
					args = append(args, "--set", "upstream.url=http://127.0.0.1:3000")
				}
				if out, err := output(t, at.dir, env, quickthorn, args...); err != nil {
					t.Errorf("%s: %s: %v\n%s", r.name, p.owner, err, out)
				}
			}
		}
		if checked == 0 {
			t.Errorf("%s: no pod was checked", r.name)
		}
	}
	// The check above must be one that can fail.
	if out, err := output(t, t.TempDir(), []string{"QUICKTHORN_SERVICE_HOST=10.0.0.1", "QUICKTHORN_UPSTREAM_URL=http://a:1"}, quickthorn, "check"); err == nil {
		t.Errorf("a variable that is no setting was taken:\n%s", out)
	}
}

// Each service really starts from what its manifest says, answers the probes that the kubelet will send, and ends when it is told to. Its
// stores and the other services are away meanwhile, as they may be in a cluster.
func TestServicesStartAndAnswerTheirProbes(t *testing.T) {
	for _, r := range []*rendering{kustomization(t, "overlays/single-node"), kustomization(t, "overlays/production"), chart(t, "chart", nil)} {
		started := 0
		for _, p := range r.pods() {
			c := &p.Spec.Containers[0]
			if !p.ours() || c.ReadinessProbe == nil {
				continue
			}
			started++
			t.Run(r.name+"/"+p.owner.name, func(t *testing.T) {
				t.Parallel()
				at, env := furnish(t, r, &p, c, false)
				sockets, err := os.MkdirTemp("", "q") // a socket's path must be short
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.RemoveAll(sockets) })
				for _, name := range []string{"EDGE", "AI_SERVICE", "ESCALATION_ENGINE", "PROMPT_ROUTER", "CLOUD_PROXY", "ADMIN"} {
					env = append(env, "QUICKTHORN_"+name+"_LISTEN=unix:"+sockets+"/"+name)
				}
				env = append(env, "QUICKTHORN_PRIVATE_LISTEN=unix:"+sockets+"/private")
				var said bytes.Buffer
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				run := exec.CommandContext(ctx, program(t, filepath.Base(c.Command[0])), c.Command[1:]...)
				run.Dir, run.Env, run.Stdout, run.Stderr = at.dir, env, &said, &said
				if err := run.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- run.Wait() }()
				client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "unix", sockets+"/private")
				}}}
				for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
					eventually(t, name, func() error {
						select {
						case err := <-ended:
							t.Fatalf("it ended: %v\n%s", err, said.String())
						default:
						}
						answer, err := client.Get("http://private" + probe.HTTPGet.Path)
						if err != nil {
							return err
						}
						defer answer.Body.Close()
						if answer.StatusCode != http.StatusOK {
							return errors.New(answer.Status)
						}
						return nil
					})
				}
				if err := run.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				if err := <-ended; err != nil {
					t.Errorf("%v\n%s", err, said.String())
				}
			})
		}
		if started != 7 {
			t.Errorf("%s: %d services, want 7", r.name, started)
		}
	}
}

// Each container's command is one that its program has, with flags that it knows.
func TestCommandsExist(t *testing.T) {
	for _, r := range append(renderings(t), examples(t)) {
		tried := 0
		for _, p := range r.pods() {
			for _, c := range p.Spec.Containers {
				name, ours := strings.CutPrefix(append(c.Command, "")[0], "/usr/local/bin/")
				if !ours {
					continue
				}
				tried++
				out, err := output(t, t.TempDir(), []string{"PATH=" + os.Getenv("PATH")}, program(t, name), append(c.Command[1:], "--help")...)
				if want := strings.Join(append([]string{name}, words(c.Command[1:])...), " "); err != nil || !strings.Contains(out, want) {
					t.Errorf("%s: %s: %v: %v, want the help of %q\n%s", r.name, p.owner, c.Command, err, want, out)
				}
			}
		}
		if tried < 2 {
			t.Errorf("%s: %d commands", r.name, tried)
		}
	}
}

// words are the arguments in front of the flags.
func words(args []string) []string {
	if i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") }); i >= 0 {
		return args[:i]
	}
	return args
}

func output(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env, c.Stdout, c.Stderr = dir, env, &out, &out
	err := c.Run()
	return out.String(), err
}

// secrets are the parts of Secrets that a volume holds.
func secrets(v *corev1.Volume) []corev1.SecretProjection {
	var list []corev1.SecretProjection
	if s := v.Secret; s != nil {
		list = append(list, corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: s.SecretName}, Items: s.Items, Optional: s.Optional})
	}
	if v.Projected != nil {
		for _, from := range v.Projected.Sources {
			if from.Secret != nil {
				list = append(list, *from.Secret)
			}
		}
	}
	return list
}

// Each service gets the secrets that it needs and no other; the provider's key is cloud-proxy's alone.
func TestSecretsGoToWhoNeedsThem(t *testing.T) {
	want := map[string][]string{
		"proxy":             {"clearance-key", "clearance-key-next", "clearance-key-previous", "operator-key", "proxy-key", "tarpit-seed"},
		"ai-service":        {"ai-service-key", "email-password", "operator-key", "postgres-password", "proxy-key", "proxy-key-previous", "redis-password", "slack-url", "webhook-secret", "webhook-url"},
		"escalation-engine": {"ai-service-key", "ai-service-key-previous", "escalation-engine-key", "operator-key", "reputation-key"},
		"prompt-router":     {"escalation-engine-key", "escalation-engine-key-previous", "prompt-router-key", "redis-password"},
		"cloud-proxy":       {"prompt-router-key", "prompt-router-key-previous", "provider-key", "redis-password"},
		"tarpit":            {"operator-key", "proxy-key", "proxy-key-previous", "tarpit-seed"},
		"admin":             nil,
		"sync":              {"postgres-password", "redis-password"},
		"migrate":           {"postgres-password", "redis-password"},
		"redis":             {"redis-password"},
		"postgres":          {"postgres-password"},
		"mailhog":           nil,
		"demo-site":         nil,
	}
	guide, err := os.ReadFile(root + "/docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range renderings(t) {
		for _, p := range r.pods() {
			var got []string
			for _, v := range p.Spec.Volumes {
				for _, from := range secrets(&v) {
					if len(from.Items) == 0 {
						t.Errorf("%s: %s: the whole Secret is mounted", r.name, p.owner)
					}
					for _, item := range from.Items {
						got = append(got, item.Key)
					}
				}
			}
			for _, c := range p.Spec.Containers {
				if len(c.EnvFrom) > 0 {
					t.Errorf("%s: %s: takes its environment as a whole", r.name, p.owner)
				}
				for _, e := range c.Env {
					if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
						got = append(got, e.ValueFrom.SecretKeyRef.Key)
						if other := e.ValueFrom.SecretKeyRef.Name == "quickthorn-provider"; other != (e.ValueFrom.SecretKeyRef.Key == "provider-key") {
							t.Errorf("%s: %s: %v", r.name, p.owner, e.ValueFrom.SecretKeyRef)
						}
					}
				}
			}
			slices.Sort(got)
			component := p.Labels["app.kubernetes.io/component"]
			keys, known := want[component]
			if !known || !slices.Equal(got, keys) {
				t.Errorf("%s: %s has the secrets %q, want %q", r.name, p.owner, got, keys)
			}
			for _, key := range got {
				if !bytes.Contains(guide, []byte("`"+key+"`")) {
					t.Errorf("docs/kubernetes.md does not say what the key %s is", key)
				}
			}
		}
	}
}
