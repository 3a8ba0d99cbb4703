package router_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/gateway"
	"github.com/quickthorn/quickthorn/internal/llm/llmtest"
	"github.com/quickthorn/quickthorn/internal/llm/router"
	llmserve "github.com/quickthorn/quickthorn/internal/llm/serve"
	"github.com/quickthorn/quickthorn/internal/llm/tokens"
)

const (
	engineKey = "engine-key-0123456789abcdef"
	routerKey = "router-key-0123456789abcdef"
)

// front is prompt-router in front of fakes.
type front struct {
	*httptest.Server
	router *router.Router
}

// load reads a configuration as the program does.
func load(t testing.TB, text string) *config.Config {
	t.Helper()
	c, err := config.Load(config.LoadOptions{Required: true, File: "quickthorn.yaml", ReadFile: func(name string) ([]byte, error) { return []byte(text), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serve(t testing.TB, c *config.Config, change func(*gateway.Options)) *front {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	prices, err := llmserve.Prices(&c.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	r, err := router.Configured(c, prices, nil, backend.NewMetrics(), log, &tokens.Counter{})
	if err != nil {
		t.Fatal(err)
	}
	o := gateway.Options{Chooser: r, Metrics: gateway.NewMetrics(), Log: log, Now: time.Now, Random: func() float64 { return 0 }}
	if change != nil {
		change(&o)
	}
	callers, err := auth.New(auth.Key{Caller: auth.EscalationEngine, Key: engineKey})
	if err != nil {
		t.Fatal(err)
	}
	f := &front{router: r}
	f.Server = httptest.NewServer(callers.Handler(auth.Group{API: gateway.New(o), Callers: []string{auth.EscalationEngine}}))
	t.Cleanup(func() {
		f.Close()
		r.Close()
	})
	return f
}

// ask makes a call and returns the answer with its body.
func (f *front) ask(t testing.TB, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	return llmtest.Post(t, f.Client(), f.URL+path, engineKey, body, headers...)
}

func call(model, text, more string) string {
	return fmt.Sprintf(`{"model":%q,%s"messages":[{"role":"user","content":%q}]}`, model, more, text)
}

// fakes are two local servers and a cloud-proxy, which speaks as OpenAI does.
func fakes(t testing.TB) (small, large, cloud *llmtest.Fake) {
	return llmtest.New(t, "ollama"), llmtest.New(t, "compatible"), llmtest.New(t, "compatible")
}

func routed(small, large, cloud *llmtest.Fake) string {
	return fmt.Sprintf(`
auth: {promptRouter: {key: %s}}
cloudProxy: {url: %q}
gateway:
  prices: [{model: cheap, input: 0.1, output: 0.2}, {model: dear, input: 10, output: 20}]
promptRouter:
  servers:
    - {name: small, kind: ollama, url: %q, models: [llama], context: 2000, can: [json]}
    - {name: large, kind: compatible, url: %q, models: ["qwen*"]}
  routes:
    - {name: engine-only, models: [secret], callers: [somebody-else], use: [large/qwen-1]}
    - {name: frugal, models: [frugal], prefer: cost, use: [cloud/dear, cloud/cheap]}
    - {name: local, models: [auto], maxTokens: 1000, use: [small/llama]}
    - {name: big, models: [auto, "gpt-*"], use: [cloud/gpt-5-mini, large/qwen-1]}
`, routerKey, cloud.URL, small.URL, large.Base())
}

func TestCallsGoWhereTheRoutesSay(t *testing.T) {
	t.Parallel()
	small, large, cloud := fakes(t)
	f := serve(t, load(t, routed(small, large, cloud)), nil)
	long := strings.Repeat("word ", 1400)
	image := `{"model":"auto","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}`
	tool := `"tools":[{"type":"function","function":{"name":"f"}}],`
	tests := []struct {
		name, body string
		headers    []string
		server     string
		model      string
		why        string
	}{
		{"a short prompt", call("auto", "hello", ""), nil, "small", "llama", "went to small: route local fits"},
		{"a long prompt", call("auto", long, ""), nil, "cloud", "gpt-5-mini", "went to cloud: 1,40"},
		{"a short prompt with tools", call("auto", "hello", tool), nil, "cloud", "gpt-5-mini", "went to cloud: small knows no tools"},
		{"an image", image, nil, "cloud", "gpt-5-mini", "went to cloud: 1,107 tokens > local limit 1,000"},
		{"a form in JSON", call("auto", "hello", `"response_format":{"type":"json_object"},`), nil, "small", "llama", ""},
		{"a long answer", call("auto", "hello", `"max_completion_tokens":3000,`), nil, "cloud", "gpt-5-mini", "small has a context of 2,000 tokens"},
		{"a long prompt that is to stay", call("auto", long, ""), []string{gateway.PrivacyHeader, gateway.LocalOnly}, "large", "qwen-1", "went to large: 1,40"},
		{"another name", call("gpt-4", "hello", ""), nil, "cloud", "gpt-5-mini", "went to cloud: route big fits"},
		{"the cheaper one", call("frugal", "hello", ""), nil, "cloud", "cheap", "went to cloud: it has the lowest cost"},
	}
	by := map[string]*llmtest.Fake{"small": small, "large": large, "cloud": cloud}
	for _, tt := range tests {
		before := len(by[tt.server].Calls())
		resp, body := f.ask(t, "/v1/chat/completions", tt.body, tt.headers...)
		calls := by[tt.server].Calls()
		why := resp.Header.Get("X-Quickthorn-Why")
		if resp.StatusCode != 200 || len(calls) != before+1 || calls[before].Body["model"] != tt.model || !strings.Contains(why, tt.why) {
			t.Errorf("%s: %d %s; asked %d times; %s", tt.name, resp.StatusCode, body, len(calls)-before, why)
		}
	}
	for _, c := range cloud.Calls() {
		if c.Key != routerKey {
			t.Errorf("cloud-proxy saw the key %q", c.Key)
		}
	}
	for _, c := range append(small.Calls(), large.Calls()...) {
		if c.Key != "" || strings.Contains(fmt.Sprint(c.Header), engineKey) {
			t.Errorf("a local server saw a key: %v", c.Header)
		}
	}
	for name, body := range map[string]string{"nobody's model": call("nothing", "x", ""), "another caller's": call("secret", "x", "")} {
		if resp, got := f.ask(t, "/v1/chat/completions", body); resp.StatusCode != 404 || !strings.Contains(got, "model_not_found") {
			t.Errorf("%s: %d %s", name, resp.StatusCode, got)
		}
	}
	resp, got := f.ask(t, "/v1/chat/completions", call("frugal", "x", ""), gateway.PrivacyHeader, gateway.LocalOnly)
	if resp.StatusCode != 400 || !strings.Contains(got, "cloud is not the owner's own, and the call is to stay local") {
		t.Errorf("nobody may answer: %d %s", resp.StatusCode, got)
	}
}

func TestAnotherServerAnswersWhereOneIsAway(t *testing.T) {
	t.Parallel()
	small, large, cloud := fakes(t)
	f := serve(t, load(t, routed(small, large, cloud)), nil)
	cloud.Close()
	for i := range 8 {
		resp, body := f.ask(t, "/v1/chat/completions", call("gpt-4", "hello", ""))
		if resp.StatusCode != 200 || resp.Header.Get("X-Quickthorn-Backend") != "large" {
			t.Fatalf("%d: %d %s", i, resp.StatusCode, body)
		}
		if why := resp.Header.Get("X-Quickthorn-Why"); i == 7 && !strings.Contains(why, "cloud is away") {
			t.Error(why)
		}
	}
}

func TestCallsAreSharedOutByHowBusyServersAre(t *testing.T) {
	t.Parallel()
	a, b := llmtest.New(t, "compatible"), llmtest.New(t, "compatible")
	f := serve(t, load(t, fmt.Sprintf(`
promptRouter:
  servers: [{name: a, kind: compatible, url: %q}, {name: b, kind: compatible, url: %q}]
  routes: [{name: both, use: ["a|b"]}]
`, a.Base(), b.Base())), nil)
	a.Fail(llmtest.Fault{Wait: time.Hour})
	go func() { // it ends with the servers
		q, err := http.NewRequest(http.MethodPost, f.URL+"/v1/chat/completions", strings.NewReader(call("m", "x", "")))
		if err != nil {
			return
		}
		q.Header.Set("Content-Type", "application/json")
		q.Header.Set("Authorization", "Bearer "+engineKey)
		if resp, err := f.Client().Do(q); err == nil {
			resp.Body.Close()
		}
	}()
	llmtest.Eventually(t, "the first server is asked", func() bool { return len(a.Calls()) > 0 })
	for range 5 {
		if resp, body := f.ask(t, "/v1/chat/completions", call("m", "x", "")); resp.Header.Get("X-Quickthorn-Backend") != "b" {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
	f.CloseClientConnections()
}

func TestWithoutRoutesTheOwnServersAnswer(t *testing.T) {
	t.Parallel()
	local, cloud := llmtest.New(t, "compatible"), llmtest.New(t, "compatible")
	head := fmt.Sprintf("auth: {promptRouter: {key: %s}}\ncloudProxy: {url: %q}\n", routerKey, cloud.URL)
	long := call("m", strings.Repeat("word ", 100), "")
	for _, tt := range []struct{ config, body, want string }{
		{"promptRouter: {localUrl: " + local.Base() + "}", long, "local"},
		{"promptRouter: {localUrl: " + local.Base() + ", localTokens: 50}", long, "cloud"},
		{"promptRouter: {localUrl: " + local.Base() + ", localTokens: 50}", call("m", "short", ""), "local"},
		{"", long, "cloud"},
	} {
		f := serve(t, load(t, head+tt.config), nil)
		resp, body := f.ask(t, "/v1/chat/completions", tt.body)
		if got := resp.Header.Get("X-Quickthorn-Backend"); got != tt.want {
			t.Errorf("%q: %d %s went to %q (%s), want %q", tt.config, resp.StatusCode, body, got, resp.Header.Get("X-Quickthorn-Why"), tt.want)
		}
	}
}

func TestAToolOfAnMCPServerIsAServerToo(t *testing.T) {
	t.Parallel()
	s := mcp.NewServer(&mcp.Implementation{Name: "classifier", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "classify"}, func(_ context.Context, _ *mcp.CallToolRequest, in struct {
		Text string `json:"text"`
	}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "about " + in.Text}}}, nil, nil
	})
	server := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil))
	defer server.Close()
	f := serve(t, load(t, fmt.Sprintf("promptRouter: {tools: [{name: classifier, url: %q, local: true}], routes: [{name: classes, models: [classes], use: [\"mcp://classifier/classify\"]}]}", server.URL)), nil)
	resp, body := f.ask(t, "/v1/chat/completions", call("classes", "hedges", ""), gateway.PrivacyHeader, gateway.LocalOnly)
	if resp.StatusCode != 200 || !strings.Contains(body, `"content":"about hedges"`) || resp.Header.Get("X-Quickthorn-Backend") != "mcp://classifier" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestEmbeddingsGoToWhoMakesThem(t *testing.T) {
	t.Parallel()
	small, large, cloud := fakes(t)
	f := serve(t, load(t, routed(small, large, cloud)), nil)
	resp, body := f.ask(t, "/v1/embeddings", `{"model":"auto","input":["a","b"]}`)
	if resp.StatusCode != 200 || resp.Header.Get("X-Quickthorn-Backend") != "small" || strings.Count(body, `"embedding"`) < 2 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestTheSameCallIsAskedOnce(t *testing.T) {
	t.Parallel()
	local := llmtest.New(t, "compatible")
	c := load(t, "promptRouter: {localUrl: "+local.Base()+", cache: true}")
	now := time.Unix(1_790_000_000, 0)
	f := serve(t, c, func(o *gateway.Options) {
		o.Cache = gateway.NewCache(10_000, time.Minute, func() time.Time { return now })
	})
	local.Answers(func(llmtest.Call) string { return fmt.Sprint("answer ", len(local.Calls())) })
	ask := func(body string) string {
		t.Helper()
		resp, got := f.ask(t, "/v1/chat/completions", body)
		if resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, got)
		}
		return got
	}
	first := ask(call("m", "question", ""))
	if again := ask(call("m", "question", "")); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	if other := ask(call("m", "another question", "")); other == first {
		t.Error("another question has the same answer")
	}
	if n := len(local.Calls()); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
	now = now.Add(2 * time.Minute)
	ask(call("m", "question", ""))
	if n := len(local.Calls()); n != 3 {
		t.Errorf("an old answer is given again: asked %d times", n)
	}
	for i := range 50 { // more than there is room for
		ask(call("m", fmt.Sprint("question ", i), ""))
	}
	before := len(local.Calls())
	ask(call("m", "question", ""))
	if len(local.Calls()) == before {
		t.Error("nothing was given up")
	}
}

func TestCallsAtOnceThatAreTheSameAreAskedOnce(t *testing.T) {
	t.Parallel()
	local := llmtest.New(t, "compatible")
	local.Fail(llmtest.Fault{Wait: 100 * time.Millisecond})
	f := serve(t, load(t, "promptRouter: {localUrl: "+local.Base()+", cache: true}"), func(o *gateway.Options) { o.Cache = gateway.NewCache(1<<20, time.Minute, time.Now) })
	done := make(chan string)
	for range 8 {
		go func() {
			resp, body := f.ask(t, "/v1/chat/completions", call("m", "question", ""))
			done <- fmt.Sprint(resp.StatusCode, body)
		}()
	}
	first := <-done
	for range 7 {
		if got := <-done; got != first {
			t.Errorf("%s, and %s", first, got)
		}
	}
	if n := len(local.Calls()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestTheConfigurationIsHeldToWhatItNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"promptRouter: {routes: [{name: a, use: [nowhere]}]}":                             `there is no server "nowhere"`,
		"promptRouter: {routes: [{name: a, use: [local]}]}":                               `there is no server "local"`,
		"promptRouter: {routes: [{name: a, use: ['mcp://x/y']}]}":                         `there is no server "x" in promptRouter.tools`,
		"promptRouter: {routes: [{name: a}]}":                                             "is missing: name a server, or cloud",
		"promptRouter: {routes: [{name: a, use: [cloud], prefer: luck}]}":                 "use order, cost or latency",
		"promptRouter: {servers: [{name: cloud, kind: ollama, url: 'http://x'}]}":         "is the name of cloud-proxy as well",
		"promptRouter: {servers: [{name: a, kind: telepathy, url: 'http://x'}]}":          "use ollama or compatible",
		"gateway: {keys: [{name: blog, hash: plain}]}":                                    "use what quickthorn llm key prints",
		"gateway: {keys: [{name: operator, tokensPerDay: 5}, {name: operator}]}":          "is the name of gateway.keys[0] as well",
		"cloudProxy: {providers: [{name: a, kind: anthropic}]}":                           "answers nobody without one",
		"cloudProxy: {providerKeys: [{provider: b, key: 'x'}]}":                           "is the name of no provider",
		"cloudProxy: {providers: [{name: a, kind: openai, key: k, models: ['gpt-*=x']}]}": "use a name, a pattern",
	} {
		_, err := config.Load(config.LoadOptions{Required: true, File: "quickthorn.yaml", ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
