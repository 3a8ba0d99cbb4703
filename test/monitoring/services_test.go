package monitoring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/prometheus/model/labels"

	dto "github.com/prometheus/client_model/go"
)

// root is the repository.
const root = "../.."

// patience bounds each wait for something that ought to happen soon. It is long because tests run beside others on
// small machines; nothing is measured by it.
const patience = 60 * time.Second

// Each caller has its own key.
const (
	operatorKey = "key-of-the-operator-0123456789abcdef"
	seed        = "seed-of-the-tarpit-0123456789abcdef"
	proxyKey    = "key-of-the-proxies-0123456789abcdef"
	intakeKey   = "key-of-the-ai-service-0123456789abcdef"
	engineKey   = "key-of-the-engine-0123456789abcdef"
	routerKey   = "key-of-the-router-0123456789abcdef"
)

// series is one series that a started service shows, as Prometheus keeps it.
type series struct {
	labels labels.Labels // with __name__, job and instance
	kind   dto.MetricType
	value  float64
}

// shown is what all services show after some traffic. It is set by TestMain.
var shown []series

func TestMain(m *testing.M) {
	os.Exit(func() int {
		stack, err := startServices()
		if stack != nil {
			defer stack.stop()
		}
		if err == nil {
			err = stack.use()
		}
		if err == nil {
			shown, err = stack.scrape()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// service is one started program of ours.
type service struct {
	job     string // as Prometheus names it
	private string // address of its private listener
	cmd     *exec.Cmd
	log     string // file
	done    chan struct{}
}

// services are all services on embedded stores, and the whole in one process, in front of one site.
type services struct {
	dir, program string
	site, model  *httptest.Server
	all          []*service
	listen       map[string]string // where services listen, by job
}

// startServices builds the program and starts each service. What it returns must be stopped, with an error too.
func startServices() (*services, error) {
	dir, err := os.MkdirTemp("", "quickthorn-monitoring-")
	if err != nil {
		return nil, err
	}
	s := &services{dir: dir, program: filepath.Join(dir, "quickthorn"), listen: map[string]string{}}
	s.site = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<title>site</title>a page") }))
	s.model = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, `data: {"id":"1","model":"gpt-5-mini","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":"stop"}]}`+"\n\n")
		io.WriteString(w, `data: {"id":"1","model":"gpt-5-mini","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}`+"\n\ndata: [DONE]\n\n")
	}))
	build := exec.Command("go", "build", "-o", s.program, "./cmd/quickthorn")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return s, fmt.Errorf("build: %w\n%s", err, out)
	}
	list := filepath.Join(dir, "list.txt")
	if err := os.WriteFile(list, []byte("192.0.2.0/24\n"), 0o600); err != nil {
		return s, err
	}
	for _, job := range []string{"ai_service", "escalation_engine", "prompt_router", "cloud_proxy", "proxy", "quickthorn", "admin", "tarpit"} {
		if s.listen[job], err = freeAddress(); err != nil {
			return s, err
		}
	}
	// The mail server and PostgreSQL are away: what shows that is there before anything fails.
	for _, start := range []struct {
		job  string
		args []string
		env  []string
	}{
		{"cloud_proxy", []string{"cloud-proxy", "--set", "cloudProxy.listen=" + s.listen["cloud_proxy"], "--set", "cloudProxy.provider.kind=compatible", "--set", "cloudProxy.provider.url=" + s.model.URL},
			[]string{"QUICKTHORN_AUTH_PROMPT_ROUTER_KEY=" + routerKey}},
		{"prompt_router", []string{"prompt-router", "--set", "promptRouter.listen=" + s.listen["prompt_router"], "--set", "cloudProxy.url=http://" + s.listen["cloud_proxy"]},
			[]string{"QUICKTHORN_AUTH_PROMPT_ROUTER_KEY=" + routerKey, "QUICKTHORN_AUTH_ESCALATION_ENGINE_KEY=" + engineKey}},
		{"escalation_engine", []string{"escalation-engine", "--set", "escalationEngine.listen=" + s.listen["escalation_engine"], "--set", "reputation.lists=" + list,
			"--set", "escalation.stages=behaviour,model,reputation,opinion", "--set", "escalation.opinion.model=m", "--set", "escalation.opinion.url=" + s.model.URL},
			[]string{"QUICKTHORN_AUTH_AI_SERVICE_KEY=" + intakeKey}},
		{"ai_service", []string{"ai-service", "--set", "aiService.listen=" + s.listen["ai_service"], "--set", "escalationEngine.url=http://" + s.listen["escalation_engine"],
			"--set", "upstream.url=" + s.site.URL, "--set", "alerts.email.server=127.0.0.1:1", "--set", "alerts.email.from=quickthorn@example.org", "--set", "alerts.email.to=owner@example.org"},
			[]string{"QUICKTHORN_AUTH_PROXY_KEY=" + proxyKey, "QUICKTHORN_AUTH_AI_SERVICE_KEY=" + intakeKey}},
		{"proxy", []string{"proxy", "--upstream", s.site.URL, "--set", "edge.listen=" + s.listen["proxy"], "--set", "aiService.url=http://" + s.listen["ai_service"],
			"--set", "edge.trustedProxies=127.0.0.1/32", "--set", "policy.mode=enforce", "--set", "tarpit.url=http://" + s.listen["tarpit"]},
			[]string{"QUICKTHORN_AUTH_PROXY_KEY=" + proxyKey, "QUICKTHORN_TARPIT_SEED=" + seed}},
		{"quickthorn", []string{"run", "--upstream", s.site.URL, "--listen", s.listen["quickthorn"], "--set", "policy.mode=observe"}, nil},
		{"sync", []string{"sync", "--set", "archive.store=postgres", "--set", "archive.postgres.url=postgres://nobody@127.0.0.1:1/none"}, nil},
		{"tarpit", []string{"tarpit", "--set", "tarpit.listen=" + s.listen["tarpit"], "--set", "aiService.url=http://" + s.listen["ai_service"]},
			[]string{"QUICKTHORN_AUTH_PROXY_KEY=" + proxyKey, "QUICKTHORN_TARPIT_SEED=" + seed}},
		{"admin", []string{"admin", "--set", "admin.listen=" + s.listen["admin"]}, nil},
	} {
		if err := s.start(start.job, start.args, start.env); err != nil {
			return s, fmt.Errorf("%s: %w", start.job, err)
		}
	}
	return s, nil
}

// start starts one service and waits until its metrics can be read.
func (s *services) start(job string, args, env []string) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	v := &service{job: job, private: address, log: filepath.Join(s.dir, job+".log"), done: make(chan struct{})}
	log, err := os.Create(v.log)
	if err != nil {
		return err
	}
	defer log.Close()
	v.cmd = exec.Command(s.program, append(args, "--data", filepath.Join(s.dir, job+"-data"), "--set", "private.listen="+address)...)
	v.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir, "GOMEMLIMIT=512MiB", "QUICKTHORN_PRIVATE_KEY=" + operatorKey}, env...)
	v.cmd.Stdout, v.cmd.Stderr = log, log
	if err := v.cmd.Start(); err != nil {
		return err
	}
	s.all = append(s.all, v)
	go func() {
		defer close(v.done)
		v.cmd.Wait()
	}()
	return eventually(func() error {
		select {
		case <-v.done:
			text, _ := os.ReadFile(v.log)
			return fatal{fmt.Errorf("it has ended:\n%s", text)}
		default:
		}
		_, err := v.metrics()
		return err
	})
}

// stop ends everything and removes what it wrote.
func (s *services) stop() {
	for _, v := range slices.Backward(s.all) {
		v.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-v.done:
		case <-time.After(patience):
			v.cmd.Process.Kill()
			<-v.done
		}
	}
	s.site.Close()
	s.model.Close()
	os.RemoveAll(s.dir)
}

// use sends what makes the metrics appear that show nothing before there is something to show.
func (s *services) use() error {
	edge, whole := "http://"+s.listen["proxy"]+"/", "http://"+s.listen["quickthorn"]+"/"
	browser := http.Header{
		"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0"}, "Accept": {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
		"Accept-Language": {"en"}, "Accept-Encoding": {"gzip"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Site": {"none"},
	}
	crawler := http.Header{"User-Agent": {"Mozilla/5.0 (compatible; Bytespider)"}}
	from := func(h http.Header, address string) http.Header {
		h = h.Clone()
		h.Set("X-Forwarded-For", address)
		return h
	}
	for _, action := range []string{"deny", "challenge"} {
		address := map[string]string{"deny": "203.0.113.7", "challenge": "203.0.113.8"}[action]
		decide := exec.Command(s.program, "decisions", "add", "--action", action, "--server", "http://"+s.listen["ai_service"], address)
		decide.Env = []string{"HOME=" + s.dir, "QUICKTHORN_PRIVATE_KEY=" + operatorKey}
		if out, err := decide.CombinedOutput(); err != nil {
			return fmt.Errorf("decisions add: %w\n%s", err, out)
		}
	}
	key := func(key string) http.Header {
		return http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"}}
	}
	for _, c := range []struct {
		what, url string
		header    http.Header
		body      string
		want      int
	}{
		{"a reader", edge, from(browser, "203.0.113.1"), "", http.StatusOK},
		{"a banned client", edge, from(browser, "203.0.113.7"), "", http.StatusForbidden},
		{"a reader without a limit", whole, browser, "", http.StatusOK},
		{"a crawler that is only observed", whole, crawler, "", http.StatusOK},
		{"a scraper's case", "http://" + s.listen["escalation_engine"] + "/v1/judge", key(intakeKey), scraperCase, http.StatusOK},
		{"a doubtful case", "http://" + s.listen["escalation_engine"] + "/v1/judge", key(intakeKey), doubtfulCase, http.StatusOK},
		{"a question to a model", "http://" + s.listen["prompt_router"] + "/v1/chat/completions", key(engineKey), `{"model":"gpt-5-mini","stream":true,"messages":[{"role":"user","content":"hi"}]}`, http.StatusOK},
	} {
		if err := eventually(func() error { return ask(c.url, c.header, c.body, c.want) }); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
	}
	return nil
}

const (
	scraperCase = `{"case":{"id":"01JNABCDEFGHJKMNPQRSTVWXYZ","revision":1,"kind":"client","key":"192.0.2.1","site":"default","firstSeen":"2026-03-01T12:00:00Z","lastSeen":"2026-03-01T12:10:00Z",
"eventCount":212,"members":{"count":1,"sample":["192.0.2.1"]},"family":"browser","posture":"calm","identity":{"status":"none"},"features":{"schema":1,"values":{"requests":212,"navigations":212,"rate":21,
"burst":5,"regularity":0.88,"breadth":1,"depth":3,"assets":0,"referred":0,"unlinked":0.6,"notFound":0.02,"errors":0.03,"agents":1,"shapes":1,"queried":0.8,"patternShare":0.9,"sequential":0.2,"score":5,
"languageless":0,"challenged":0,"traps":0,"disallowed":0.7}}}}`
	doubtfulCase = `{"case":{"id":"01JNABCDEFGHJKMNPQRSTVWXY0","revision":1,"kind":"client","key":"192.0.2.2","site":"default","firstSeen":"2026-03-01T12:00:00Z","lastSeen":"2026-03-01T12:10:00Z",
"eventCount":9,"members":{"count":1,"sample":["192.0.2.2"]},"family":"browser","posture":"calm","identity":{"status":"none"},"features":{"schema":1,"values":{"requests":9,"navigations":9}}}}`
)

// ask sends one request, with a body by POST, and returns an error unless the answer has the status wanted.
func ask(url string, header http.Header, body string, want int) error {
	method, content := http.MethodGet, io.Reader(nil)
	if body != "" {
		method, content = http.MethodPost, strings.NewReader(body)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return fatal{err}
	}
	q.Header = header
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, 1<<20))
	if err != nil {
		return err
	}
	if a.StatusCode != want {
		return fmt.Errorf("status %d, want %d: %s", a.StatusCode, want, text)
	}
	return nil
}

// metrics reads what the service shows.
func (v *service) metrics() ([]*dto.MetricFamily, error) {
	client := &http.Client{Timeout: 10 * time.Second}
	a, err := client.Get("http://" + v.private + "/metrics")
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		return nil, err
	}
	if a.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics: status %d: %s", a.StatusCode, text)
	}
	var all []*dto.MetricFamily
	for d := expfmt.NewDecoder(bytes.NewReader(text), expfmt.NewFormat(expfmt.TypeTextPlain)); ; {
		f := &dto.MetricFamily{}
		if err := d.Decode(f); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		all = append(all, f)
	}
}

// scrape reads all services as Prometheus would, with the labels that it adds.
func (s *services) scrape() ([]series, error) {
	var all []series
	for _, v := range s.all {
		families, err := v.metrics()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.job, err)
		}
		target := func(name string) *labels.Builder {
			return labels.NewBuilder(labels.EmptyLabels()).Set("__name__", name).Set("job", v.job).Set("instance", v.job+":8081")
		}
		all = append(all, series{labels: target("up").Labels(), kind: dto.MetricType_GAUGE, value: 1})
		for _, f := range families {
			samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{}, f)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", v.job, f.GetName(), err)
			}
			for _, sample := range samples {
				b := target(string(sample.Metric["__name__"]))
				for name, value := range sample.Metric {
					b.Set(string(name), string(value))
				}
				all = append(all, series{labels: b.Labels(), kind: f.GetType(), value: float64(sample.Value)})
			}
		}
	}
	return all, nil
}

// fatal is an error that waiting does not mend.
type fatal struct{ error }

// eventually repeats f until it succeeds, fails for good, or patience is over.
func eventually(f func() error) error {
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := f()
		var f fatal
		if err == nil || errors.As(err, &f) || time.Now().After(end) {
			return err
		}
	}
}

// freeAddress returns a loopback address on which nothing listens, and which no connection gets as its own end before it is listened on: its port lies
// below those that systems choose from.
func freeAddress() (string, error) {
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if l, err := net.Listen("tcp4", address); err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("there is no free port")
}
