//go:build containers

package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/simulate"
	"github.com/quickthorn/quickthorn/internal/testprogram"
)

// services are the Go services of this project; stores are what they need.
var (
	services = []string{"proxy", "ai_service", "escalation_engine", "tarpit", "prompt_router", "cloud_proxy", "admin", "sync", "demo_site"}
	stores   = []string{"redis", "postgres", "mailhog"}
)

func TestComposeRefusesBlankSecretsAndNamesThem(t *testing.T) {
	words := append(tool(), "--env-file", ".env.example", "config")
	_, err := run(time.Minute, nil, words[0], words[1:]...)
	if err == nil || !strings.Contains(err.Error(), "quickthorn init") {
		t.Fatalf("with blank secrets: %v", err)
	}
	t.Log(strings.TrimSpace(err.Error()[strings.Index(err.Error(), "\n"):]))
}

// The whole stack, by the files that are shipped: built, started, used through the published port, disturbed, and taken down.
func TestTheWholeStack(t *testing.T) {
	names := images(t)
	compose, err := filepath.Abs("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{
		"QUICKTHORN_POLICY_MODE": "enforce",
		// Whoever comes by the published port comes from the gateway of a network of the engine.
		"QUICKTHORN_EDGE_TRUSTED_PROXIES": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
	}
	for name, value := range names {
		variables[name] = value
	}
	s := newStack(t, "quickthorn-test-stack", ".", variables, compose)
	begin := time.Now()
	s.compose(20*time.Minute, "build")
	t.Logf("images built in %s", time.Since(begin).Round(time.Second))
	step := func(name string, do func(t *testing.T, s *stack)) {
		t.Helper()
		if t.Failed() {
			return // each step stands on those before
		}
		t.Run(name, func(t *testing.T) {
			in := *s
			in.t = t
			do(t, &in)
		})
	}
	step("a second build builds nothing", buildAgain)
	step("images", func(t *testing.T, s *stack) { checkImages(t, names) })
	step("up", up)
	step("readers pass, crawlers are refused", readersAndCrawlers)
	step("who is convicted is in the maze of the service tarpit, which looks like the site", maze)
	step("a campaign becomes a decision, a case and a mail", campaign)
	step("logs are JSON", logs)
	step("prometheus reaches every service", prometheus)
	step("a restart of any service loses nothing", restarts)
	step("redis is killed and comes back", redisAway)
	step("containers end in time and by themselves", stop)
	step("secrets as files", func(t *testing.T, s *stack) {
		s.down(t)
		secretsAsFiles(t, variables)
	})
}

func buildAgain(t *testing.T, s *stack) {
	begin := time.Now()
	env, words := s.command("build")
	out, err := run(10*time.Minute, env, "sh", append([]string{"-c", `exec "$@" 2>&1`, "sh"}, words...)...) // BuildKit tells of its steps on standard error
	if err != nil {
		t.Fatal(err)
	}
	steps, cached, built := strings.Count(out, "\nStep "), strings.Count(out, "---> Using cache"), strings.Count(out, "---> Running in")
	if buildKit() {
		steps, cached, built = 0, strings.Count(out, " CACHED\n"), 0
		for _, step := range regexp.MustCompile(`(?m)^(#\d+) \[.* \d+/\d+\] (RUN|COPY|WORKDIR)`).FindAllStringSubmatch(out, -1) {
			steps++
			if step[2] == "RUN" && !strings.Contains(out, step[1]+" CACHED\n") {
				built++
			}
		}
	}
	t.Logf("a build without a change: %d steps, %d from the cache, %s", steps, cached, time.Since(begin).Round(time.Second))
	if cached < 20 || built > 0 {
		t.Errorf("something was built twice:\n%s", out)
	}
}

func up(t *testing.T, s *stack) {
	begin := time.Now()
	s.compose(5*time.Minute, "up", "-d")
	s.awaitHealthy(4*time.Minute, append(slices.Clone(stores), services...)...)
	t.Logf("from up to healthy: %s", time.Since(begin).Round(100*time.Millisecond))
	for _, service := range services {
		id := s.container(service)
		for template, want := range map[string]string{
			"{{.Config.User}}": "10001:10001", "{{.HostConfig.ReadonlyRootfs}}": "true", "{{.HostConfig.CapDrop}}": "[ALL]", "{{.HostConfig.Privileged}}": "false",
		} {
			if got := inspect(t, id, template); got != want {
				t.Errorf("%s: %s is %s, want %s", service, template, got, want)
			}
		}
	}
	ports, err := run(30*time.Second, nil, "docker", "ps", "--filter", "label=com.docker.compose.project="+s.project, "--format", `{{.Label "com.docker.compose.service"}} {{.Ports}}`)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(ports) {
		service, list, _ := strings.Cut(strings.TrimSpace(line), " ")
		for port := range strings.SplitSeq(list, ", ") {
			if strings.Contains(port, "->") && service != "proxy" && (service != "admin" || !strings.HasPrefix(port, "127.0.0.1:")) {
				t.Errorf("%s publishes %s", service, port)
			}
		}
	}
	memory, err := run(time.Minute, nil, "sh", "-c", "docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' $(docker ps -q --filter label=com.docker.compose.project="+s.project+")")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("memory at rest:\n%s", memory)
	// deploy/egress.yaml: who has a way out reaches what is not Docker's, who has none does not, and neither reaches the other's network.
	address := outside(t)
	for service, reach := range map[string]bool{
		"ai_service": true, "escalation_engine": true, "sync": true, "cloud_proxy": true, "proxy": true,
		"tarpit": false, "prompt_router": false, "mailhog": false,
	} {
		out, err := s.in(service, "timeout", "5", "wget", "-q", "-O", "-", "http://"+address+"/style.css")
		if reached := err == nil && out != ""; reached != reach {
			t.Errorf("%s reaches what is outside: %t, %v", service, reached, err)
		}
	}
}

// outside serves the sample site from a network of its own, which is none of Docker's, and returns its address.
func outside(t *testing.T) string {
	t.Helper()
	binary, err := testprogram.Build(t.Context(), root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const space = "quickthorn-test"
	drop := func() { _, _ = run(time.Minute, nil, "ip", "netns", "delete", space) } // it may not exist
	drop()
	for _, line := range []string{
		"netns add " + space,
		"link add qt-out type veth peer name qt-in netns " + space,
		"address add 198.18.77.1/30 dev qt-out", "link set qt-out up",
		"-n " + space + " address add 198.18.77.2/30 dev qt-in", "-n " + space + " link set qt-in up", "-n " + space + " link set lo up",
		"-n " + space + " route add default via 198.18.77.1",
	} {
		if _, err := run(time.Minute, nil, "ip", strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	site := exec.CommandContext(ctx, "ip", "netns", "exec", space, binary, "demo-site", "--listen", "198.18.77.2:80")
	if err := site.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = site.Wait(); drop() }) // it ends by a signal
	eventually(t, 20*time.Second, func() error {
		c, err := net.DialTimeout("tcp", "198.18.77.2:80", time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return "198.18.77.2:80"
}

func readersAndCrawlers(t *testing.T, s *stack) {
	eventually(t, 20*time.Second, func() error { return s.want(200, "The Hedge Gazette", "/", chrome, "203.0.113.10") })
	for _, tt := range []struct {
		status             int
		words, path, agent string
	}{
		{200, "", "/feed.xml", "NetNewsWire/6.1 (RSS Reader; https://netnewswire.com/)"},
		{200, "", "/api/articles", "curl/8.5.0"},
		{200, "Disallow", "/robots.txt", "GPTBot/1.2"},
		{403, "", "/", "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"},
		{403, "", "/articles/anything", "CCBot/2.0 (https://commoncrawl.org/faq/)"},
	} {
		if err := s.want(tt.status, tt.words, tt.path, tt.agent, "203.0.113.11"); err != nil {
			t.Error(err)
		}
	}
	// What was refused is in PostgreSQL soon after.
	eventually(t, 30*time.Second, func() error {
		n, err := s.sql("SELECT count(*) FROM quickthorn.events")
		if err == nil && n == "0" {
			err = errors.New("no event in PostgreSQL")
		}
		return err
	})
}

func maze(t *testing.T, s *stack) {
	if out, err := s.in("ai_service", "quickthorn", "decisions", "add", "203.0.113.67", "--action", "tarpit", "--reason", "test"); err != nil {
		t.Fatal(out, err)
	}
	eventually(t, 20*time.Second, func() error {
		return s.want(200, `content="noindex, nofollow`, "/articles/unheard-of", chrome, "203.0.113.67")
	})
	// The edge has looked at the site meanwhile, ai_service keeps what it saw, and the tarpit has taken it from there.
	eventually(t, 2*time.Minute, func() error { return s.want(200, "Hedge Gazette", "/articles/unheard-of", chrome, "203.0.113.67") })
	out, err := s.in("tarpit", "quickthorn", "tarpit", "show")
	if err != nil || !strings.Contains(out, "203.0.113.67") {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := s.in("tarpit", "quickthorn", "tarpit", "off"); err != nil {
		t.Error(out, err)
	}
	if err := s.want(403, "", "/articles/unheard-of", chrome, "203.0.113.67"); err != nil {
		t.Error("the tarpit is off: ", err)
	}
	if out, err := s.in("tarpit", "quickthorn", "tarpit", "on"); err != nil {
		t.Error(out, err)
	}
	if out, err := s.in("ai_service", "quickthorn", "decisions", "delete", "--value", "203.0.113.67"); err != nil {
		t.Error(out, err)
	}
	eventually(t, 20*time.Second, func() error { return s.want(200, "The Hedge Gazette", "/", chrome, "203.0.113.67") })
}

func campaign(t *testing.T, s *stack) {
	scenario, err := simulate.Find("campaign")
	if err != nil {
		t.Fatal(err)
	}
	var deep []string
	for i := range 400 {
		deep = append(deep, fmt.Sprintf("/search?q=hedge%d&page=%d", i/10, i%10))
	}
	actors, err := scenario.Build(simulate.Options{Seed: 1, Scale: 0.1, Pages: []string{"/", "/search?q=hedge", "/api/articles"}, Deep: deep})
	if err != nil {
		t.Fatal(err)
	}
	result, err := simulate.Live(t.Context(), simulate.LiveOptions{
		Scenario: scenario.Name, Seed: 1, URL: "http://127.0.0.1:" + s.port, Speed: 10, Duration: time.Minute, MaxRequests: 30_000,
	}, actors)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := simulate.WriteTable(&table, simulate.Text, result); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &table)
	if result.Group(simulate.Campaign).All.Stopped() == 0 {
		t.Error("the proxy stopped no request of the campaign")
	}
	var list []map[string]any
	eventually(t, time.Minute, func() error {
		if list, err = s.decisions(); err != nil {
			return err
		}
		for _, d := range list {
			if d["scope"] == "fingerprint" && d["origin"] == "engine" {
				return nil
			}
		}
		return fmt.Errorf("no decision of the engine on a fingerprint among %v", list)
	})
	// It is in Redis, its case in PostgreSQL, its alert in the inbox of the service mailhog.
	keys, err := s.in("redis", "redis-cli", "--no-auth-warning", "--scan", "--pattern", "quickthorn:*")
	if err != nil || !strings.Contains(keys, "quickthorn:{state}:") {
		t.Errorf("Redis has %q, %v", keys, err)
	}
	eventually(t, time.Minute, func() error {
		n, err := s.sql("SELECT count(*) FROM quickthorn.cases")
		if err == nil && n == "0" {
			err = errors.New("no case in PostgreSQL")
		}
		return err
	})
	eventually(t, time.Minute, func() error {
		out, err := s.in("mailhog", "wget", "-q", "-O", "-", "http://127.0.0.1:8025/api/v1/messages")
		if err != nil {
			return err
		}
		var inbox struct {
			Messages []struct{ Subject string }
		}
		if err := json.Unmarshal([]byte(out), &inbox); err != nil {
			return err
		}
		for _, m := range inbox.Messages {
			if strings.Contains(strings.ToLower(m.Subject), "campaign") {
				t.Logf("the mail: %s", m.Subject)
				return nil
			}
		}
		return fmt.Errorf("no mail about a campaign among %v", inbox.Messages)
	})
}

func logs(t *testing.T, s *stack) {
	for _, service := range services {
		out := s.compose(time.Minute, "logs", "--no-color", "--no-log-prefix", service)
		lines := 0
		for line := range strings.Lines(out) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "Attaching to") || strings.HasPrefix(line, "the sample site is at ") {
				continue
			}
			var entry struct{ Time, Level, Msg string }
			if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Level == "" || entry.Msg == "" {
				t.Errorf("%s logs %q", service, line)
				break
			}
			if lines++; entry.Level == "ERROR" && service != "proxy" {
				t.Errorf("%s: %s", service, line)
			}
		}
		if lines == 0 && service != "demo_site" {
			t.Errorf("%s logs nothing", service)
		}
	}
	for service, words := range map[string]string{"admin": "no admin pages yet", "cloud_proxy": "no provider key"} {
		if out := s.compose(time.Minute, "logs", "--no-color", service); !strings.Contains(out, words) {
			t.Errorf("%s does not say %q:\n%s", service, words, out)
		}
	}
}

func prometheus(t *testing.T, s *stack) {
	s.compose(2*time.Minute, "--profile", "monitoring", "up", "-d", "--no-deps", "prometheus")
	s.awaitHealthy(2*time.Minute, "prometheus")
	eventually(t, time.Minute, func() error {
		out, err := s.in("prometheus", "wget", "-q", "-O", "-", "http://127.0.0.1:9090/api/v1/targets?state=active")
		if err != nil {
			return err
		}
		var answer struct {
			Data struct {
				ActiveTargets []struct {
					Labels            map[string]string
					Health, LastError string
				}
			}
		}
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, target := range answer.Data.ActiveTargets {
			job := target.Labels["job"]
			if seen[job] = true; target.Health != "up" {
				return fmt.Errorf("%s is %s: %s", job, target.Health, target.LastError)
			}
		}
		for _, service := range services {
			if service != "demo_site" && !seen[service] {
				return fmt.Errorf("nothing scrapes %s: %v", service, seen)
			}
		}
		return nil
	})
	s.compose(time.Minute, "--profile", "monitoring", "rm", "-sf", "prometheus")
}

// kept is what must survive.
type kept struct{ decisions, cases, events int }

func (s *stack) kept() (k kept, err error) {
	list, err := s.decisions()
	if err != nil {
		return k, err
	}
	k.decisions = len(list)
	for query, to := range map[string]*int{"SELECT count(*) FROM quickthorn.cases": &k.cases, "SELECT count(*) FROM quickthorn.events": &k.events} {
		text, err := s.sql(query)
		if err != nil {
			return k, err
		}
		if *to, err = strconv.Atoi(text); err != nil {
			return k, err
		}
	}
	return k, nil
}

func restarts(t *testing.T, s *stack) {
	// An operator's decision without an end: whatever happens it must be there afterwards, and be carried out.
	if _, err := s.in("ai_service", "quickthorn", "decisions", "add", "203.0.113.66", "--reason", "kept over restarts"); err != nil {
		t.Fatal(err)
	}
	banned := func() error { return s.want(403, "", "/", chrome, "203.0.113.66") }
	eventually(t, 20*time.Second, banned)
	before, err := s.kept()
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range append(slices.Clone(stores), services...) {
		s.compose(2*time.Minute, "restart", service)
		s.awaitHealthy(2*time.Minute, service)
		eventually(t, 90*time.Second, func() error {
			if err := errors.Join(s.want(200, "The Hedge Gazette", "/", chrome, "203.0.113.10"), banned()); err != nil {
				return fmt.Errorf("after a restart of %s: %w", service, err)
			}
			now, err := s.kept()
			if err != nil {
				return err
			}
			if now.cases < before.cases || now.events < before.events || now.decisions == 0 {
				return fmt.Errorf("after a restart of %s: %+v, before %+v", service, now, before)
			}
			return nil
		})
	}
	s.awaitHealthy(2*time.Minute, append(slices.Clone(stores), services...)...)
}

func redisAway(t *testing.T, s *stack) {
	before, err := s.kept()
	if err != nil {
		t.Fatal(err)
	}
	id := s.container("redis")
	if _, err := run(time.Minute, nil, "docker", "kill", "--signal", "KILL", id); err != nil {
		t.Fatal(err)
	}
	// The site goes on, with what the edge knows; what happens meanwhile is kept.
	for i := range 20 {
		if err := s.want(200, "The Hedge Gazette", "/", chrome, "203.0.113.12"); err != nil {
			t.Fatalf("request %d while Redis is away: %v", i, err)
		}
		if err := s.want(403, "", "/", "GPTBot/1.2", "203.0.113.13"); err != nil {
			t.Fatalf("request %d while Redis is away: %v", i, err)
		}
	}
	if err := s.want(403, "", "/", chrome, "203.0.113.66"); err != nil {
		t.Errorf("the operator's ban while Redis is away: %v", err)
	}
	// A kill by hand is not undone by the restart policy.
	s.compose(2*time.Minute, "up", "-d", "redis")
	s.awaitHealthy(2*time.Minute, "redis", "ai_service", "proxy")
	eventually(t, time.Minute, func() error {
		now, err := s.kept()
		if err != nil {
			return err
		}
		if now.events < before.events+20 {
			return fmt.Errorf("events that happened while Redis was away are missing: %+v, before %+v", now, before)
		}
		return nil
	})
	// A decision made now takes effect: the log is written and followed again.
	if _, err := s.in("ai_service", "quickthorn", "decisions", "add", "203.0.113.67", "--reason", "after Redis came back"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() error { return s.want(403, "", "/", chrome, "203.0.113.67") })
}

func stop(t *testing.T, s *stack) {
	ids := map[string]string{}
	for _, service := range append(slices.Clone(stores), services...) {
		ids[service] = s.container(service)
	}
	begin := time.Now()
	s.compose(4*time.Minute, "stop")
	t.Logf("stopped in %s", time.Since(begin).Round(100*time.Millisecond))
	for service, id := range ids {
		if got := inspect(t, id, "{{.State.ExitCode}} {{.State.OOMKilled}}"); got != "0 false" {
			t.Errorf("%s ended with %s, want 0: it was killed, or failed", service, got)
		}
	}
}
