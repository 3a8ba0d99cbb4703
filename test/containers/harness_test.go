//go:build containers

// Package containers tests the images and Compose files on a real Docker Engine, by the very files that are shipped. Base and store
// images are the stand-ins of test/images, since no registry need be reachable.
package containers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/testserver"
)

// root is the project.
const root = "../.."

// chrome is what a reader's browser calls itself.
const chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"

func TestMain(m *testing.M) {
	for _, need := range []string{"docker", tool()[0]} {
		if _, err := exec.LookPath(need); err != nil {
			if os.Getenv("STRICT_TESTS") != "" {
				fmt.Fprintln(os.Stderr, "containers: needs", need)
				os.Exit(1)
			}
			fmt.Println("skipped: needs", need)
			return
		}
	}
	os.Exit(m.Run())
}

// tool is the Compose that the tests run: docker-compose 1.29 with the engine's classic builder, which every engine
// has, or the one that TEST_COMPOSE names ("docker compose"), with BuildKit.
func tool() []string {
	if words := strings.Fields(os.Getenv("TEST_COMPOSE")); len(words) > 0 {
		return words
	}
	return []string{"docker-compose"}
}

// buildKit reports whether the tool builds with BuildKit.
func buildKit() bool { return len(tool()) > 1 }

// run runs a program and returns its standard output. An error has the end of what it said.
func run(limit time.Duration, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		text := said.String() + out.String()
		if len(text) > 6000 {
			text = "…" + text[len(text)-6000:]
		}
		return out.String(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, text)
	}
	return out.String(), nil
}

// images makes the stand-ins and returns the variables that name them.
func images(t *testing.T) map[string]string {
	t.Helper()
	out, err := run(15*time.Minute, nil, "test/images/build.sh", "--env")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			names[name] = value
		}
	}
	if names["GO_IMAGE"] == "" || names["RUNTIME_IMAGE"] == "" {
		t.Fatalf("test/images/build.sh --env prints no images:\n%s", out)
	}
	return names
}

// stack is one install of the Compose files.
type stack struct {
	t       *testing.T
	source  string   // the folder of the Compose files
	files   []string // besides docker-compose.yaml
	project string
	env     string // file
	port    string // of the proxy on this machine
}

// newStack prepares an install with an .env that init has filled. It is taken down when the test ends.
func newStack(t *testing.T, project, source string, variables map[string]string, files ...string) *stack {
	t.Helper()
	dir := t.TempDir()
	s := &stack{t: t, source: source, files: files, project: project, env: filepath.Join(dir, "test.env"), port: freePort(t)}
	if _, err := run(5*time.Minute, nil, "go", "run", "./cmd/quickthorn", "init", "--file", s.env); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.env)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	set := func(name, value string) {
		re := regexp.MustCompile(`(?m)^#? ?` + name + `=.*$`)
		if !re.MatchString(text) {
			text += "\n" + name + "=" + value + "\n"
			return
		}
		text = re.ReplaceAllLiteralString(text, name+"="+value)
	}
	set("PROXY_PORT", s.port)
	set("ADMIN_PORT", freePort(t))
	for _, name := range []string{"QUICKTHORN", "PROXY", "CLOUD_PROXY", "PROMPT_ROUTER", "DEV"} {
		set(name+"_IMAGE", "quickthorn-test/"+strings.ToLower(strings.ReplaceAll(name, "_", "-"))+":built")
	}
	for _, name := range []string{"GOPROXY", "GOFLAGS", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GOSUMDB", "GOINSECURE"} {
		if value := os.Getenv(name); value != "" {
			set(name, value)
		}
	}
	for name, value := range variables {
		set(name, value)
	}
	if err := os.WriteFile(s.env, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := s.try(time.Minute, "logs", "--no-color", "--tail", "60")
			t.Logf("the last lines of the logs:\n%s", out)
		}
		s.down(t)
	})
	return s
}

func freePort(t *testing.T) string {
	t.Helper()
	_, port, _ := strings.Cut(testserver.FreeAddress(t), ":")
	return port
}

// command is a command line of Compose on this install, and what its environment needs.
func (s *stack) command(args ...string) (env, words []string) {
	words = append(tool(), "--env-file", s.env, "--project-directory", s.source, "-p", s.project, "-f", filepath.Join(s.source, "docker-compose.yaml"))
	for _, f := range s.files {
		words = append(words, "-f", f)
	}
	// Settings of this process must not come before those of the file.
	env = []string{"QUICKTHORN_UPSTREAM_URL=", "COMPOSE_DOCKER_CLI_BUILD=0", "DOCKER_BUILDKIT=0"}
	if buildKit() {
		env = []string{"QUICKTHORN_UPSTREAM_URL=", "BUILDKIT_PROGRESS=plain"}
	}
	return env, append(words, args...)
}

// try runs Compose.
func (s *stack) try(limit time.Duration, args ...string) (string, error) {
	env, words := s.command(args...)
	return run(limit, env, words[0], words[1:]...)
}

// compose runs Compose, which must succeed.
func (s *stack) compose(limit time.Duration, args ...string) string {
	s.t.Helper()
	out, err := s.try(limit, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// down takes everything away. A busy engine says now and then that a network still has endpoints after it has
// removed the last container, because it frees them a moment later; so what fails is tried again.
func (s *stack) down(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		_, err := s.try(3*time.Minute, "--profile", "monitoring", "--profile", "simulate", "down", "-v", "--remove-orphans", "-t", "20")
		return err
	})
}

// in runs a program in a service's container.
func (s *stack) in(service string, args ...string) (string, error) {
	return s.try(time.Minute, append([]string{"exec", "-T", service}, args...)...)
}

// container returns the id of a service's container.
func (s *stack) container(service string) string {
	s.t.Helper()
	id := strings.TrimSpace(s.compose(30*time.Second, "ps", "-a", "-q", service))
	if id == "" {
		s.t.Fatalf("%s has no container", service)
	}
	return id
}

// inspect reads a field of a container or image by a template.
func inspect(t *testing.T, what, template string) string {
	t.Helper()
	out, err := run(30*time.Second, nil, "docker", "inspect", "--format", template, what)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// awaitHealthy waits until each of the services is healthy.
func (s *stack) awaitHealthy(limit time.Duration, services ...string) {
	s.t.Helper()
	for _, service := range services {
		id := s.container(service)
		eventually(s.t, limit, func() error {
			if got := inspect(s.t, id, "{{.State.Health.Status}} {{.State.Status}}"); got != "healthy running" {
				last := inspect(s.t, id, "{{range .State.Health.Log}}{{.Output}}{{end}}")
				if len(last) > 500 {
					last = last[len(last)-500:]
				}
				return fmt.Errorf("%s is %s: %s", service, got, last)
			}
			return nil
		})
	}
}

// eventually wants fn to succeed within the limit, which is generous: it says how long to wait in vain, not how long it may take.
func eventually(t *testing.T, limit time.Duration, fn func() error) {
	t.Helper()
	until := time.Now().Add(limit)
	for {
		err := fn()
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("after %s: %v", limit, err)
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// get asks the proxy for a page by the published port, as a visitor with an address.
func (s *stack) get(path, agent, address string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+s.port+path, nil)
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("User-Agent", agent)
	r.Header.Set("X-Forwarded-For", address)
	if agent == chrome {
		for name, value := range map[string]string{
			"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", "Accept-Language": "en-US,en;q=0.9",
			"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-User": "?1", "Sec-Fetch-Dest": "document", "Upgrade-Insecure-Requests": "1",
			"Sec-Ch-Ua": `"Chromium";v="141", "Google Chrome";v="141", "Not?A_Brand";v="8"`, "Sec-Ch-Ua-Mobile": "?0", "Sec-Ch-Ua-Platform": `"Linux"`,
		} {
			r.Header.Set(name, value)
		}
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, string(b), err
}

// want asks for a page and wants the status and, in the body, the words.
func (s *stack) want(status int, words, path, agent, address string) error {
	got, body, err := s.get(path, agent, address)
	if err != nil {
		return err
	}
	if got != status || !strings.Contains(body, words) {
		return fmt.Errorf("%s as %.30q: %d, want %d with %q:\n%.600s", path, agent, got, status, words, body)
	}
	return nil
}

// decisions lists the decisions in force as the command line in ai_service shows them.
func (s *stack) decisions() ([]map[string]any, error) {
	out, err := s.in("ai_service", "quickthorn", "decisions", "list", "--json")
	if err != nil {
		return nil, err
	}
	var page struct{ Decisions []map[string]any }
	if err := json.Unmarshal([]byte(out), &page); err != nil {
		var list []map[string]any
		if e := json.Unmarshal([]byte(out), &list); e != nil {
			return nil, errors.Join(err, e, errors.New(out))
		}
		return list, nil
	}
	return page.Decisions, nil
}

// sql asks PostgreSQL for one value.
func (s *stack) sql(query string) (string, error) {
	out, err := s.in("postgres", "psql", "-U", "quickthorn", "-d", "quickthorn", "-h", "/var/run/postgresql", "-Atc", query)
	return strings.TrimSpace(out), err
}
