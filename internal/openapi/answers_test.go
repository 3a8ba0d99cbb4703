package openapi_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/prose"
)

const (
	asJSON   = "application/json"
	asNDJSON = "application/x-ndjson"
	asText   = "text/plain"
	asBytes  = "application/octet-stream"
)

// exchange is a request and the status of its answer.
type exchange struct {
	op         string // "GET /v1/cases/{id}"
	in         string // instead of {id}; "corpus/default" instead of {kind}/{name}
	query      string
	key        string // "" is the operator's, none is none
	kind, body string
	cut        error // what reading the body ends with
	header     [2]string
	odd        bool // not as described, though it is answered
	want       int
}

const none = "none"

// checker holds exchanges to a document, and knows what it has seen.
type checker struct {
	document
	seen map[string]bool // "GET /v1/mode 200"
}

// newCheckers returns one for each document, by its name. They are stricter than the documents: what is not described may not be there.
func newCheckers(t *testing.T) map[string]*checker {
	t.Helper()
	all := map[string]*checker{}
	for _, d := range documents(t) {
		for _, s := range d.Components.Schemas {
			if s.Value.Properties != nil {
				s.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: new(false)}
			}
		}
		all[d.name] = &checker{d, map[string]bool{}}
	}
	return all
}

// ask sends a request and holds it and the answer to the document. A request that is refused need not be as described.
func (c *checker) ask(t *testing.T, w *world, x exchange) []byte {
	t.Helper()
	method, path, _ := strings.Cut(x.op, " ")
	target, params := path, map[string]string{}
	in := strings.Split(x.in, "/")
	for strings.Contains(target, "{") {
		before, rest, _ := strings.Cut(target, "{")
		name, after, _ := strings.Cut(rest, "}")
		value := in[min(len(params), len(in)-1)]
		target, params[name] = before+url.PathEscape(value)+after, value
	}
	if x.query != "" {
		target += "?" + x.query
	}
	newRequest := func() *http.Request {
		var body io.Reader = strings.NewReader(x.body)
		if x.cut != nil {
			body = iotest.ErrReader(x.cut)
		}
		r := httptest.NewRequest(method, target, body)
		if key := cmp.Or(x.key, operatorKey); key != none {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		if x.kind != "" {
			r.Header.Set("Content-Type", x.kind)
		}
		if x.header[0] != "" {
			r.Header.Set(x.header[0], x.header[1])
		}
		return r
	}
	rec := httptest.NewRecorder()
	w.handlers[c.name].ServeHTTP(rec, newRequest())
	what := fmt.Sprintf("%s %s %.200s: %d %.500s", method, target, x.body, rec.Code, rec.Body)
	if rec.Code != x.want {
		t.Errorf("want %d: %s", x.want, what)
		return nil
	}
	c.seen[fmt.Sprintf("%s %d", x.op, rec.Code)] = true

	o := c.operations[x.op]
	if o == nil {
		t.Fatalf("the document has no %s", x.op)
	}
	input := &openapi3filter.RequestValidationInput{
		Request: newRequest(), PathParams: params,
		Route:   &routers.Route{Spec: c.T, Path: path, PathItem: c.Paths.Value(path), Method: method, Operation: o},
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, ExcludeRequestBody: x.kind == asNDJSON},
	}
	if rec.Code < 400 && !x.odd {
		if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil {
			t.Errorf("the request is not as described: %s: %v", what, err)
		}
		for name := range input.GetQueryParams() {
			if o.Parameters.GetByInAndName(openapi3.ParameterInQuery, name) == nil {
				t.Errorf("parameter %s is not described: %s", name, what)
			}
		}
		if x.kind == asNDJSON {
			lines(t, o.RequestBody.Value.Content, x.kind, x.body)
		}
	}
	kind, _, err := mime.ParseMediaType(rec.Header().Get("Content-Type"))
	if err != nil {
		t.Errorf("%v: %s", err, what)
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: rec.Code, Header: rec.Header(),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: kind == asNDJSON || kind == "application/x-tar"},
	}
	if err := openapi3filter.ValidateResponse(t.Context(), out.SetBodyBytes(rec.Body.Bytes())); err != nil {
		t.Errorf("the answer is not as described: %s: %v", what, err)
		return nil
	}
	content := o.Responses.Status(rec.Code).Value.Content
	if content[kind] == nil {
		t.Errorf("media type %s is not described: %s", kind, what)
	}
	if kind == asNDJSON {
		lines(t, content, kind, rec.Body.String())
	}
	return rec.Body.Bytes()
}

// lines holds each line to the schema of the media type.
func lines(t *testing.T, content openapi3.Content, kind, body string) {
	t.Helper()
	for line := range strings.Lines(body) {
		var v any
		err := json.Unmarshal([]byte(line), &v)
		if err == nil {
			err = content[kind].Schema.Value.VisitJSON(v, openapi3.EnableFormatValidation())
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// marshal is a value in JSON, on one line.
func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// example is the one that the document gives for a request.
func (c *checker) example(t *testing.T, op, kind string) string {
	t.Helper()
	v := c.operations[op].RequestBody.Value.Content[kind].Example
	if s, ok := v.(string); ok {
		return s
	}
	return marshal(t, v)
}

func TestAnswersAreAsDescribed(t *testing.T) {
	t.Parallel()
	checkers := newCheckers(t)
	c, e := checkers["ai-service"], checkers["escalation-engine"]
	w := newWorld(t)
	counters := `{"id":"` + newID() + `","edge":"edge-1","counters":[{"hour":"2026-11-25T12:00:00Z","site":"wiki","action":"allow","intended":"deny","count":7}]}`
	webEvent := c.example(t, "POST /v1/webhook/{source}", asJSON)
	var ndjson strings.Builder
	for _, event := range events(t) {
		ndjson.WriteString(marshal(t, event) + "\n")
	}
	large := strings.Repeat("x", 8<<20+1)
	list := strings.Builder{}
	for i := range maxDecisions {
		fmt.Fprintf(&list, "198.51.100.%d\n", i)
	}
	judged := aCase(newID())

	corpus := aCorpus(t)
	for _, x := range []exchange{
		{op: "POST /v1/events", key: proxyKey, kind: asNDJSON, body: c.example(t, "POST /v1/events", asNDJSON), want: 202},
		{op: "POST /v1/events", kind: asNDJSON, body: ndjson.String(), want: 202},
		{op: "POST /v1/events", kind: asNDJSON, body: "nonsense", odd: true, want: 202},
		{op: "POST /v1/events", kind: asJSON, body: c.example(t, "POST /v1/events", asJSON), want: 202},
		{op: "POST /v1/events", kind: asNDJSON, body: "nonsense", header: [2]string{"Content-Encoding", "gzip"}, want: 400},
		{op: "POST /v1/events", kind: asNDJSON, cut: os.ErrDeadlineExceeded, want: 408},
		{op: "POST /v1/events", kind: asNDJSON, body: large, want: 413},
		{op: "POST /v1/events", kind: asText, want: 415},
		{op: "POST /v1/events", kind: asNDJSON, header: [2]string{"Content-Encoding", "rot13"}, want: 415},
		{op: "POST /v1/counters", key: proxyKey, kind: asJSON, body: counters, want: 202},
		{op: "POST /v1/counters", kind: asJSON, body: `{"id":"1"}`, want: 400},
		{op: "POST /v1/counters", kind: asJSON, cut: os.ErrDeadlineExceeded, want: 408},
		{op: "POST /v1/counters", kind: asText, want: 415},
		{op: "POST /v1/counters", kind: asJSON, body: `{"edge":"` + large + `"}`, want: 413},
		{op: "POST /v1/webhook/{source}", in: "shop", key: shopKey, kind: asJSON, body: webEvent, want: 202},
		{op: "POST /v1/webhook/{source}", in: "shop", key: shopKey, kind: asNDJSON, body: webEvent + "\n" + webEvent, header: [2]string{"Idempotency-Key", "batch-7"}, want: 202},
		{op: "POST /v1/webhook/{source}", in: "shop", key: shopKey, kind: asText, body: c.example(t, "POST /v1/webhook/{source}", asText), want: 202},
		{op: "POST /v1/webhook/{source}", in: "shop", kind: asJSON, body: webEvent, header: [2]string{"Content-Encoding", "zstd"}, want: 400},
		{op: "POST /v1/webhook/{source}", in: "shop", kind: asJSON, cut: os.ErrDeadlineExceeded, want: 408},
		{op: "POST /v1/webhook/{source}", in: "shop", key: otherKey, kind: asJSON, body: webEvent, want: 403},
		{op: "POST /v1/webhook/{source}", in: "nobody", kind: asJSON, body: webEvent, want: 404},
		{op: "POST /v1/webhook/{source}", in: "shop", kind: asJSON, body: large, want: 413},
		{op: "POST /v1/webhook/{source}", in: "shop", kind: "text/html", body: webEvent, want: 415},
		{op: "POST /v1/webhook/{source}", in: "wrong", kind: asJSON, body: webEvent, want: 500},

		{op: "GET /v1/queue", want: 200},
		{op: "GET /v1/dead-letters", want: 200},
		{op: "GET /v1/dead-letters", query: "limit=0", want: 400},
		{op: "GET /v1/dead-letters", query: "after=none", want: 404},
		{op: "POST /v1/dead-letters/replay", kind: asJSON, body: `{"ids":["none"]}`, want: 404},
		{op: "POST /v1/dead-letters/replay", kind: asJSON, body: `{"id":"none"}`, want: 400},
		{op: "DELETE /v1/dead-letters", query: "ids=a,b", want: 404},
		{op: "DELETE /v1/dead-letters", want: 400},

		{op: "GET /v1/cases", want: 200},
		{op: "GET /v1/cases", query: "minScore=0.5&kind=client&label=bot&limit=1", want: 200},
		{op: "GET /v1/cases", query: "site=none", want: 200},
		{op: "GET /v1/cases", query: "order=none", want: 400},
		{op: "GET /v1/cases/{id}", in: w.caseID, want: 200},
		{op: "GET /v1/cases/{id}", in: "none", want: 404},
		{op: "POST /v1/cases/{id}/judge", in: w.caseID, want: 200},
		{op: "POST /v1/cases/{id}/judge", in: "none", want: 404},
		{op: "POST /v1/cases/{id}/judge", in: goneCase, want: 502},
		{op: "PUT /v1/cases/{id}/label", in: w.caseID, kind: asJSON, body: `{"label":"crawler"}`, want: 200},
		{op: "PUT /v1/cases/{id}/label", in: w.caseID, kind: asJSON, body: `{"label":""}`, want: 200},
		{op: "PUT /v1/cases/{id}/label", in: w.caseID, kind: asJSON, body: `{"label":"cat"}`, want: 400},
		{op: "PUT /v1/cases/{id}/label", in: "none", kind: asJSON, body: `{"label":"human"}`, want: 404},

		{op: "GET /v1/decisions", key: proxyKey, want: 200},
		{op: "GET /v1/decisions", query: "origin=engine", want: 200},
		{op: "GET /v1/decisions", query: "limit=1", want: 200},
		{op: "GET /v1/decisions", key: proxyKey, query: "since=0&limit=1", want: 200},
		{op: "GET /v1/decisions", key: proxyKey, query: "since=2&mode=certain", want: 200},
		{op: "GET /v1/decisions", query: "order=none", want: 400},
		{op: "GET /v1/decisions", query: "since=999999", want: 410},
		{op: "GET /v1/decisions", query: "client=everybody", want: 422},
		{op: "POST /v1/decisions", kind: asJSON, body: c.example(t, "POST /v1/decisions", asJSON), want: 201},
		{op: "POST /v1/decisions", kind: asJSON, body: "[" + marshal(t, w.decision) + `,{"value":"BadBot","scope":"agent","action":"tarpit"}]`, want: 201},
		{op: "POST /v1/decisions", kind: asJSON, body: `{"value":"192.0.2.1",`, want: 400},
		{op: "POST /v1/decisions", kind: asJSON, body: `[{"value":"192.0.2.1","action":"deny"},{"value":"` + trustedProxy + `","action":"deny"}]`, want: 409},
		{op: "POST /v1/decisions", kind: asJSON, body: large, want: 413},
		{op: "POST /v1/decisions", kind: asText, want: 415},
		{op: "POST /v1/decisions", kind: asJSON, body: `{"value":"192.0.2.1","action":"explode"}`, want: 422},
		{op: "GET /v1/decisions/{id}", in: w.decision.ID, key: proxyKey, want: 200},
		{op: "GET /v1/decisions/{id}", in: "none", want: 404},
		{op: "GET /v1/decisions/export", want: 200},
		{op: "POST /v1/decisions/import", kind: asBytes, body: "192.0.2.70 # a comment\nnonsense\n", query: "origin=list:mine&format=list&action=challenge", want: 200},
		{op: "POST /v1/decisions/import", kind: asBytes, query: "file=none", want: 400},
		{op: "POST /v1/decisions/import", kind: asBytes, body: list.String(), want: 409},
		{op: "POST /v1/decisions/import", kind: asBytes, body: "[" + strings.Repeat(" ", 16<<20), query: "format=json", want: 413},
		{op: "POST /v1/decisions/import", kind: asBytes, query: "expires=soon", want: 422},
		{op: "DELETE /v1/decisions", query: "origin=list:mine", want: 200},
		{op: "DELETE /v1/decisions", want: 400},
		{op: "DELETE /v1/decisions", query: "value=192.0.2.1&client=everybody", want: 422},
		{op: "DELETE /v1/decisions/{id}", in: w.decision.ID, want: 200},
		{op: "DELETE /v1/decisions/{id}", in: w.decision.ID, want: 404},

		{op: "GET /v1/mode", key: proxyKey, want: 200},
		{op: "PUT /v1/mode", kind: asJSON, body: `{"mode":"enforce"}`, want: 200},
		{op: "PUT /v1/mode", kind: asJSON, body: `{"mode":"panic"}`, want: 400},

		{op: "GET /v1/events", query: "limit=1&since=1000h", want: 200},
		{op: "GET /v1/events", query: "site=none", want: 200},
		{op: "GET /v1/events", header: [2]string{"Accept", asNDJSON}, want: 200},
		{op: "GET /v1/events", query: "limit=1001", want: 400},
		{op: "GET /v1/report", query: "since=2026-11-25T00:00:00Z&until=2026-11-26T00:00:00Z", want: 200},
		{op: "GET /v1/report", query: "since=2001-11-25T00:00:00Z&until=2001-11-26T00:00:00Z", want: 200},
		{op: "GET /v1/report", query: "since=tomorrow", want: 400},
		{op: "DELETE /v1/events", query: "client=203.0.113.9", want: 200},
		{op: "DELETE /v1/events", want: 400},

		{op: "POST /v1/redemptions", kind: asJSON, body: redeemed, key: proxyKey, want: 200},
		{op: "POST /v1/redemptions", kind: asJSON, body: redeemed, want: 200},
		{op: "POST /v1/redemptions", kind: asJSON, body: `{"ticket":"0000000000000001"}`, want: 400},
		{op: "GET /v1/tarpit", want: 200},
		{op: "GET /v1/tarpit", query: "clients=1", want: 200},
		{op: "GET /v1/tarpit", query: "clients=-1", want: 400},
		{op: "PUT /v1/tarpit", kind: asJSON, body: `{"on":true}`, want: 200},
		{op: "PUT /v1/tarpit", kind: asJSON, body: `{}`, want: 400},
		{op: "GET /v1/artifacts", key: proxyKey, want: 200},
		{op: "PUT /v1/artifacts/{kind}/{name}", in: "corpus/default", kind: asBytes, body: string(corpus), query: "note=mine", want: 200},
		{op: "PUT /v1/artifacts/{kind}/{name}", in: "corpus/default", kind: asBytes, body: string(corpus), key: proxyKey, want: 403},
		{op: "PUT /v1/artifacts/{kind}/{name}", in: "likeness/wiki", kind: asBytes, body: "{}", key: proxyKey, want: 422},
		{op: "PUT /v1/artifacts/{kind}/{name}", in: "poem/default", kind: asBytes, body: "x", want: 404},
		{op: "PUT /v1/artifacts/{kind}/{name}", in: "corpus/default", kind: asBytes, body: "", odd: true, want: 400},
		{op: "PUT /v1/artifacts/{kind}/{name}", in: "corpus/default", kind: asBytes, body: strings.Repeat("x", artifact.MaxBody+1), want: 413},
		{op: "GET /v1/artifacts", want: 200},
		{op: "GET /v1/artifacts/{kind}/{name}", in: "corpus/default", key: proxyKey, want: 200},
		{op: "GET /v1/artifacts/{kind}/{name}", in: "corpus/default", query: "version=1", want: 200},
		{op: "GET /v1/artifacts/{kind}/{name}", in: "corpus/default", query: "version=0", want: 400},
		{op: "GET /v1/artifacts/{kind}/{name}", in: "corpus/other", want: 404},
		{op: "POST /v1/alerts/test", want: 200},
		{op: "POST /v1/alerts/test", query: "channel=pigeon", want: 200},
		{op: "POST /v1/explain", kind: asJSON, body: c.example(t, "POST /v1/explain", asJSON), want: 200},
		{op: "POST /v1/explain", kind: asJSON, body: `{"url":"/","client":"192.0.2.66","site":"wiki","method":"POST","headers":["User-Agent: Mozilla/5.0 (compatible; GPTBot/1.3; +https://openai.com/gptbot)"]}`, want: 200},
		{op: "POST /v1/explain", kind: asJSON, body: `{"url":"ftp://example.org"}`, want: 400},
		{op: "GET /v1/backup", want: 200},
	} {
		c.ask(t, w, x)
	}
	for _, x := range []exchange{
		{op: "GET /v1/judge", key: intakeKey, want: 200},
		{op: "POST /v1/judge", key: intakeKey, kind: asJSON, body: marshal(t, map[string]any{"case": judged}), want: 200},
		{op: "POST /v1/judge", kind: asJSON, body: `{}`, want: 400},
		{op: "POST /v1/judge", kind: asJSON, body: `{"case":{"id":"` + large[:1<<20] + `"}}`, want: 413},
	} {
		e.ask(t, w, x)
	}

	t.Run("page after page", func(t *testing.T) {
		for op, next := range map[string]string{"GET /v1/cases": "before", "GET /v1/events": "before", "GET /v1/dead-letters": "after"} {
			first := c.ask(t, w, exchange{op: op, query: "limit=1", want: 200})
			var page struct{ Next string }
			if err := json.Unmarshal(first, &page); err != nil || page.Next == "" {
				t.Fatal(op, string(first), err)
			}
			c.ask(t, w, exchange{op: op, query: next + "=" + url.QueryEscape(page.Next), want: 200})
			if op == "GET /v1/dead-letters" {
				c.ask(t, w, exchange{op: "DELETE /v1/dead-letters", query: "ids=" + page.Next, want: 200})
				c.ask(t, w, exchange{op: "POST /v1/dead-letters/replay", kind: asJSON, body: "{}", want: 200})
			}
		}
	})

	t.Run("too many artifacts", func(t *testing.T) {
		for i := range 1000 {
			if _, _, err := w.archive.PutArtifact(t.Context(), artifact.Artifact{Kind: artifact.Corpus, Name: fmt.Sprint("n", i), At: now()}, []byte("x"), 1); err != nil {
				t.Fatal(err)
			}
		}
		c.ask(t, w, exchange{op: "PUT /v1/artifacts/{kind}/{name}", in: "corpus/more", kind: asBytes, body: string(corpus), want: 409})
	})

	t.Run("at every service", func(t *testing.T) {
		for _, c := range checkers {
			w.ready.Store(false)
			c.ask(t, w, exchange{op: "GET /readyz", key: none, want: 503})
			w.ready.Store(true)
			for _, op := range []string{"GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json"} {
				c.ask(t, w, exchange{op: op, key: none, want: 200})
			}
			for op, o := range c.operations {
				if o.Security != nil && len(*o.Security) == 0 {
					continue
				}
				c.ask(t, w, exchange{op: op, in: "shop", key: none, want: 401})
				c.ask(t, w, exchange{op: op, in: "shop", key: otherKey, kind: asJSON, body: "{}", want: 403})
			}
		}
	})

	t.Run("while something is wrong", func(t *testing.T) {
		w.stuck.Store(true)
		c.ask(t, w, exchange{op: "PUT /v1/tarpit", kind: asJSON, body: `{"on":false}`, want: 503})
		c.ask(t, w, exchange{op: "PUT /v1/mode", kind: asJSON, body: `{"mode":"off"}`, want: 500})
		w.ended.Store(true)
		again := aCase(newID())
		e.ask(t, w, exchange{op: "POST /v1/judge", kind: asJSON, body: marshal(t, map[string]any{"case": again}), want: 503})

		writes := []exchange{
			{op: "POST /v1/decisions", kind: asJSON, body: `{"value":"192.0.2.8","action":"deny"}`},
			{op: "POST /v1/decisions/import", kind: asBytes, body: "192.0.2.9\n"},
			{op: "DELETE /v1/decisions", query: "value=203.0.113.0/24"},
			{op: "DELETE /v1/decisions/{id}"},
		}
		reads := exchange{op: "GET /v1/decisions", query: "since=1"}
		all := func(w *world, status int) {
			for _, x := range append(writes, reads) {
				if x.want = status; x.op == "DELETE /v1/decisions/{id}" {
					x.in = w.decision.ID
				}
				c.ask(t, w, x)
			}
		}
		other := newWorld(t)
		other.usurped.Store(true)
		all(other, 503)

		away := newWorld(t)
		away.close(t)
		all(away, 500)
		for _, x := range []exchange{
			{op: "POST /v1/events", kind: asJSON, body: c.example(t, "POST /v1/events", asJSON)},
			{op: "POST /v1/counters", kind: asJSON, body: counters},
			{op: "POST /v1/webhook/{source}", in: "shop", kind: asJSON, body: webEvent},
			{op: "POST /v1/redemptions", kind: asJSON, body: redeemed},
			{op: "GET /v1/queue"},
			{op: "GET /v1/dead-letters"},
			{op: "POST /v1/dead-letters/replay", kind: asJSON, body: "{}"},
			{op: "DELETE /v1/dead-letters", query: "all=true"},
			{op: "GET /v1/cases"},
			{op: "GET /v1/cases/{id}", in: away.caseID},
			{op: "POST /v1/cases/{id}/judge", in: away.caseID},
			{op: "PUT /v1/cases/{id}/label", in: away.caseID, kind: asJSON, body: `{"label":"bot"}`},
			{op: "GET /v1/events"},
			{op: "DELETE /v1/events", query: "client=192.0.2.77"},
			{op: "GET /v1/report"},
			{op: "GET /v1/artifacts"},
			{op: "GET /v1/artifacts/{kind}/{name}", in: "corpus/default"},
			{op: "PUT /v1/artifacts/{kind}/{name}", in: "corpus/default", kind: asBytes, body: string(corpus)},
		} {
			x.want = 503
			c.ask(t, away, x)
		}
		c.ask(t, away, exchange{op: "GET /v1/backup", want: 500})
	})

	for _, c := range checkers {
		for op, o := range c.operations {
			for status := range o.Responses.Map() {
				if !c.seen[op+" "+status] {
					t.Errorf("%s: no %s is ever answered %s", c.name, op, status)
				}
			}
		}
	}
}

// aCorpus is a model of words.
func aCorpus(t *testing.T) []byte {
	t.Helper()
	text := strings.NewReader(strings.Repeat("A wren is a small bird. It sings in the hedge, and it sleeps. ", 9))
	b, err := prose.Train(t.Context(), []prose.Text{{Name: "wrens", Reader: text}}, prose.Options{Order: 2})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const redeemed = `{"ticket":"ffffffffffffffff","visitor":"0000000000000007","at":"2026-11-25T12:00:00Z","share":255}`

func TestParametersTakeWhatIsDescribed(t *testing.T) {
	t.Parallel()
	c, w := newCheckers(t)["ai-service"], newWorld(t)
	texts := map[string]string{
		"client": "192.0.2.1", "since": "24h", "until": "1h", "wait": "0s", "expires": "2027-01-01T00:00:00Z", "origin": "list:mine", "channel": "slack",
	}
	bodies := map[string]exchange{
		"POST /v1/decisions":        {kind: asJSON, body: `{"value":"192.0.2.8","action":"deny"}`},
		"POST /v1/decisions/import": {kind: asBytes, body: "[]"},
		"POST /v1/alerts/test":      {},

		"GET /v1/artifacts/{kind}/{name}": {in: "corpus/default"},
		"PUT /v1/artifacts/{kind}/{name}": {in: "corpus/default", kind: asBytes, body: string(aCorpus(t))},
	}
	if _, _, err := w.archive.PutArtifact(t.Context(), artifact.Artifact{Kind: artifact.Corpus, Name: "default", At: now()}, aCorpus(t), 1); err != nil {
		t.Fatal(err)
	}
	beside := map[string]string{"GET /v1/decisions snapshot": "since=1&", "GET /v1/decisions wait": "since=1&", "GET /v1/decisions mode": "since=1&"}
	// Places in a list are none that one could make up.
	places := map[string]bool{"GET /v1/cases before": true, "GET /v1/events before": true, "GET /v1/dead-letters after": true, "DELETE /v1/dead-letters ids": true}
	asked := 0
	for op, o := range c.operations {
		x, ok := bodies[op]
		if !ok && strings.HasPrefix(op, "POST") {
			continue
		}
		x.op = op
		for _, p := range o.Parameters {
			at := op + " " + p.Value.Name
			if p.Value.In != openapi3.ParameterInQuery || places[at] {
				continue
			}
			var good, bad []string
			switch s := p.Value.Schema.Value; {
			case len(s.Enum) > 0:
				for _, v := range s.Enum {
					good = append(good, v.(string))
				}
			case s.Type.Is("boolean"):
				good = []string{"true", "false"}
				if op == "DELETE /v1/dead-letters" {
					good, bad = good[:1], good[1:]
				}
			case s.Type.Is("integer"), s.Type.Is("number"):
				good, bad = []string{fmt.Sprint(*s.Min)}, []string{fmt.Sprint(*s.Min - 1)}
				if s.Max != nil {
					good, bad = append(good, fmt.Sprint(*s.Max)), append(bad, fmt.Sprint(*s.Max+1))
				}
			default:
				good = []string{cmp.Or(texts[p.Value.Name], "x")}
			}
			name := beside[at] + p.Value.Name + "="
			for _, v := range good {
				x.query, x.want = name+url.QueryEscape(v), http.StatusOK
				if op == "POST /v1/decisions" {
					x.want = http.StatusCreated
				}
				c.ask(t, w, x)
				asked++
			}
			for _, v := range bad {
				x.query, x.want = name+v, http.StatusBadRequest
				if strings.HasPrefix(op, "GET /v1/decisions") {
					x.want = http.StatusUnprocessableEntity
				}
				c.ask(t, w, x)
			}
		}
	}
	if asked < 60 {
		t.Errorf("only %d requests", asked)
	}
}

// TestWordsAreThoseOfTheCode holds the enumerations that are found by reading sources to some that are known.
func TestWordsAreThoseOfTheCode(t *testing.T) {
	t.Parallel()
	c := newCheckers(t)["ai-service"]
	for name, want := range map[string][]any{
		"CaseKind":    {string(defense.CaseClient), string(defense.CaseCampaign)},
		"CaseOutcome": {string(defense.OutcomeOpen), string(defense.OutcomeClear), string(defense.OutcomeWatch), string(defense.OutcomeDecided)},
		"CaseLabel":   {string(defense.LabelNone), string(defense.LabelHuman), string(defense.LabelBot), string(defense.LabelCrawler)},
		"Mode":        {"certain", "enforce", "observe", "off"},
	} {
		if got := c.Components.Schemas[name].Value.Enum; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
