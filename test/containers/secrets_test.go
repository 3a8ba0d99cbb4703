//go:build containers

package containers

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// secretsAsFiles starts the services with each secret in a file, as docs/docker.md says, and none in an environment. The images are there.
func secretsAsFiles(t *testing.T, variables map[string]string) {
	source := t.TempDir()
	if err := os.Chmod(source, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"docker-compose.yaml", "docker-compose.secrets.yaml"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"secrets", "config"} {
		if err := os.Mkdir(filepath.Join(source, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := newStack(t, "quickthorn-test-secrets", source, variables, filepath.Join(source, "docker-compose.secrets.yaml"))
	b, err := os.ReadFile(s.env)
	if err != nil {
		t.Fatal(err)
	}
	// Every secret that init has made goes into a file of its own.
	var secrets []string
	text := regexp.MustCompile(`(?m)^(\w+)=([0-9a-f]{32})$`).ReplaceAllStringFunc(string(b), func(line string) string {
		name, value, _ := strings.Cut(line, "=")
		secrets = append(secrets, value)
		file := filepath.Join(source, "secrets", strings.ToLower(strings.TrimPrefix(name, "QUICKTHORN_")))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o444); err != nil {
			t.Fatal(err)
		}
		return name + "=file"
	})
	if len(secrets) < 7 {
		t.Fatalf("init made %d secrets", len(secrets))
	}
	if err := os.WriteFile(filepath.Join(source, "secrets", "cloud_proxy_provider_key"), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.env, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all := []string{"redis", "postgres", "ai_service", "escalation_engine", "sync", "prompt_router", "cloud_proxy", "demo_site", "proxy"}
	s.compose(5*time.Minute, append([]string{"up", "-d", "--no-build"}, all...)...)
	s.awaitHealthy(3*time.Minute, all...)
	eventually(t, 20*time.Second, func() error { return s.want(403, "", "/", "GPTBot/1.2", "203.0.113.30") })
	for _, service := range all {
		described, err := run(time.Minute, nil, "docker", "inspect", s.container(service))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if strings.Contains(described, secret) {
				t.Errorf("a secret is in what the engine tells of %s", service)
			}
		}
	}
}
