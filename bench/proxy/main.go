// Command proxy measures what stands between a reader and a site: no proxy,
// Debian's nginx, a plain and a well-tuned httputil.ReverseProxy, and quickthorn, all in front of
// the same nginx that serves 1 KiB, driven by wrk over loopback.
//
//	go run ./bench/proxy [-rounds 5] [-seconds 4] [-connections 64]
//
// Rounds are interleaved, so that a machine that slows down slows all alike. Figures are medians over
// the rounds; the ratio is taken round by round against the tuned ReverseProxy.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quickthorn/quickthorn/bench/process"
	"github.com/quickthorn/quickthorn/internal/testprogram"
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds, each of which measures every contender once")
	seconds := flag.Int("seconds", 4, "length of one measurement")
	connections := flag.Int("connections", 64, "wrk's connections")
	only := flag.String("only", "", "comma-separated contenders to run (the tuned ReverseProxy always runs)")
	serve := flag.String("serve", "", "internal: serve as `plain|tuned|refuse`")
	listen := flag.String("listen", "", "internal: with -serve")
	target := flag.String("target", "", "internal: with -serve")
	flag.Parse()
	var err error
	if *serve != "" { // ended by SIGTERM, so it must not be caught
		err = reverseProxy(*serve, *listen, *target)
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, *rounds, *seconds, *connections, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/proxy:", err)
		os.Exit(1)
	}
}

// reverseProxy serves the Go peers, each in a process of its own.
func reverseProxy(kind, listen, target string) error {
	if kind == "refuse" { // what any refusal by a net/http server costs at least
		return http.ListenAndServe(listen, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, strings.Repeat("no ", 300), http.StatusForbidden)
		}))
	}
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	p := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.SetXForwarded()
	}}
	if kind == "tuned" {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConns, t.MaxIdleConnsPerHost, t.DisableCompression = 0, 1024, true
		p.Transport, p.BufferPool = t, &pool{}
	}
	return http.ListenAndServe(listen, p)
}

type pool struct{ p sync.Pool }

func (b *pool) Get() []byte {
	if v, ok := b.p.Get().(*[]byte); ok {
		return *v
	}
	return make([]byte, 32<<10)
}
func (b *pool) Put(v []byte) { b.p.Put(&v) }

type contender struct {
	name   string
	url    string
	agent  string // User-Agent that wrk claims
	pids   []int  // whose CPU time counts
	status int
	rate   []float64 // requests/s
	cpu    []float64 // µs per request
	p50    []float64 // ms
	p99    []float64
}

const (
	chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
	gptbot = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
)

// script makes wrk send what a browser sends. It has no response hook: that would slow wrk itself.
// Each request comes from an address of its own, told by X-Forwarded-For: one address that asks as often as it can would be met as what it is.
const script = `
local n = (os.time() * 7919) % 0x7fffff
local before, after
wrk.headers["User-Agent"] = os.getenv("BENCH_AGENT")
wrk.headers["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
wrk.headers["Accept-Language"] = "en-GB,en;q=0.9"
wrk.headers["Accept-Encoding"] = "gzip, deflate"
wrk.headers["Upgrade-Insecure-Requests"] = "1"
function init(args)
  wrk.headers["X-Forwarded-For"] = "ADDRESS"
  local text = wrk.format()
  local from, to = string.find(text, "ADDRESS", 1, true)
  before, after = string.sub(text, 1, from - 1), string.sub(text, to + 1)
end
function request()
  n = (n + 1) % 0xffffff
  return before .. "11." .. math.floor(n / 65536) .. "." .. math.floor(n / 256) % 256 .. "." .. n % 256 .. after
end
function done(summary, latency)
  io.write(string.format("P50 %f\nP99 %f\n", latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
`

func run(ctx context.Context, rounds, seconds, connections int, only string) (err error) {
	dir, err := os.MkdirTemp("", "bench-proxy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	bin, err := testprogram.Build(ctx, ".", dir)
	if err != nil {
		return err
	}
	lua := filepath.Join(dir, "browser.lua")
	if err := os.WriteFile(lua, []byte(script), 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	g := &process.Group{Dir: dir}
	defer g.End()
	start := func(name string, args ...string) (int, error) {
		pid, _, err := g.Start(name, args...)
		return pid, err
	}
	addresses, err := process.FreeAddresses(11)
	if err != nil {
		return err
	}
	at := func(i int) string { return addresses[i] }
	site := "http://" + at(0)

	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(strings.Repeat("quickthorn benchmark page, 1 KiB\n", 31)+"\n"), 0o644); err != nil {
		return err
	}
	conf := func(name, server string) (string, error) {
		path := filepath.Join(dir, name)
		return path, os.WriteFile(path, []byte(fmt.Sprintf(`
daemon off; pid %s.pid; error_log stderr warn; worker_processes 1;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000000; client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
%[3]s }
`, path, dir, server)), 0o644)
	}
	upstream, err := conf("site.conf", fmt.Sprintf("server { listen %s; root %s; }", at(0), dir))
	if err != nil {
		return err
	}
	nginx, err := conf("proxy.conf", fmt.Sprintf("upstream u { server %s; keepalive 256; keepalive_requests 1000000000; } server { listen %s; location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; } }", at(0), at(1)))
	if err != nil {
		return err
	}
	if _, err := start("nginx", "-c", upstream); err != nil {
		return fmt.Errorf("nginx is needed: %w", err)
	}
	nginxPID, err := start("nginx", "-c", nginx)
	if err != nil {
		return err
	}
	plain, err := start(self, "-serve", "plain", "-listen", at(2), "-target", site)
	if err != nil {
		return err
	}
	tuned, err := start(self, "-serve", "tuned", "-listen", at(3), "-target", site)
	if err != nil {
		return err
	}
	refuse, err := start(self, "-serve", "refuse", "-listen", at(8))
	if err != nil {
		return err
	}
	edge := func(public, private int, name string, sets ...string) (int, error) {
		args := []string{"run", "--upstream", site, "--listen", at(public), "--set", "private.listen=" + at(private), "--data", filepath.Join(dir, name), "--set", "policy.mode=enforce",
			// No site is under pressure.
			"--set", "edge.trustedProxies=127.0.0.1/32",
			"--set", "policy.source=" + filepath.Join(dir, "policy.yaml"), "--set", "posture.fixed=calm"}
		for _, s := range sets {
			args = append(args, "--set", s)
		}
		return start(bin, args...)
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(budgetFree), 0o644); err != nil {
		return err
	}
	quiet, err := edge(4, 5, "quiet", "events.enabled=false", "slowPath.enabled=false")
	if err != nil {
		return err
	}
	archived, err := edge(9, 10, "archived", "slowPath.enabled=false")
	if err != nil {
		return err
	}
	full, err := edge(6, 7, "full")
	if err != nil {
		return err
	}

	all := []*contender{
		{name: "direct", url: site, agent: chrome, status: 200},
		{name: "nginx", url: "http://" + at(1), agent: chrome, status: 200, pids: []int{nginxPID}},
		{name: "ReverseProxy, plain", url: "http://" + at(2), agent: chrome, status: 200, pids: []int{plain}},
		{name: "ReverseProxy, tuned", url: "http://" + at(3), agent: chrome, status: 200, pids: []int{tuned}},
		{name: "quickthorn events off", url: "http://" + at(4), agent: chrome, status: 200, pids: []int{quiet}},
		{name: "quickthorn slow path off", url: "http://" + at(9), agent: chrome, status: 200, pids: []int{archived}},
		{name: "quickthorn", url: "http://" + at(6), agent: chrome, status: 200, pids: []int{full}},
		{name: "net/http that only refuses", url: "http://" + at(8), agent: gptbot, status: 403, pids: []int{refuse}},
		{name: "quickthorn denied", url: "http://" + at(6), agent: gptbot, status: 403, pids: []int{full}},
	}
	const yardstick = "ReverseProxy, tuned"
	if only != "" {
		all = slices.DeleteFunc(all, func(c *contender) bool {
			return c.name != yardstick && !slices.Contains(strings.Split(only, ","), c.name)
		})
	}
	for _, c := range all {
		if err := ready(ctx, c); err != nil {
			return err
		}
	}
	for round := -1; round < rounds; round++ {
		for _, c := range all {
			n := seconds
			if round < 0 {
				n = 1 // warm-up, not counted
			}
			if err := measure(ctx, c, lua, n, connections, round >= 0); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		fmt.Fprintf(os.Stderr, "\rround %d of %d", round+1, rounds)
	}
	fmt.Fprintln(os.Stderr)
	report(all, yardstick, connections)
	return nil
}

// budgetFree is the default policy without its budgets: wrk is one client that asks as often as it can.
const budgetFree = "name: bench\nimports: [readers-first]\ndisable: [pages, pages-under-load, neighbourhood, expensive, expensive-under-load, api, feeds, git, crawlers, unproved-crawlers, seo-crawlers]\n"

// ready waits until the contender gives the wanted answer, so that an error page is never measured.
func ready(ctx context.Context, c *contender) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	last := errors.New("no answer")
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, "GET", c.url+"/index.html", nil)
		if err != nil {
			return err
		}
		r.Header = http.Header{
			"User-Agent": {c.agent}, "Accept": {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, "Accept-Language": {"en-GB,en;q=0.9"},
			"Accept-Encoding": {"gzip, deflate"}, "Upgrade-Insecure-Requests": {"1"}, "Connection": {"keep-alive"},
		}
		res, err := http.DefaultClient.Do(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode == c.status {
				return nil
			}
			err = fmt.Errorf("answers %s, want %d", res.Status, c.status)
		}
		last = err
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s is not ready: %w", c.name, last)
}

var (
	reRequests = regexp.MustCompile(`(\d+) requests in ([0-9.]+)(m?s)`)
	reLatency  = regexp.MustCompile(`P50 ([0-9.]+)\nP99 ([0-9.]+)`)
	reErrors   = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)|Socket errors: .*`)
)

func measure(ctx context.Context, c *contender, lua string, seconds, connections int, count bool) error {
	before, err := cpuTime(c.pids)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "wrk", "-t1", "-c", strconv.Itoa(connections), "-d", strconv.Itoa(seconds)+"s", "-s", lua, c.url+"/index.html")
	cmd.Env = append(os.Environ(), "BENCH_AGENT="+c.agent)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("wrk: %w\n%s", err, out)
	}
	after, err := cpuTime(c.pids)
	if err != nil {
		return err
	}
	m := reRequests.FindSubmatch(out)
	l := reLatency.FindSubmatch(out)
	if m == nil || l == nil {
		return fmt.Errorf("wrk said: %s", out)
	}
	n, _ := strconv.ParseFloat(string(m[1]), 64)
	if e := reErrors.FindSubmatch(out); e != nil && (len(e[1]) == 0 || c.status == 200 || string(e[1]) != string(m[1])) {
		return fmt.Errorf("unwanted answers: %s", out)
	}
	if !count {
		return nil
	}
	elapsed, _ := strconv.ParseFloat(string(m[2]), 64)
	c.rate = append(c.rate, n/elapsed)
	c.cpu = append(c.cpu, (after-before)*1e6/n)
	p50, _ := strconv.ParseFloat(string(l[1]), 64)
	p99, _ := strconv.ParseFloat(string(l[2]), 64)
	c.p50, c.p99 = append(c.p50, p50), append(c.p99, p99)
	return nil
}

// cpuTime is the CPU time, user and system, of processes and their children, in seconds.
func cpuTime(pids []int) (float64, error) {
	sum := 0.0
	for _, pid := range pids {
		for _, p := range append(process.Children(pid), pid) {
			own, err := process.CPUTime(p, false)
			if err != nil {
				return 0, err
			}
			sum += own
		}
	}
	return sum, nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func report(all []*contender, yardstick string, connections int) {
	var base *contender
	for _, c := range all {
		if c.name == yardstick {
			base = c
		}
	}
	fmt.Printf("\n%d connections, %d rounds; medians, in brackets the range of the ratio over rounds\n\n", connections, len(base.rate))
	fmt.Println("| contender | requests/s | ratio to tuned ReverseProxy | CPU µs/request | p50 ms | p99 ms |")
	fmt.Println("| --- | ---: | ---: | ---: | ---: | ---: |")
	for _, c := range all {
		var ratio []float64
		for i := range c.rate {
			ratio = append(ratio, c.rate[i]/base.rate[i])
		}
		cpu := "–"
		if len(c.pids) > 0 {
			cpu = fmt.Sprintf("%.1f", median(c.cpu))
		}
		fmt.Printf("| %s | %.0f | %.2f (%.2f–%.2f) | %s | %.2f | %.2f |\n", c.name, median(c.rate), median(ratio), slices.Min(ratio), slices.Max(ratio), cpu, median(c.p50), median(c.p99))
	}
}
