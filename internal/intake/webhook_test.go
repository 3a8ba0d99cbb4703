package intake

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
)

const (
	jsonType  = "application/json"
	linesType = "application/x-ndjson"
	textType  = "text/plain; charset=utf-8"
)

// hook is a webhook whose events are looked at in the queue.
type hook struct {
	*parts
	handler http.Handler
}

func newHook(t testing.TB) *hook {
	t.Helper()
	p := newParts(t, evening)
	h, err := handlerOf(p.s)
	if err != nil {
		t.Fatal(err)
	}
	return &hook{p, h}
}

// send sends a body and returns the receipt, or the status that it was refused with.
func (h *hook) send(t testing.TB, source, key, contentType, body string, header ...string) (Receipt, int) {
	t.Helper()
	w := request{http.MethodPost, "/v1/webhook/" + source, key, []byte(body), append(header, "Content-Type", contentType)}.send(t, h.handler)
	var r Receipt
	if w.Code == http.StatusAccepted {
		decode(t, w.Body, &r)
	} else {
		problem(t, w)
	}
	return r, w.Code
}

// queued returns all events that are queued.
func (h *hook) queued(t testing.TB) []*defense.Event {
	t.Helper()
	var all []*defense.Event
	for i := range h.queue.waiting {
		events, err := h.s.codec.unpack(h.queue.waiting[i].Body)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, events...)
	}
	return all
}

const webEvent = `{"id":"req-1","time":"2026-11-25T12:00:00Z","client":"203.0.113.7","method":"GET","host":"wiki.example.org","target":"/wiki/Hedge?oldid=7",` +
	`"protocol":"HTTP/1.1","agent":"curl/8.5.0","status":200,"bytes":512,"duration":0.25}`

func TestOneReportedRequestBecomesAnEvent(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	if r, code := h.send(t, "nginx", nginxKey, jsonType, webEvent+"\n"); code != http.StatusAccepted || r.Accepted != 1 {
		t.Fatalf("%d %+v", code, r)
	}
	e := h.queued(t)[0]
	if e.Edge != "webhook:nginx" || e.Site != "wiki" || e.Client.Address != "203.0.113.7" || e.Client.Prefix != "203.0.113.0/24" || e.Schema != 1 || e.Kind != "request" {
		t.Errorf("event %+v", e)
	}
	want := defense.EventRequest{Method: "GET", Host: "wiki.example.org", Path: "/wiki/Hedge", Query: "oldid=7", Kind: e.Request.Kind, Class: e.Request.Class,
		Protocol: "HTTP/1.1", Agent: "curl/8.5.0", Family: e.Request.Family, Headers: e.Request.Headers}
	if diff := cmp.Diff(want, e.Request); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(defense.EventResponse{Status: 200, Bytes: 512, Duration: 0.25}, e.Response); diff != "" {
		t.Error(diff)
	}
	if e.Verdict.Action != defense.Allow || e.Verdict.Intended != defense.Allow {
		t.Errorf("a verdict of ours: %+v", e.Verdict)
	}
	if !e.Time.Equal(noon) {
		t.Errorf("time %v", e.Time)
	}
}

func TestWhoMayReportAndInWhichForm(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	line := `203.0.113.9 - - [25/Nov/2026:12:00:00 +0000] "GET /a HTTP/1.1" 200 12 "-" "Mozilla/5.0"` + "\n"
	many := webEvent + "\n\n" + strings.Replace(webEvent, "req-1", "req-2", 1) + "\r\n"
	for i, c := range []struct {
		name, source, key, contentType, body string
		header                               []string
		want                                 int // events, or a status above 299
	}{
		{name: "its own key", source: "nginx", key: nginxKey, contentType: linesType, body: many, want: 2},
		{name: "the operator's", source: "nginx", key: operatorKey, contentType: textType, body: line + line, want: 2},
		{name: "packed by gzip", source: "nginx", key: nginxKey, contentType: textType, body: string(gzipped([]byte(line))), header: []string{"Content-Encoding", "gzip"}, want: 1},
		{name: "packed by zstd", source: "nginx", key: nginxKey, contentType: linesType, body: string(zstded([]byte(strings.ReplaceAll(many, "req", "more")))), header: []string{"Content-Encoding", "zstd"}, want: 2},
		{name: "nothing", source: "nginx", key: nginxKey, contentType: linesType, body: "\n\n", want: 0},
		{name: "another source's key", source: "nginx", key: shopKey, contentType: jsonType, body: webEvent, want: http.StatusForbidden},
		{name: "an edge's key", source: "nginx", key: proxyKey, contentType: jsonType, body: webEvent, want: http.StatusForbidden},
		{name: "no key", source: "nginx", contentType: jsonType, body: webEvent, want: http.StatusUnauthorized},
		{name: "an unknown source", source: "apache", key: operatorKey, contentType: jsonType, body: webEvent, want: http.StatusNotFound},
		{name: "lines without a format", source: "shop", key: shopKey, contentType: textType, body: line, want: http.StatusUnsupportedMediaType},
		{name: "HTML", source: "nginx", key: nginxKey, contentType: "text/html", body: line, want: http.StatusUnsupportedMediaType},
		{name: "another encoding", source: "nginx", key: nginxKey, contentType: jsonType, body: webEvent, header: []string{"Content-Encoding", "br"}, want: http.StatusUnsupportedMediaType},
		{name: "a bomb", source: "nginx", key: nginxKey, contentType: textType, body: string(bytes.Repeat(gzipped(make([]byte, 1<<20)), 33)), header: []string{"Content-Encoding", "gzip"}, want: http.StatusRequestEntityTooLarge},
	} {
		before := len(h.queued(t))
		r, code := h.send(t, c.source, c.key, c.contentType, c.body, c.header...)
		got := len(h.queued(t)) - before
		switch {
		case c.want > 299 && (code != c.want || got != 0):
			t.Errorf("%d %s: %d, %d events, want %d", i, c.name, code, got, c.want)
		case c.want <= 299 && (code != http.StatusAccepted || got != c.want || r.Accepted != c.want || len(r.Rejected) != 0):
			t.Errorf("%d %s: %d %+v, %d events, want %d", i, c.name, code, r, got, c.want)
		}
	}
}

func TestReportsThatAreNoneAreRejectedOneByOne(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	with := func(old, new string) string { return strings.Replace(webEvent, old, new, 1) }
	lines := []struct{ line, problem string }{
		{webEvent, ""},
		{`no JSON`, "not an event"},
		{with(`"status":200`, `"status":200,"extra":1`), "unknown field"},
		{webEvent + webEvent, "more than one"},
		{webEvent + " ]", "more than one"},
		{with("203.0.113.7", "proxy"), "not an IP address"},
		{with("203.0.113.7", strings.Repeat("9", 500)), "not an IP address"},
		{with("203.0.113.7", "fe80::1%eth0"), "-"}, // without the zone, and the id is known
		{with(`"GET"`, `""`), "method and target"},
		{with("/wiki/Hedge", "wiki/Hedge"), "method and target"},
		{with("200", "99"), "status"},
		{with("200", "1000"), "status"},
		{with("req-1", strings.Repeat("r", 129)), "id"},
		{with("2026-11-25", "1999-11-25"), "before 2000"},
		{with("2026-11-25", "2026-11-27"), "more than a day ahead"},
		{with("2026-11-25T12:00:00Z", "yesterday"), "not an event"},
		{with(`"time":"2026-11-25T12:00:00Z",`, ""), "time: is missing"},
		{with("0.25", "-1"), "duration"},
		{with("0.25", "1e300"), "duration"},
		{with("512", "-1"), "bytes"},
		{`{"a":` + strings.Repeat("[", 20_000), "exceeded max depth"},
		{`"` + strings.Repeat("x", maxLine), "larger than"},
		{"\x00\xff", "not an event"},
		{with("req-1", "req-\u0000"), "not an event"}, // a byte that JSON must escape
		{with("req-1", `\u0000`), ""},
		{with("Hedge", `\u0000\ud800`+strings.Repeat("x", 3000)), "-"}, // the id is known
	}
	var body strings.Builder
	accepted, rejected := 0, map[int]string{}
	for i, l := range lines {
		body.WriteString(l.line + "\n")
		switch l.problem {
		case "":
			accepted++
		case "-":
		default:
			rejected[i] = l.problem
		}
	}
	r, code := h.send(t, "nginx", nginxKey, linesType, body.String())
	if code != http.StatusAccepted || r.Accepted != accepted || r.Duplicate != 2 || len(r.Rejected) != len(rejected) {
		t.Errorf("%d %+v", code, r)
	}
	for _, x := range r.Rejected {
		if want := rejected[x.Index]; want == "" || !strings.Contains(x.Problem, want) || len(x.Problem) > 400 {
			t.Errorf("rejected %+v, want %q", x, want)
		}
	}
	// One body of application/json is one report.
	if r, code := h.send(t, "nginx", nginxKey, jsonType, with("req-1", "a")+"\n"+with("req-1", "b")); code != http.StatusAccepted || len(r.Rejected) != 1 || r.Accepted != 0 {
		t.Errorf("two in one: %d %+v", code, r)
	}
	if r, code := h.send(t, "nginx", nginxKey, jsonType, with("req-1", strings.Repeat("a", maxLine))); code != http.StatusAccepted || len(r.Rejected) != 1 {
		t.Errorf("a large one: %d %+v", code, r)
	}
	if r, code := h.send(t, "nginx", nginxKey, textType, "this is no line of a log\n"); code != http.StatusAccepted || len(r.Rejected) != 1 {
		t.Errorf("a line of another format: %d %+v", code, r)
	}
}

func TestTenThousandLinesAreTakenAndOneMoreIsNot(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	line := `203.0.113.9 - - [25/Nov/2026:12:00:00 +0000] "GET /a HTTP/1.1" 200 12 "-" "x"` + "\n"
	if r, code := h.send(t, "nginx", nginxKey, textType, strings.Repeat(line, MaxBatchEvents)); code != http.StatusAccepted || r.Accepted != MaxBatchEvents {
		t.Errorf("%d, %d accepted", code, r.Accepted)
	}
	if _, code := h.send(t, "nginx", nginxKey, textType, strings.Repeat("x\n", MaxBatchEvents+1)); code != http.StatusRequestEntityTooLarge {
		t.Errorf("one more: %d", code)
	}
}

func TestTheSameReportSentAgainIsTheSameEvent(t *testing.T) {
	t.Parallel()
	line := func(path string) string {
		return fmt.Sprintf("203.0.113.9 - - [25/Nov/2026:12:00:00 +0000] \"GET %s HTTP/1.1\" 200 12 \"-\" \"x\"\n", path)
	}
	report := func(id string) string { return strings.Replace(webEvent, "req-1", id, 1) }
	for _, c := range []struct {
		name                           string
		first, second                  string
		source2, key2                  string
		idempotency1, idempotency2     string
		contentType                    string
		wantAccepted2, wantDuplicates2 int
	}{
		{name: "by its id", first: report("a"), second: report("a"), contentType: jsonType, wantDuplicates2: 1},
		{name: "another id", first: report("a"), second: report("b"), contentType: jsonType, wantAccepted2: 1},
		{name: "the id of another source", first: report("a"), second: report("a"), source2: "shop", key2: shopKey, contentType: jsonType, wantAccepted2: 1},
		{name: "the id counts, not the key", first: report("a"), second: report("a"), idempotency1: "k", idempotency2: "l", contentType: jsonType, wantDuplicates2: 1},
		{name: "by the body's key", first: line("/a") + line("/a") + "junk\n" + line("/b"), second: line("/a") + line("/a") + "junk\n" + line("/b"), idempotency1: "k", idempotency2: "k", contentType: textType, wantDuplicates2: 3},
		{name: "the body's key, with more lines", first: line("/a") + line("/a"), second: line("/a") + line("/a") + line("/a"), idempotency1: "k", idempotency2: "k", contentType: textType, wantDuplicates2: 2, wantAccepted2: 1},
		{name: "another key", first: line("/a"), second: line("/a"), idempotency1: "k", idempotency2: "l", contentType: textType, wantAccepted2: 1},
		{name: "no name at all: requests may be alike", first: line("/a"), second: line("/a"), contentType: textType, wantAccepted2: 1},
	} {
		h := newHook(t)
		key := func(k string) []string {
			if k == "" {
				return nil
			}
			return []string{"Idempotency-Key", k}
		}
		if _, code := h.send(t, "nginx", nginxKey, c.contentType, c.first, key(c.idempotency1)...); code != http.StatusAccepted {
			t.Errorf("%s: %d", c.name, code)
		}
		if c.source2 == "" {
			c.source2, c.key2 = "nginx", nginxKey
		}
		r, code := h.send(t, c.source2, c.key2, c.contentType, c.second, key(c.idempotency2)...)
		if code != http.StatusAccepted || r.Accepted != c.wantAccepted2 || r.Duplicate != c.wantDuplicates2 {
			t.Errorf("%s: %d %+v", c.name, code, r)
		}
	}
	// The id does not depend on the process.
	a, b := newHook(t), newHook(t)
	a.send(t, "nginx", nginxKey, jsonType, webEvent)
	b.send(t, "nginx", operatorKey, linesType, webEvent)
	if x, y := a.queued(t)[0], b.queued(t)[0]; x.ID != y.ID || !x.Time.Equal(y.Time) {
		t.Errorf("ids %s and %s", x.ID, y.ID)
	}
	// Without time and name it is another one each time, of now.
	plain := strings.Replace(strings.Replace(webEvent, `"id":"req-1",`, "", 1), `"time":"2026-11-25T12:00:00Z",`, "", 1)
	a.send(t, "nginx", nginxKey, jsonType, plain)
	if r, _ := a.send(t, "nginx", nginxKey, jsonType, plain); r.Accepted != 1 || !a.queued(t)[1].Time.Equal(evening()) {
		t.Errorf("without a name: %+v, of %v", r, a.queued(t)[1].Time)
	}
}

func TestTheClientIsWhoTheSourceSaysItIs(t *testing.T) {
	t.Parallel()
	with := func(client, forwarded string) string {
		return fmt.Sprintf(`{"time":"2026-11-25T12:00:00Z","client":%q,"method":"GET","target":"/","status":200,"headers":{"X-Forwarded-For":%q}}`, client, forwarded)
	}
	for _, c := range []struct{ name, source, body, want string }{
		{"the field", "nginx", with("203.0.113.7", "198.51.100.1"), "203.0.113.7"},
		{"the header that a trusted hop has written", "shop", with("192.0.2.1", "198.51.100.1"), "198.51.100.1"},
		{"behind several trusted hops", "shop", with("192.0.2.1", "6.6.6.6, 198.51.100.1, 192.0.2.9"), "198.51.100.1"},
		{"the hop itself when it is not trusted", "shop", with("203.0.113.7", "198.51.100.1"), "203.0.113.7"},
		{"the hop itself when the header says nothing", "shop", with("192.0.2.1", "nonsense"), "192.0.2.1"},
		{"whatever it says, when it does not vouch", "unknown", with("203.0.113.7", ""), "203.0.113.7"},
		{"IPv4 in IPv6", "nginx", with("::ffff:203.0.113.7", ""), "203.0.113.7"},
	} {
		h := newHook(t)
		if r, code := h.send(t, c.source, operatorKey, jsonType, c.body); code != http.StatusAccepted || r.Accepted != 1 {
			t.Errorf("%s: %d %+v", c.name, code, r)
			continue
		}
		if got := h.queued(t)[0].Client.Address; got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestOnlySourcesThatNameTheClientAreVouchedFor(t *testing.T) {
	t.Parallel()
	vouched := Vouched([]Source{{Name: "nginx", Client: "client"}, {Name: "shop"}})
	for edge, want := range map[string]bool{"edge-1": true, "": true, "webhook:nginx": true, "webhook:shop": false, "webhook:gone": false, "webhook:": false} {
		if got := vouched(&defense.Event{Edge: edge}); got != want {
			t.Errorf("%q: %t", edge, got)
		}
	}
}

func TestASourceThatIsSetWronglySaysSoInTheLogOnly(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	api := &WebhookAPI{Service: p.s, Sources: []Source{{Name: "bad", Client: "no header\n"}}}
	if _, err := api.converter(&api.Sources[0], ""); err == nil {
		t.Error("a header of that name was taken")
	}
}

func TestReportsOfTheFutureAndOfLongNamesAreBounded(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	text := strings.Replace(webEvent, "2026-11-25T12:00:00Z", evening().Add(time.Hour).Format(time.RFC3339), 1)
	text = strings.Replace(text, "wiki.example.org", strings.Repeat("h", 5000), 1)
	if r, code := h.send(t, "nginx", nginxKey, jsonType, text); code != http.StatusAccepted || r.Accepted != 1 {
		t.Fatalf("%d %+v", code, r)
	}
	if e := h.queued(t)[0]; len(e.Request.Host) > 253 {
		t.Errorf("a host of %d bytes", len(e.Request.Host))
	}
}
