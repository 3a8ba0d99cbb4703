package cloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/cloud"
	"github.com/quickthorn/quickthorn/internal/llm/gateway"
	"github.com/quickthorn/quickthorn/internal/llm/llmtest"
	"github.com/quickthorn/quickthorn/internal/testlog"
)

const (
	providerKey = "sk-provider-0123456789abcdef"
	secondKey   = "sk-second-0123456789abcdefgh"
	routerKey   = "router-key-0123456789abcdef"
)

// proxy is cloud-proxy in front of fakes.
type proxy struct {
	*httptest.Server
	log      testlog.Buffer
	registry *prometheus.Registry
}

// serve mounts the API as the service does, in front of these providers.
func serve(t testing.TB, change func(*gateway.Options), providers ...cloud.Provider) *proxy {
	t.Helper()
	p := &proxy{registry: prometheus.NewRegistry()}
	log := slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	m := backend.NewMetrics()
	list, err := cloud.New(cloud.Options{Providers: providers, Metrics: m, Log: log, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	o := gateway.Options{Chooser: list, Metrics: gateway.NewMetrics(), Retries: 2, AccessLog: true, Log: log, Now: time.Now, Random: func() float64 { return 0.01 }}
	if change != nil {
		change(&o)
	}
	p.registry.MustRegister(m, o.Metrics)
	callers, err := auth.New(auth.Key{Caller: auth.PromptRouter, Key: routerKey})
	if err != nil {
		t.Fatal(err)
	}
	p.Server = httptest.NewServer(callers.Handler(auth.Group{API: gateway.New(o), Callers: []string{auth.PromptRouter}}))
	t.Cleanup(func() {
		p.Close()
		list.Close()
	})
	return p
}

func of(f *llmtest.Fake, keys ...string) cloud.Provider {
	p := cloud.Provider{Name: f.Kind, Kind: f.Kind, URL: f.Base()}
	if keys == nil {
		keys = []string{providerKey}
	}
	for _, k := range keys {
		p.Keys = append(p.Keys, backend.Key{Secret: k})
	}
	return p
}

// client is OpenAI's own library; it does not try again by itself.
func (p *proxy) client() openai.Client {
	return openai.NewClient(option.WithBaseURL(p.URL+"/v1"), option.WithAPIKey(routerKey), option.WithMaxRetries(0))
}

func question(text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "model-1", Messages: []openai.ChatCompletionMessageParamUnion{
		openai.SystemMessage("You count."), openai.UserMessage(text),
	}}
}

// post sends a body, and returns the answer.
func (p *proxy) post(t testing.TB, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	return llmtest.Post(t, p.Client(), p.URL+path, routerKey, body, headers...)
}

const ask = `{"model":"model-1","messages":[{"role":"user","content":"a secret question"}]}`

// metrics is what a scrape shows.
func (p *proxy) metrics(t testing.TB) string {
	t.Helper()
	all, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range all {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

var kinds = []string{"openai", "anthropic", "gemini", "mistral", "cohere", "azure", "ollama", "compatible"}

func TestOpenAIsLibrarySpeaksToEachProvider(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := llmtest.New(t, kind)
			f.Answers(func(llmtest.Call) string { return "It is a hedge." })
			p := serve(t, nil, of(f))
			c := p.client()
			r, err := c.Chat.Completions.New(t.Context(), question("What is this?"))
			if err != nil {
				t.Fatal(err)
			}
			if r.Choices[0].Message.Content != "It is a hedge." || r.Choices[0].FinishReason != "stop" || r.Usage.PromptTokens != llmtest.PromptTokens || r.Usage.CompletionTokens != llmtest.CompletionTokens {
				t.Errorf("whole: %s", r.RawJSON())
			}
			q := question("What is this?")
			q.MaxCompletionTokens = openai.Int(100)
			q.Seed = openai.Int(7)
			q.StreamOptions.IncludeUsage = openai.Bool(true)
			all := streamed(t, c, q)
			if all.Choices[0].Message.Content != "It is a hedge." || all.Choices[0].FinishReason != "stop" || all.Usage.CompletionTokens != llmtest.CompletionTokens {
				t.Errorf("stream: %q %s %+v", all.Choices[0].Message.Content, all.Choices[0].FinishReason, all.Usage)
			}
			for _, call := range f.Calls() {
				if call.Key != providerKey || strings.Contains(fmt.Sprint(call.Header), routerKey) {
					t.Errorf("the provider saw %v", call.Header)
				}
			}
		})
	}
}

// streamed is an answer of which the pieces are put together by OpenAI's library.
func streamed(t *testing.T, c openai.Client, q openai.ChatCompletionNewParams) (all openai.ChatCompletionAccumulator) {
	t.Helper()
	s := c.Chat.Completions.NewStreaming(t.Context(), q)
	for s.Next() {
		if !all.AddChunk(s.Current()) {
			t.Errorf("a piece does not fit: %s", s.Current().RawJSON())
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestToolsAreCalledAndAnsweredAtEachProvider(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := llmtest.New(t, kind)
			p := serve(t, nil, of(f))
			c := p.client()
			q := question("How is the weather in Rouen?")
			q.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
				Name: "weather", Description: openai.String("The weather of a place."),
				Parameters: shared.FunctionParameters{"type": "object", "properties": map[string]any{"place": map[string]any{"type": "string"}}},
			})}
			r, err := c.Chat.Completions.New(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			m := r.Choices[0].Message
			if r.Choices[0].FinishReason != "tool_calls" || len(m.ToolCalls) != 1 || m.ToolCalls[0].Function.Name != "weather" || m.ToolCalls[0].Function.Arguments != `{"place":"Rouen"}` {
				t.Fatalf("whole: %s", r.RawJSON())
			}
			all := streamed(t, c, q)
			if calls := all.Choices[0].Message.ToolCalls; len(calls) != 1 || calls[0].Function.Name != "weather" || calls[0].Function.Arguments != `{"place":"Rouen"}` {
				t.Errorf("stream: %+v", all.Choices[0].Message)
			}
			q.Messages = append(q.Messages, m.ToParam(), openai.ToolMessage("rain", m.ToolCalls[0].ID))
			f.Answers(func(llmtest.Call) string { return "It rains." })
			if r, err = c.Chat.Completions.New(t.Context(), q); err != nil || r.Choices[0].Message.Content != "It rains." {
				t.Errorf("with the tool's answer: %v, %v", r, err)
			}
		})
	}
}

func TestResponsesAreMadeOfEachProvidersAnswers(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := llmtest.New(t, kind)
			f.Answers(func(llmtest.Call) string { return "It is a hedge." })
			p := serve(t, nil, of(f))
			c := p.client()
			q := responses.ResponseNewParams{
				Model: "model-1", Instructions: openai.String("You judge."), MaxOutputTokens: openai.Int(50),
				Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("What is this?")},
			}
			r, err := c.Responses.New(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if r.OutputText() != "It is a hedge." || r.Status != "completed" || r.Usage.InputTokens != llmtest.PromptTokens || r.Usage.OutputTokens != llmtest.CompletionTokens {
				t.Errorf("whole: %s", r.RawJSON())
			}
			s := c.Responses.NewStreaming(t.Context(), q)
			text, last, number := "", "", int64(-1)
			for s.Next() {
				e := s.Current()
				if e.SequenceNumber != number+1 {
					t.Errorf("event %s has number %d after %d", e.Type, e.SequenceNumber, number)
				}
				number, last = e.SequenceNumber, e.Type
				if e.Type == "response.output_text.delta" {
					text += e.Delta
				}
				if e.Type == "response.completed" && e.Response.OutputText() != "It is a hedge." {
					t.Errorf("at the end: %q", e.Response.OutputText())
				}
			}
			if s.Err() != nil || text != "It is a hedge." || last != "response.completed" {
				t.Errorf("stream: %q, the last event %s, %v", text, last, s.Err())
			}
			q.Tools = []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{Name: "weather", Parameters: map[string]any{"type": "object"}, Strict: openai.Bool(false)}}}
			r, err = c.Responses.New(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			call := r.Output[0].AsFunctionCall()
			if call.Name != "weather" || call.Arguments != `{"place":"Rouen"}` || call.CallID == "" {
				t.Fatalf("tool: %s", r.RawJSON())
			}
			s = c.Responses.NewStreaming(t.Context(), q)
			arguments := ""
			for s.Next() {
				if e := s.Current(); e.Type == "response.function_call_arguments.delta" {
					arguments += e.Delta
				}
			}
			if s.Err() != nil || arguments != `{"place":"Rouen"}` {
				t.Errorf("tool in a stream: %q, %v", arguments, s.Err())
			}
			q.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: []responses.ResponseInputItemUnionParam{
				responses.ResponseInputItemParamOfMessage("How is the weather?", responses.EasyInputMessageRoleUser),
				responses.ResponseInputItemParamOfFunctionCall(call.Arguments, call.CallID, call.Name),
				toolSays(call.CallID, "rain"),
			}}
			if r, err = c.Responses.New(t.Context(), q); err != nil || r.OutputText() != "It is a hedge." {
				t.Errorf("with the tool's answer: %v, %v", r, err)
			}
		})
	}
}

func toolSays(id, output string) responses.ResponseInputItemUnionParam {
	it := responses.ResponseInputItemParamOfFunctionCallOutput(output)
	it.OfFunctionCallOutput.CallID = openai.String(id)
	return it
}

func TestEmbeddingsAreMadeWhereTheProviderMakesThem(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"openai", "gemini", "mistral", "cohere", "azure", "ollama", "compatible"} {
		f := llmtest.New(t, kind)
		p := serve(t, nil, of(f))
		c := p.client()
		r, err := c.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: "embed-1", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "two"}}})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Data) != 2 || r.Data[1].Index != 1 || !slices.Equal(r.Data[1].Embedding, []float64{1, 0.5, -0.25}) || r.Usage.PromptTokens == 0 {
			t.Errorf("%s: %s", kind, r.RawJSON())
		}
	}
	p := serve(t, nil, of(llmtest.New(t, "anthropic")))
	resp, body := p.post(t, "/v1/embeddings", `{"model":"m","input":"x"}`)
	if resp.StatusCode != 404 || !strings.Contains(body, "model_not_found") {
		t.Errorf("a provider that makes none: %d %s", resp.StatusCode, body)
	}
}

func TestModelsGoToWhoHasThem(t *testing.T) {
	t.Parallel()
	a, b := llmtest.New(t, "openai"), llmtest.New(t, "anthropic")
	first, second := of(a), of(b)
	first.Models, second.Models = []string{"gpt-*", "fast=gpt-9-nano"}, []string{"claude-1", "gpt-8"}
	p := serve(t, nil, first, second)
	for _, tt := range []struct {
		model string
		want  *llmtest.Fake
		name  string
	}{{"gpt-7", a, "gpt-7"}, {"fast", a, "gpt-9-nano"}, {"claude-1", b, "claude-1"}, {"anthropic/gpt-8", b, "gpt-8"}} {
		before := len(tt.want.Calls())
		resp, body := p.post(t, "/v1/chat/completions", strings.Replace(ask, "model-1", tt.model, 1))
		calls := tt.want.Calls()
		if resp.StatusCode != 200 || len(calls) != before+1 || calls[before].Body["model"] != tt.name || resp.Header.Get("X-Quickthorn-Backend") != tt.want.Kind {
			t.Errorf("%s: %d %s, %d calls", tt.model, resp.StatusCode, body, len(calls)-before)
		}
	}
	if resp, body := p.post(t, "/v1/chat/completions", ask); resp.StatusCode != 404 || !strings.Contains(body, `"code":"model_not_found"`) {
		t.Errorf("a model that nobody has: %d %s", resp.StatusCode, body)
	}
	c := p.client()
	list, err := c.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list.Data {
		names = append(names, m.ID)
	}
	if want := []string{"fast", "claude-1", "gpt-8"}; !slices.Equal(names, want) {
		t.Errorf("models %q, want %q", names, want)
	}
	if m, err := c.Models.Get(t.Context(), "fast"); err != nil || m.OwnedBy != "openai" {
		t.Errorf("%v, %v", m, err)
	}
}

// TestFaults has each provider fail in each way, whole and streamed.
func TestFaultsOfAProviderAreMendedOrTold(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		fault  llmtest.Fault
		times  int
		whole  int // status; 0: not tried
		stream int
		calls  int // of the provider
		words  string
	}{
		{"busy once, and says when to come again", llmtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "0.05"}}, 1, 200, 200, 2, ""},
		{"busy once", llmtest.Fault{Status: 429}, 1, 200, 200, 2, ""},
		{"busy for long", llmtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "60"}}, 1, 429, 429, 1, "a fault of status 429"},
		{"busy for ever", llmtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "0.01"}}, 9, 429, 429, 3, "a fault of status 429"},
		{"fails once", llmtest.Fault{Status: 500}, 1, 200, 200, 2, ""},
		{"fails for ever", llmtest.Fault{Status: 500}, 9, 500, 500, 3, "a fault of status 500"},
		{"refuses the call", llmtest.Fault{Status: 400}, 1, 400, 400, 1, "a fault of status 400"},
		{"refuses the key", llmtest.Fault{Status: 401}, 1, 502, 502, 1, "refuses this service's key (it answers 401)"},
		{"answers with what is no JSON", llmtest.Fault{Raw: "<html>"}, 1, 200, 0, 2, ""},
		{"answers in another type", llmtest.Fault{Media: "text/html"}, 9, 502, 502, 3, "answers with no"},
		{"answers hugely", llmtest.Fault{Huge: 17 << 20}, 9, 502, 0, 3, "more than 16777216 bytes"},
		{"fails at the beginning of a stream", llmtest.Fault{Status: 503, InStream: true}, 1, 0, 200, 2, ""},
		{"cuts a stream before it says anything", llmtest.Fault{Cut: 1}, 1, 0, 200, 2, ""},
		{"sends nonsense in a stream", llmtest.Fault{Raw: "data: {nonsense\n\n"}, 1, 0, 200, 2, ""},
		{"redirects", llmtest.Fault{Status: 302, Header: map[string]string{"Location": "http://127.0.0.1:1/"}}, 9, 502, 502, 3, "redirects (it answers 302), which is not followed"},
	}
	for _, kind := range kinds {
		for _, tt := range tests {
			for _, stream := range []bool{false, true} {
				want, body := tt.whole, ask
				if stream {
					want, body = tt.stream, strings.Replace(ask, "{", `{"stream":true,`, 1)
				}
				if want == 0 || (kind == "gemini" || kind == "ollama") && stream && (tt.fault.Cut > 0 || tt.fault.Raw != "") {
					continue // its first event says something already
				}
				t.Run(fmt.Sprintf("%s %s stream=%v", kind, tt.name, stream), func(t *testing.T) {
					t.Parallel()
					f := llmtest.New(t, kind)
					f.Answers(func(llmtest.Call) string { return "It is a hedge." })
					f.Fail(slices.Repeat([]llmtest.Fault{tt.fault}, tt.times)...)
					p := serve(t, nil, of(f))
					resp, got := p.post(t, "/v1/chat/completions", body)
					if resp.StatusCode != want || len(f.Calls()) != tt.calls || !strings.Contains(got, tt.words) {
						t.Errorf("%d %.300s after %d calls, want %d after %d", resp.StatusCode, got, len(f.Calls()), want, tt.calls)
					}
					if want == 200 && (!strings.Contains(got, "hedge") || stream && !strings.HasSuffix(got, "data: [DONE]\n\n")) {
						t.Errorf("the answer is not whole: %s", got)
					}
					if want == 429 && resp.Header.Get("Retry-After") == "" {
						t.Error("nobody says when to come again")
					}
					if want != 200 {
						var e struct {
							Error struct{ Message, Type string }
						}
						if json.Unmarshal([]byte(got), &e) != nil || e.Error.Message == "" || e.Error.Type == "" {
							t.Errorf("no error as OpenAI has it: %s", got)
						}
					}
					for what, text := range map[string]string{"answer": got, "log": p.log.String(), "metrics": p.metrics(t)} {
						if strings.Contains(text, providerKey) || strings.Contains(text, routerKey) {
							t.Errorf("the %s has a key: %s", what, text)
						}
						if what != "answer" && strings.Contains(text, "secret question") {
							t.Errorf("the %s has the prompt: %s", what, text)
						}
					}
				})
			}
		}
	}
}

func TestAStreamThatBreaksOffLaterIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		f := llmtest.New(t, kind)
		f.Answers(func(llmtest.Call) string { return strings.Repeat("word ", 30) })
		f.Fail(llmtest.Fault{Cut: 10})
		p := serve(t, nil, of(f))
		c := p.client()
		s := c.Chat.Completions.NewStreaming(t.Context(), question("Tell me."))
		n := 0
		for s.Next() {
			n++
		}
		if n == 0 || s.Err() == nil || len(f.Calls()) != 1 {
			t.Errorf("%s: %d pieces, %v, %d calls", kind, n, s.Err(), len(f.Calls()))
		}
		llmtest.Eventually(t, kind+" is logged", func() bool { return strings.Contains(p.log.String(), "status=502") })
	}
}

func TestAnotherKeyIsTakenWhereOneIsRefused(t *testing.T) {
	t.Parallel()
	for _, fault := range []llmtest.Fault{{Status: 401}, {Status: 402}, {Status: 429, Header: map[string]string{"Retry-After": "30"}}} {
		f := llmtest.New(t, "openai")
		f.Fail(fault)
		p := serve(t, nil, of(f, providerKey, secondKey))
		for range 5 {
			if resp, body := p.post(t, "/v1/chat/completions", ask); resp.StatusCode != 200 {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
		}
		calls := f.Calls()
		first := calls[0].Key
		for _, c := range calls[1:] {
			if c.Key == first {
				t.Errorf("after a %d its key is taken again: %d calls", fault.Status, len(calls))
			}
		}
	}
}

func TestAnotherProviderIsAskedWhereOneFails(t *testing.T) {
	t.Parallel()
	a, b := llmtest.New(t, "openai"), llmtest.New(t, "mistral")
	a.Fail(slices.Repeat([]llmtest.Fault{{Status: 500}}, 20)...)
	p := serve(t, nil, of(a), of(b))
	for range 8 {
		if resp, body := p.post(t, "/v1/chat/completions", ask); resp.StatusCode != 200 || resp.Header.Get("X-Quickthorn-Backend") != "mistral" {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
	if n := len(a.Calls()); n != 5 { // then its circuit is broken
		t.Errorf("who fails was asked %d times", n)
	}
	if m := p.metrics(t); !strings.Contains(m, `quickthorn_llm_backend_ready{backend="openai"} 0`) || !strings.Contains(m, `quickthorn_llm_backend_ready{backend="mistral"} 1`) {
		t.Error(m)
	}
}

func TestWhoHangsUpEndsTheCallAtTheProvider(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		f := llmtest.New(t, "openai")
		p := serve(t, nil, of(f))
		c := p.client()
		ctx, cancel := context.WithCancel(t.Context())
		if stream {
			hold := make(chan struct{}, 1)
			hold <- struct{}{} // for the first piece that says something
			f.Fail(llmtest.Fault{HoldEvents: hold})
			s := c.Chat.Completions.NewStreaming(ctx, question("Wait."))
			if !s.Next() {
				t.Fatal(s.Err())
			}
			cancel()
			for s.Next() {
			}
		} else {
			f.Fail(llmtest.Fault{Wait: time.Minute})
			done := make(chan error, 1)
			go func() {
				_, err := c.Chat.Completions.New(ctx, question("Wait."))
				done <- err
			}()
			llmtest.Eventually(t, "the provider is asked", func() bool { return len(f.Calls()) > 0 })
			cancel()
			<-done
		}
		cancel()
		llmtest.Eventually(t, "the call ends", func() bool {
			return strings.Contains(p.metrics(t), `quickthorn_llm_backend_in_flight{backend="openai"} 0`) && strings.Contains(p.log.String(), "status=499")
		})
	}
}

func TestTheCallersTimeIsTheProvidersTime(t *testing.T) {
	t.Parallel()
	f := llmtest.New(t, "openai")
	f.Fail(llmtest.Fault{Wait: time.Minute})
	p := serve(t, nil, of(f))
	resp, body := p.post(t, "/v1/chat/completions", ask, backend.DeadlineHeader, "100")
	if resp.StatusCode != 504 || !strings.Contains(body, "time is over") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if got := f.Calls()[0].Header.Get(backend.DeadlineHeader); got == "" {
		t.Error("the server is not told how long it is waited for")
	}
}

func TestWhatIsWrongWithACallIsSaidAsOpenAIDoes(t *testing.T) {
	t.Parallel()
	f := llmtest.New(t, "anthropic")
	p := serve(t, func(o *gateway.Options) { o.RefuseUnknown, o.MaxRequest = true, 4096 }, of(f))
	tests := []struct {
		body, contentType string
		status            int
		words             string
	}{
		{`{"model":"m"}`, "application/json", 400, `"message":"messages: want one at least"`},
		{`{"model":`, "application/json", 400, "invalid_request_error"},
		{`[]`, "application/json", 400, "invalid_request_error"},
		{ask, "text/plain", 415, "application/json"},
		{strings.Repeat(" ", 5000) + ask, "application/json", 413, "more than 4096"},
		{strings.Replace(ask, "{", `{"frobnicate":1,`, 1), "application/json", 400, "frobnicate: this field is not known here"},
		{strings.Replace(ask, "{", `{"n":3,`, 1), "application/json", 400, "n: this provider cannot do that"},
		{strings.Replace(ask, "{", `{"temperature":1.5,`, 1), "application/json", 400, "this provider takes 0 to 1"},
	}
	for _, tt := range tests {
		resp, body := p.post(t, "/v1/chat/completions", tt.body, "Content-Type", tt.contentType)
		if resp.StatusCode != tt.status || !strings.Contains(body, tt.words) || !strings.Contains(body, `{"error":{`) {
			t.Errorf("%.80s: %d %s, want %d %q", tt.body, resp.StatusCode, body, tt.status, tt.words)
		}
	}
	if n := len(f.Calls()); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
	if resp, body := p.post(t, "/v1/responses", `{"model":"m","input":"x","previous_response_id":"resp_1"}`); resp.StatusCode != 400 || !strings.Contains(body, "nothing of earlier calls is kept") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestUnknownFieldsGoOnToWhoMayKnowThem(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		f := llmtest.New(t, kind)
		p := serve(t, nil, of(f))
		if resp, body := p.post(t, "/v1/chat/completions", strings.Replace(ask, "{", `{"top_k":40,`, 1)); resp.StatusCode != 200 {
			t.Fatalf("%s: %d %s", kind, resp.StatusCode, body)
		}
		if got := f.Calls()[0].Body["top_k"]; got != 40.0 {
			t.Errorf("%s: top_k %v", kind, got)
		}
	}
	f := llmtest.New(t, "compatible")
	p := serve(t, nil, of(f))
	if _, body := p.post(t, "/v1/chat/completions", ask); !strings.Contains(body, `"system_fingerprint":"fp_1"`) {
		t.Errorf("what the provider says beside is lost: %s", body)
	}
}

func TestACallThatIsToStayLocalDoesNotLeave(t *testing.T) {
	t.Parallel()
	f := llmtest.New(t, "openai")
	p := serve(t, nil, of(f))
	if resp, body := p.post(t, "/v1/chat/completions", ask, gateway.PrivacyHeader, gateway.LocalOnly); resp.StatusCode != 403 || len(f.Calls()) != 0 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestWithoutAProviderNothingIsAsked(t *testing.T) {
	t.Parallel()
	p := serve(t, nil)
	resp, body := p.post(t, "/v1/chat/completions", ask)
	if resp.StatusCode != 503 || !strings.Contains(body, "no provider key: set QUICKTHORN_CLOUD_PROXY_PROVIDER_KEY or QUICKTHORN_CLOUD_PROXY_PROVIDER_KEY_FILE") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	for _, key := range []string{"", providerKey} {
		if resp, _ := p.post(t, "/v1/chat/completions", ask, "Authorization", "Bearer "+key); resp.StatusCode != 401 {
			t.Errorf("a stranger: %d", resp.StatusCode)
		}
	}
}

func TestTheKeyGoesOverTLSOrStaysOnTheMachine(t *testing.T) {
	t.Parallel()
	tests := []struct{ url, want string }{
		{"https://api.openai.com/v1", ""},
		{"https://10.0.0.7:8443/v1", ""},
		{"http://127.0.0.1:11434/v1", ""},
		{"http://127.9.9.9/v1", ""},
		{"http://[::1]:8000/v1", ""},
		{"http://localhost:8000/v1", ""},
		{"http://api.openai.com/v1", "use https"},
		{"http://10.0.0.7/v1", "use https"},
		{"http://127.0.0.1.example.com/v1", "use https"},
		{"http://localhost.example.com/v1", "use https"},
		{"http://127.0.0.1@api.example.com/v1", "use https"},
		{"HTTP://api.openai.com/v1", "use https"},
		{"api.openai.com/v1", "base"},
		{"https://api.example.com/v1?key=" + providerKey, "base"},
		{"https://" + providerKey + "\x7f", "url"},
	}
	for _, tt := range tests {
		_, err := cloud.New(cloud.Options{Providers: []cloud.Provider{{Name: "p", Kind: "openai", URL: tt.url, Keys: []backend.Key{{Secret: providerKey}}}}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v", tt.url, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q: %v, want %q", tt.url, err, tt.want)
		case err != nil && strings.Contains(err.Error(), providerKey):
			t.Errorf("%q: the error shows a key: %v", tt.url, err)
		}
	}
}
