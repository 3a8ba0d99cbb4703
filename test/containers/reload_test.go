//go:build containers

package containers

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// scraper names itself and is refused.
const scraper = "GPTBot/1.2"

var stylesheet = regexp.MustCompile(`/\.quickthorn/assets/style\.[0-9a-f]+\.css`)

// A saved file is live without an image being built, and one that does not compile leaves the old program serving.
func TestSavedFilesAreLive(t *testing.T) {
	variables := images(t)
	variables["QUICKTHORN_EDGE_TRUSTED_PROXIES"] = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"
	variables["QUICKTHORN_POLICY_MODE"] = "enforce"
	variables["QUICKTHORN_POLICY_SOURCE"] = "/etc/quickthorn/policy.yaml"
	// A copy, since files are edited.
	source := t.TempDir()
	if _, err := run(time.Minute, nil, "sh", "-c", "tar --exclude=.git -cf - . | tar -xf - -C "+source); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(source, 0o755); err != nil {
		t.Fatal(err)
	}
	edit := func(name string, change func(text string) string) {
		t.Helper()
		path := filepath.Join(source, name)
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		text := change(string(b))
		if text == string(b) {
			t.Fatalf("%s is not changed", name)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(source, "config"), 0o755); err != nil {
		t.Fatal(err)
	}
	edit("config/policy.yaml", func(string) string { return "imports: [readers-first]\n" })

	s := newStack(t, "quickthorn-test-reload", source, variables, filepath.Join(source, "docker-compose.dev.yaml"))
	s.compose(20*time.Minute, "build", "builder")
	begin := time.Now()
	s.compose(5*time.Minute, "up", "-d", "builder", "proxy")
	s.awaitHealthy(10*time.Minute, "builder", "proxy", "demo_site")
	t.Logf("first compiled and healthy after %s", time.Since(begin).Round(100*time.Millisecond))
	const address = "203.0.113.20"
	eventually(t, time.Minute, func() error { return s.want(200, "The Hedge Gazette", "/", chrome, address) })

	live := func(what string, want func() error) {
		t.Helper()
		begin := time.Now()
		eventually(t, 4*time.Minute, want)
		t.Logf("%s live after %s", what, time.Since(begin).Round(100*time.Millisecond))
	}
	edit("internal/page/files/page.html", func(text string) string {
		return strings.Replace(text, "</body>", "<p>a saved template</p></body>", 1)
	})
	live("a template of a page", func() error { return s.want(403, "a saved template", "/", scraper, address) })
	edit("internal/page/files/style.css", func(text string) string { return text + "\n.saved { color: red }\n" })
	live("a style sheet of a page", func() error {
		_, page, err := s.get("/", scraper, address)
		if err != nil {
			return err
		}
		sheet := stylesheet.FindString(page)
		if sheet == "" {
			return errors.New("no style sheet in " + page)
		}
		return s.want(200, ".saved", sheet, chrome, address)
	})
	edit("internal/demo/style.css", func(text string) string { return text + "\n/* a saved asset */\n" })
	live("an asset of the sample site", func() error { return s.want(200, "a saved asset", "/style.css", chrome, address) })
	edit("internal/demo/site.go", func(text string) string {
		return strings.Replace(text, `"The Hedge Gazette"`, `"The Saved Gazette"`, 1)
	})
	live("a line of Go", func() error { return s.want(200, "The Saved Gazette", "/", chrome, address) })
	edit("config/policy.yaml", func(text string) string {
		return text + "rules:\n  - name: saved\n    when: request.path == \"/feed.xml\"\n    action: deny\n"
	})
	live("a policy", func() error { return s.want(403, "", "/feed.xml", chrome, address) })

	// What does not compile is told, and what ran goes on.
	edit("internal/demo/site.go", func(text string) string { return strings.Replace(text, `"The Saved Gazette"`, `The Broken Gazette`, 1) })
	eventually(t, 2*time.Minute, func() error {
		out, err := s.try(time.Minute, "logs", "--no-color", "builder")
		if err == nil && !strings.Contains(out, "site.go") {
			err = errors.New("builder does not tell of the error:\n" + out)
		}
		return err
	})
	if err := s.want(200, "The Saved Gazette", "/", chrome, address); err != nil {
		t.Errorf("after an error of the compiler: %v", err)
	}
	edit("internal/demo/site.go", func(text string) string {
		return strings.Replace(text, `The Broken Gazette`, `"The Mended Gazette"`, 1)
	})
	live("the mended line", func() error { return s.want(200, "The Mended Gazette", "/", chrome, address) })
}
