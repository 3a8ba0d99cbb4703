//go:build clients

package clients

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/quickthorn/quickthorn/internal/testserver"
)

// convict is an edge that tarpits whoever comes from this machine.
func convict(t *testing.T, sets ...string) *edge {
	t.Helper()
	e := start(t, demoSite(t), append([]string{"tarpit.minDelay=0s", "tarpit.maxDelay=0s", "tarpit.bandwidth=0"}, sets...)...)
	e.cli(t, "decisions", "add", "--action", "tarpit", "--for", "1h", "127.0.0.1")
	return e
}

// caught runs a program for so long and wants it not to have come to an end by itself.
func caught(t *testing.T, d time.Duration, dir, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if ctx.Err() == nil {
		t.Errorf("%s came to an end by itself: %v\n%.2000s", name, err, out)
	}
}

// A crawler that ignores what robots are asked is never done, and never sees the same page twice.
func TestWgetMirrorsTheMazeForEver(t *testing.T) {
	need(t, "wget")
	e := convict(t, "tarpit.streams=0", "tarpit.archives=0")
	dir := t.TempDir()
	caught(t, 10*time.Second, dir, "wget", "--mirror", "--execute=robots=off", "--adjust-extension", "--no-verbose", e.URL+"/articles/wrens")
	pages, seen := 0, map[[32]byte]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(path, ".html") || !bytes.Contains(b, []byte("</html>")) { // the last one may be cut off
			return err
		}
		pages++
		if !bytes.Contains(b, []byte(`content="noindex, nofollow`)) || !bytes.Contains(b, []byte("way-out")) {
			t.Errorf("%s is no page of the maze", path)
		}
		sum := sha256.Sum256(b)
		if other := seen[sum]; other != "" {
			t.Errorf("%s and %s are the same", path, other)
		}
		seen[sum] = path
		return nil
	})
	if err != nil || pages < 50 {
		t.Errorf("%d pages, %v", pages, err)
	}
	t.Logf("wget saved %d pages in 10 s\n%s", pages, e.cli(t, "tarpit", "show"))
}

// One that heeds it leaves at once.
func TestWgetThatHeedsNofollowLeaves(t *testing.T) {
	need(t, "wget")
	e := convict(t)
	dir := t.TempDir()
	run(t, nil, dir, "wget", "--mirror", "--no-verbose", e.URL+"/articles/wrens")
	files := 0
	if err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if files > 3 { // the page, robots.txt
		t.Errorf("%d files", files)
	}
}

// curl is held in a page that never ends: it gets some bytes in all that time.
func TestCurlIsHeldInAStream(t *testing.T) {
	need(t, "curl")
	e := convict(t, "tarpit.streams=1")
	page := run(t, nil, "", "curl", "-s", e.URL+"/articles/")
	for _, piece := range strings.Split(page, `href="`)[1:] {
		path, _, _ := strings.Cut(piece, `"`)
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "/.quickthorn/") {
			continue
		}
		c := exec.Command("curl", "-sN", "--max-time", "6", "-o", os.DevNull, "-w", "%{size_download} %{time_total} %{http_code}", e.URL+path)
		out, err := c.Output()
		var exit *exec.ExitError
		if err == nil { // a page that ends
			continue
		}
		fields := strings.Fields(string(out))
		if !errors.As(err, &exit) || exit.ExitCode() != 28 || len(fields) != 3 || fields[2] != "200" {
			t.Fatalf("curl: %s, %v", out, err)
		}
		switch n, err := strconv.Atoi(fields[0]); {
		case err != nil || n == 0:
			t.Errorf("%s bytes in 6 s, %v", fields[0], err)
		case n > 2000: // an archive, which ends, but not within six seconds
			continue
		}
		return
	}
	t.Fatalf("no link of the page leads to a page that never ends:\n%s", page)
}

// Archives are what they are called, to the programs that open them.
func TestArchivesOfTheMazeOpen(t *testing.T) {
	need(t, "curl")
	need(t, "unzip")
	need(t, "tar")
	e := convict(t, "tarpit.archiveRate=0", "tarpit.archiveBytes=512KiB")
	dir := t.TempDir()
	for _, name := range []string{"set.zip", "set.tar.gz", "set.jsonl", "set.csv"} {
		run(t, nil, dir, "curl", "-sS", "--max-time", "60", "-o", name, e.URL+"/data/"+name)
	}
	run(t, nil, dir, "unzip", "-t", "set.zip")
	run(t, nil, dir, "tar", "-tzf", "set.tar.gz")
	for _, name := range []string{"set.jsonl", "set.csv"} {
		if out := e.cli(t, "canary", "find", "--file", filepath.Join(dir, name)); !strings.Contains(out, "127.0.0.1") {
			t.Errorf("%s: no mark is found: %s", name, out)
		}
	}
}

// The looks of the maze; with SCREENSHOTS set to a directory they are kept, to be looked at.
func TestTheSkinsInChromium(t *testing.T) {
	shots := os.Getenv("SCREENSHOTS")
	for _, skin := range []string{"wiki", "forge", "shop", "docs", "forum"} {
		e := convict(t, "tarpit.skin="+skin, "tarpit.streams=0")
		p := openChromium(t, "").tab(chromedp.EmulateViewport(1000, 900))
		p.open(e.URL + "/articles/")
		p.shows("Are you a person?", 10*time.Second)
		if ask[bool](p, "document.documentElement.scrollWidth > innerWidth") {
			t.Errorf("%s is wider than the window", skin)
		}
		if n := ask[int](p, `document.querySelectorAll('a[href^="/"]').length`); n < 10 {
			t.Errorf("%s: %d links", skin, n)
		}
		if shots != "" {
			png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(shots, "maze-"+skin+".png"), png, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		e.stop(t, os.Interrupt)
	}
}

// nginxConf is what docs/tarpit.md gives for another web server in front.
const nginxConf = `
map $http_user_agent $scraper {
    default                       0;
    "~*(GPTBot|CCBot|Bytespider)" 1;
}
server {
    listen SITE;
    location / {
        error_page 418 = @tarpit;
        if ($scraper) { return 418; }
        proxy_pass UPSTREAM;
    }
    location = /robots.txt { proxy_pass UPSTREAM; }
    location @tarpit {
        proxy_pass http://TARPIT;
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_read_timeout 20m;
    }
}
`

func TestNginxHandsScrapersToTheTarpit(t *testing.T) {
	need(t, "nginx")
	docs, err := os.ReadFile("../../docs/tarpit.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(nginxConf, "\n")
	if shown = strings.NewReplacer("SITE", "80", "UPSTREAM", "http://127.0.0.1:3000", "TARPIT", "127.0.0.1:8001").Replace(shown); !strings.Contains(string(docs), shown) {
		t.Errorf("docs/tarpit.md does not show\n%s", shown)
	}
	dir, public, pit, private := t.TempDir(), testserver.FreeAddress(t), testserver.FreeAddress(t), testserver.FreeAddress(t)
	program := func(name string, args ...string) {
		c := exec.Command(name, args...)
		var log bytes.Buffer
		c.Stdout, c.Stderr = &log, &log
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = c.Process.Signal(syscall.SIGTERM)
			_ = c.Wait() // by a signal
			if t.Failed() {
				t.Logf("%s said:\n%s", name, &log)
			}
		})
	}
	program(binary, "tarpit", "--data", filepath.Join(dir, "data"), "--set", "tarpit.listen="+pit, "--set", "private.listen="+private, "--set", "tarpit.fronts=127.0.0.1/32", "--set", "tarpit.minDelay=0s")
	conf := filepath.Join(dir, "nginx.conf")
	text := strings.NewReplacer("SITE", public, "UPSTREAM", demoSite(t), "TARPIT", pit).Replace(nginxConf)
	if err := os.WriteFile(conf, []byte("daemon off; master_process off; error_log stderr; pid "+dir+"/pid; events {} http { access_log off; client_body_temp_path "+dir+"/b; proxy_temp_path "+dir+
		"/p; fastcgi_temp_path "+dir+"/f; uwsgi_temp_path "+dir+"/u; scgi_temp_path "+dir+"/s;\n"+text+"}"), 0o644); err != nil {
		t.Fatal(err)
	}
	program("nginx", "-e", "stderr", "-c", conf)
	const gptbot = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
	fetch := func(agent, path string) string {
		return run(t, nil, "", "curl", "-s", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", "--max-time", "60", "-A", agent, "http://"+public+path)
	}
	if body := fetch(gptbot, "/articles/wrens"); !strings.Contains(body, `content="noindex, nofollow`) {
		t.Errorf("a scraper reads %.300s", body)
	}
	for agent, path := range map[string]string{"Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0": "/articles/wrens", gptbot: "/robots.txt"} {
		if body := fetch(agent, path); body == "" || strings.Contains(body, `content="noindex`) {
			t.Errorf("%s at %s reads %.300s", agent, path, body)
		}
	}
	out, err := exec.Command(binary, "tarpit", "show", "--data", filepath.Join(dir, "data"), "--set", "private.listen="+private).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "127.0.0.1") {
		t.Errorf("%s, %v", out, err)
	}
}
