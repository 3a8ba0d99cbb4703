package relay_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/llm/relay"
)

func TestACallAndItsAnswerPassUnchanged(t *testing.T) {
	t.Parallel()
	type seen struct {
		method, target, body string
		header               http.Header
	}
	calls := make(chan seen, 1)
	f := newFront(t, func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		calls <- seen{q.Method, q.RequestURI, string(body), q.Header.Clone()}
		for name, value := range map[string]string{
			kind: "application/json; charset=utf-8", "X-Request-Id": "req_1", "Set-Cookie": "session=1", "Server": "cloud", "Openai-Organization": "acme",
			"Www-Authenticate": "Bearer", "Link": "<https://elsewhere.example>", "Access-Control-Allow-Origin": "*", "Retry-After": "7",
		} {
			w.Header().Set(name, value)
		}
		w.Header().Set("Trailer", "X-Trailer")
		_, _ = io.WriteString(w, opinion)
		w.Header().Set("X-Trailer", "late")
	}, nil)
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	resp, body := f.do(t, f.call(t, t.Context(), strings.NewReader(question),
		"Accept", "application/json", "X-Request-Id", "abc-1", "Traceparent", trace,
		"Cookie", "session=1", "X-Api-Key", "k", "X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1", "Openai-Organization", "other", "Te", "trailers",
		"User-Agent", "curl/8", "Proxy-Authorization", "Basic eA==", "Accept-Encoding", "gzip", "Origin", "https://elsewhere.example",
	))
	if resp.StatusCode != 200 || body != opinion {
		t.Errorf("answer: %d %s", resp.StatusCode, body)
	}
	got := receive(t, calls, "the call")
	want := seen{"POST", "/v1/chat/completions", question, http.Header{
		"Accept": {"application/json"}, "X-Request-Id": {"abc-1"}, "Traceparent": {trace}, "Content-Type": {"application/json"},
		"Content-Length": {fmt.Sprint(len(question))},
		"Authorization":  {"Bearer " + providerKey}, "User-Agent": {"quickthorn"}, "Accept-Encoding": {"identity"},
	}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(seen{})); diff != "" {
		t.Errorf("the provider saw (-want +got):\n%s", diff)
	}
	resp.Header.Del("Date")
	wantHeader := http.Header{
		"Content-Type": {"application/json"}, "Content-Length": {fmt.Sprint(len(opinion))}, "X-Request-Id": {"req_1"}, "Retry-After": {"7"},
		"Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"},
	}
	if diff := cmp.Diff(wantHeader, resp.Header); diff != "" || len(resp.Trailer) > 0 {
		t.Errorf("the caller saw (-want +got):\n%s%v", diff, resp.Trailer)
	}
	f.counted(t, "200", 1)
	for _, want := range []string{"llm_request_bytes_total", "llm_response_bytes_total", "llm_requests_in_flight"} {
		if text := f.metrics(t); !strings.Contains(text, `"quickthorn_`+want+`"`) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	f.secretive(t, body)
}

func TestHeadersThatAreOddDoNotPass(t *testing.T) {
	t.Parallel()
	calls := make(chan http.Header, 1)
	f := newFront(t, func(w http.ResponseWriter, q *http.Request) {
		calls <- q.Header.Clone()
		answering(200, opinion, kind, inJSON, "X-Request-Id", "id "+providerKey, "Connection", "Retry-After", "Retry-After", "7")(w, q)
	}, nil)
	tests := []struct {
		name    string
		headers []string
		want    string // the value of the header named first, "" for none
	}{
		{"plain", []string{"X-Request-Id", "abc"}, "abc"},
		{"twice", []string{"X-Request-Id", "a", "X-Request-Id", "b"}, ""},
		{"long", []string{"X-Request-Id", strings.Repeat("a", 300)}, ""},
		{"not ASCII", []string{"X-Request-Id", "caf\u00e9"}, ""},
		{"for one hop only", []string{"X-Request-Id", "abc", "Connection", "close, x-request-id"}, ""},
	}
	for _, tt := range tests {
		resp, _ := f.do(t, f.call(t, t.Context(), strings.NewReader(question), tt.headers...))
		if got := receive(t, calls, "the call").Get(tt.headers[0]); got != tt.want {
			t.Errorf("%s: %q passed, want %q", tt.name, got, tt.want)
		}
		if id, retry := resp.Header.Get("X-Request-Id"), resp.Header.Get("Retry-After"); id != "" || retry != "" {
			t.Errorf("%s: an answer's header passed with the key in it, or for one hop: %q %q", tt.name, id, retry)
		}
	}
}

func TestEachEventArrivesBeforeTheNextIsSent(t *testing.T) {
	t.Parallel()
	next := make(chan struct{}, 1)
	f := newFront(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set(kind, "text/event-stream; charset=utf-8")
		control := http.NewResponseController(w)
		_ = control.Flush()
		for i := range 20 {
			select {
			case <-next:
			case <-q.Context().Done():
				t.Error("the call ended early")
				return
			}
			fmt.Fprintf(w, "data: {\"n\":%d}\n\n", i)
			_ = control.Flush()
		}
	}, nil)
	resp, err := f.Client().Do(f.call(t, t.Context(), strings.NewReader(question)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get(kind); resp.StatusCode != 200 || got != events {
		t.Fatalf("%d %s", resp.StatusCode, got)
	}
	in := bufio.NewReader(resp.Body)
	for i := range 20 {
		next <- struct{}{} // the provider holds the next event back until this one has been read
		line, err := in.ReadString('\n')
		if want := fmt.Sprintf("data: {\"n\":%d}\n", i); err != nil || line != want {
			t.Fatalf("event %d: %q %v", i, line, err)
		}
		if line, err := in.ReadString('\n'); err != nil || line != "\n" {
			t.Fatalf("end of event %d: %q %v", i, line, err)
		}
	}
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q %v", rest, err)
	}
	f.counted(t, "200", 1)
}

func TestACallerWhoGoesEndsTheCall(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		begin string // what the provider sends before it waits
	}{
		{"before the answer", ""},
		{"within a stream", "data: {}\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			called, ended := make(chan struct{}), make(chan struct{})
			f := newFront(t, func(w http.ResponseWriter, q *http.Request) {
				_, _ = io.Copy(io.Discard, q.Body)
				if tt.begin != "" {
					w.Header().Set(kind, events)
					_, _ = io.WriteString(w, tt.begin)
					_ = http.NewResponseController(w).Flush()
				}
				close(called)
				<-q.Context().Done()
				close(ended)
			}, nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			failed := make(chan error, 1)
			go func() {
				resp, err := f.Client().Do(f.call(t, ctx, strings.NewReader(question)))
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				failed <- err
			}()
			receive(t, called, "the call")
			if n := f.inFlight(t); n != 1 {
				t.Errorf("%g calls in flight", n)
			}
			cancel()
			receive(t, ended, "the end of the call")
			if err := receive(t, failed, "the caller"); !errors.Is(err, context.Canceled) {
				t.Errorf("the caller sees %v", err)
			}
			f.counted(t, "499", 1)
			eventually(t, "the end of the exchange", func() bool { return f.inFlight(t) == 0 })
			if log := f.log.String(); log != "" {
				t.Errorf("it is nobody's failure: %s", log)
			}
		})
	}
}

func TestWhatIsNoCallCostsTheProviderNothing(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(http.ResponseWriter, *http.Request) { t.Error("the provider was called") }, func(o *relay.Options) { o.MaxRequest = 100 })
	long := `{"messages":"` + strings.Repeat("x", 100) + `"}`
	tests := []struct {
		name, method, kind, coding string
		body                       io.Reader
		status                     int
		detail                     string
	}{
		{"another method", "PUT", inJSON, "", strings.NewReader(`{}`), 405, "POST"},
		{"another type", "POST", "text/plain", "", strings.NewReader(`{}`), 415, "application/json"},
		{"a form", "POST", "application/x-www-form-urlencoded", "", strings.NewReader(`a=b`), 415, "application/json"},
		{"no type", "POST", "", "", strings.NewReader(`{}`), 415, "application/json"},
		{"a broken type", "POST", "application/json; x", "", strings.NewReader(`{}`), 415, "application/json"},
		{"packed", "POST", inJSON, "gzip", strings.NewReader(`{}`), 415, "content coding"},
		{"too long", "POST", inJSON, "", strings.NewReader(long), 413, "more than 100"},
		{"too long without a length", "POST", inJSON, "", io.MultiReader(strings.NewReader(long)), 413, "more than 100 bytes"},
		{"empty", "POST", inJSON, "", nil, 400, "JSON"},
		{"cut off", "POST", inJSON, "", strings.NewReader(`{"messages":[`), 400, "JSON"},
		{"no object", "POST", inJSON, "", strings.NewReader(` [1]`), 400, "object"},
		{"two", "POST", inJSON, "", strings.NewReader(`{} {}`), 400, "JSON"},
	}
	counts := map[int]float64{}
	for _, tt := range tests {
		q, err := http.NewRequestWithContext(t.Context(), tt.method, f.URL, tt.body)
		if err != nil {
			t.Fatal(err)
		}
		q.Header = http.Header{kind: {tt.kind}, "Content-Encoding": {tt.coding}}
		resp, body := f.do(t, q)
		checkProblem(t, tt.name, resp, body, tt.status, tt.detail)
		counts[tt.status]++
	}
	for status, n := range counts {
		f.counted(t, fmt.Sprint(status), n)
	}
}

// checkProblem checks a problem document.
func checkProblem(t *testing.T, name string, resp *http.Response, body string, status int, detail string) {
	t.Helper()
	var p struct {
		Status int
		Detail string
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.Header.Get(kind) != "application/problem+json" {
		t.Errorf("%s: no problem document: %d %s %q", name, resp.StatusCode, resp.Header.Get(kind), body)
		return
	}
	if resp.StatusCode != status || p.Status != status || !strings.Contains(p.Detail, detail) {
		t.Errorf("%s: %d %q, want %d with %q", name, resp.StatusCode, p.Detail, status, detail)
	}
}

func TestACallThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(http.ResponseWriter, *http.Request) { t.Error("the provider was called") }, func(o *relay.Options) { o.Idle = 200 * time.Millisecond })
	for _, head := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n{", // refused, and the rest not waited for either
	} {
		c, err := net.Dial("tcp", f.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, head); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c) // until the server closes the connection
		if err != nil || !strings.Contains(string(answer), "HTTP/1.1 4") {
			t.Errorf("%q: %q %v", head, answer, err)
		}
	}
	f.counted(t, "408", 2)
	f.counted(t, "415", 1)
}

func TestWhatTheProviderAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		provider http.HandlerFunc
		status   int
		body     string // of an answer that passes
		detail   string // of a problem instead
		logged   string // "": nothing
	}{
		{
			name: "an error of the caller's", provider: answering(400, `{"error":{"message":"no such model"}}`, kind, inJSON),
			status: 400, body: `{"error":{"message":"no such model"}}`,
		},
		{name: "too many calls", provider: answering(429, `{"error":{}}`, kind, inJSON, "Retry-After", "20"), status: 429, body: `{"error":{}}`},
		{name: "an error of its own", provider: answering(500, `{"error":{}}`, kind, inJSON), status: 500, body: `{"error":{}}`, logged: "answers 500"},
		{name: "a problem document", provider: answering(422, `{"detail":"x"}`, kind, "application/problem+json"), status: 422, body: `{"detail":"x"}`},
		{
			name: "a page instead of an error", provider: answering(503, "<h1>"+providerKey, kind, "text/html"),
			status: 503, detail: "answers 503", logged: "answers 503",
		},
		{name: "an error that is no JSON", provider: answering(502, "<h1>", kind, inJSON), status: 502, detail: "answers 502", logged: "answers 502"},
		{
			name: "the key refused", provider: answering(401, `{"error":{"message":"Incorrect API key provided: sk-prov***cdef"}}`, kind, inJSON), status: 502,
			detail: "the provider refuses this service's key", logged: "refuses this service's key",
		},
		{
			name: "the key not allowed", provider: answering(403, `{"key":"`+providerKey+`"}`, kind, inJSON),
			status: 502, detail: "the provider refuses this service's key", logged: "403",
		},
		{name: "a page", provider: answering(200, "<h1>", kind, "text/html"), status: 502, detail: "is its address right?", logged: "neither JSON"},
		{name: "no type", provider: answering(200, "{}", kind, ""), status: 502, detail: "neither JSON", logged: "neither JSON"},
		{name: "no JSON", provider: answering(200, "{", kind, inJSON), status: 502, detail: "not JSON", logged: "not JSON"},
		{
			name: "packed", provider: answering(200, "\x1f\x8b", kind, inJSON, "Content-Encoding", "gzip"),
			status: 502, detail: "content coding", logged: "content coding",
		},
		{name: "nothing", provider: answering(204, ""), status: 502, detail: "neither JSON", logged: "neither JSON"},
		{name: "not modified", provider: answering(304, ""), status: 502, detail: "redirects", logged: "304"},
		{name: "a status that is none", provider: answering(999, "{}", kind, inJSON), status: 502, detail: "status 999", logged: "status 999"},
		{name: "another status that is none", provider: raw("HTTP/1.1 042 " + providerKey + "\r\n\r\n"), status: 502, detail: "status 42", logged: "status 42"},
		{name: "no HTTP", provider: raw(providerKey + " 200 OK\r\n\r\n"), status: 502, detail: "cannot be reached", logged: "malformed"},
		{
			name: "a switch of protocols", provider: raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
			status: 502, detail: "status 101", logged: "101",
		},
		{name: "no answer", provider: raw(""), status: 502, detail: "cannot be reached", logged: "EOF"},
		{
			name: "a header without end", provider: raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n"), status: 502, detail: "cannot be reached",
			logged: "headers exceeded",
		},
		{
			name: "half an answer", provider: raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"),
			status: 502, detail: "broke off", logged: "unexpected EOF",
		},
		{
			name: "an answer too long", provider: answering(200, `"`+strings.Repeat("x", 1000)+`"`, kind, inJSON),
			status: 502, detail: "more than 1000 bytes", logged: "more than 1000 bytes",
		},
		{name: "an answer too long without a length", provider: endless(inJSON), status: 502, detail: "more than 1000 bytes", logged: "more than 1000 bytes"},
		{
			name: "the longest answer", provider: answering(200, `"`+strings.Repeat("x", 998)+`"`, kind, inJSON),
			status: 200, body: `"` + strings.Repeat("x", 998) + `"`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, tt.provider, func(o *relay.Options) { o.MaxResponse = 1000 })
			resp, body := f.do(t, f.call(t, t.Context(), strings.NewReader(question)))
			if tt.detail != "" {
				checkProblem(t, tt.name, resp, body, tt.status, tt.detail)
			} else if resp.StatusCode != tt.status || body != tt.body {
				t.Errorf("%d %q, want %d %q", resp.StatusCode, body, tt.status, tt.body)
			}
			if tt.status == 429 && resp.Header.Get("Retry-After") != "20" {
				t.Error("Retry-After did not pass")
			}
			f.counted(t, fmt.Sprint(tt.status), 1)
			if log := f.log.String(); tt.logged == "" && log != "" || !strings.Contains(log, tt.logged) {
				t.Errorf("log: %q, want %q", log, tt.logged)
			}
			f.secretive(t, body)
		})
	}
}

// raw is a provider that writes the text and closes the connection.
func raw(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(c, text)
		c.Close()
	}
}

// endless is a provider that answers until it is cut off.
func endless(contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		w.Header().Set(kind, contentType)
		for q.Context().Err() == nil {
			_, _ = io.WriteString(w, "data: {}\n\n")
		}
	}
}

// stalled is a provider that sends the text and then nothing more.
func stalled(contentType, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		if contentType != "" {
			w.Header().Set(kind, contentType)
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
		}
		<-q.Context().Done()
	}
}

func TestASlowProviderIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		provider http.HandlerFunc
		change   func(*relay.Options)
		detail   string
	}{
		{"no answer", stalled("", ""), func(o *relay.Options) { o.Timeout = 50 * time.Millisecond }, "has not begun its answer within 50ms"},
		{"half an answer", stalled(inJSON, `{"choices":`), func(o *relay.Options) { o.Idle = 500 * time.Millisecond }, "has paused within its answer for 500ms"},
	}
	for _, tt := range tests {
		f := newFront(t, tt.provider, tt.change)
		resp, body := f.do(t, f.call(t, t.Context(), strings.NewReader(question)))
		checkProblem(t, tt.name, resp, body, 504, tt.detail)
		f.counted(t, "504", 1)
	}
}

func TestAStreamThatGoesWrongIsCut(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		provider http.HandlerFunc
		change   func(*relay.Options)
		code     string
		logged   string
	}{
		{"it pauses", stalled(events, "data: {}\n\n"), func(o *relay.Options) { o.Idle = 500 * time.Millisecond }, "504", "its stream has paused for 500ms"},
		{"it does not end", endless(events), func(o *relay.Options) { o.MaxStream = 100_000 }, "502", "more than 100000 bytes"},
		{
			"it breaks off", raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\na\r\ndata: {}\n\n\r\n"), nil, "502",
			"unexpected EOF",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, tt.provider, tt.change)
			resp, err := f.Client().Do(f.call(t, t.Context(), strings.NewReader(question)))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the caller takes a part for the whole: %v", err)
			}
			if !strings.HasPrefix(string(body), "data: {}\n\n") || len(body) > 100_000 {
				t.Errorf("%d bytes passed: %.100q", len(body), body)
			}
			f.counted(t, tt.code, 1)
			if !strings.Contains(f.log.String(), tt.logged) {
				t.Errorf("log: %s", f.log)
			}
		})
	}
}

func TestACallerWhoDoesNotReadIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	provider := endless(events)
	f := newFront(t, func(w http.ResponseWriter, q *http.Request) {
		provider(w, q)
		close(ended)
	}, func(o *relay.Options) { o.Idle = 2 * time.Second })
	c, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
	if _, err := fmt.Fprintf(c, "%s%d\r\n\r\n%s", head, len(question), question); err != nil {
		t.Fatal(err)
	}
	receive(t, ended, "the end of the call")
	f.counted(t, "499", 1)
}

func TestTimeLimitsEndWithWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	const idle = 300 * time.Millisecond
	for _, as := range []string{inJSON, events} {
		f := newFront(t, func(w http.ResponseWriter, q *http.Request) {
			time.Sleep(3 * idle) // thinking: that of the call's body must not end it
			answering(200, opinion, kind, as)(w, q)
		}, func(o *relay.Options) { o.Idle = idle })
		reused := make(chan bool, 1)
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused <- c.Reused }})
		if resp, body := f.do(t, f.call(t, ctx, strings.NewReader(question))); resp.StatusCode != 200 {
			t.Fatalf("%s: %d %s", as, resp.StatusCode, body)
		}
		<-reused
		time.Sleep(2 * idle) // that of the answer must not end the next one on the connection
		q := f.call(t, ctx, strings.NewReader(question))
		q.Header.Set(kind, "text/plain")
		resp, err := f.Client().Do(q)
		if err != nil {
			t.Fatalf("%s: the next call on the connection: %v", as, err)
		}
		resp.Body.Close()
		if resp.StatusCode != 415 || !<-reused {
			t.Errorf("%s: the next call: %d, or on another connection", as, resp.StatusCode)
		}
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the call went elsewhere") }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := newFront(t, func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, elsewhere.URL+"/?key="+providerKey, status)
		}, nil)
		resp, body := f.do(t, f.call(t, t.Context(), strings.NewReader(question)))
		checkProblem(t, "redirect", resp, body, 502, "is not followed")
		if resp.Header.Get("Location") != "" {
			t.Error("Location passed")
		}
		f.secretive(t, body)
	}
}

func TestAnUnreachableProvider(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	l.Close()
	f := newFront(t, nil, func(o *relay.Options) { o.Base = nobody })
	for range 3 {
		resp, body := f.do(t, f.call(t, t.Context(), strings.NewReader(question)))
		checkProblem(t, "unreachable", resp, body, 502, "the provider cannot be reached")
	}
	if log := f.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "refused") || !strings.Contains(log, "target=provider") {
		t.Errorf("it is said once, with its cause: %s", log)
	}
}

func TestThatItIsWellAgainIsSaid(t *testing.T) {
	t.Parallel()
	answers := []http.HandlerFunc{answering(500, `{}`, kind, inJSON), answering(429, `{}`, kind, inJSON)}
	f := newFront(t, func(w http.ResponseWriter, q *http.Request) {
		answers[0](w, q)
		answers = answers[1:]
	}, nil)
	for range 2 {
		f.do(t, f.call(t, t.Context(), strings.NewReader(question)))
	}
	if log := f.log.String(); !strings.Contains(log, "answers 500") || !strings.Contains(log, "answered again") {
		t.Errorf("log: %s", log)
	}
}

func TestTheKeyComesBackInNoAnswer(t *testing.T) {
	t.Parallel()
	masked := strings.Repeat("*", len(providerKey))
	echo := `{"you sent":"Bearer ` + providerKey + `","again":"` + providerKey + providerKey + `"}`
	want := strings.ReplaceAll(echo, providerKey, masked)
	streamed := "data: " + echo + "\n\n"
	tests := []struct {
		name     string
		provider http.HandlerFunc
		want     string
	}{
		{"an answer", answering(200, echo, kind, inJSON), want},
		{"an error", answering(400, echo, kind, inJSON), want},
		{"a stream", answering(200, streamed, kind, events), "data: " + want + "\n\n"},
		{"a stream byte by byte", func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			w.Header().Set(kind, events)
			for _, b := range []byte(streamed) {
				_, _ = w.Write([]byte{b})
				_ = http.NewResponseController(w).Flush()
			}
		}, "data: " + want + "\n\n"},
		{"a stream that ends as the key begins", answering(200, "data: "+providerKey[:20], kind, events), "data: " + providerKey[:20]},
	}
	for _, tt := range tests {
		f := newFront(t, tt.provider, nil)
		_, body := f.do(t, f.call(t, t.Context(), strings.NewReader(question)))
		if body != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, body, tt.want)
		}
		f.secretive(t, body)
	}
}

func TestAShortKeyIsTakenForAWord(t *testing.T) {
	t.Parallel()
	f := newFront(t, answering(200, `{"content":"ollama"}`, kind, inJSON), func(o *relay.Options) { o.Key = "ollama" })
	if _, body := f.do(t, f.call(t, t.Context(), strings.NewReader(question))); body != `{"content":"ollama"}` {
		t.Errorf("%s", body)
	}
}

func TestMoreCallsThanTheLimitAreRefused(t *testing.T) {
	t.Parallel()
	called, release := make(chan struct{}, 2), make(chan struct{})
	f := newFront(t, func(w http.ResponseWriter, q *http.Request) {
		called <- struct{}{}
		<-release
		answering(200, opinion, kind, inJSON)(w, q)
	}, func(o *relay.Options) { o.MaxInFlight = 2 })
	var wait sync.WaitGroup
	for range 2 {
		q := f.call(t, t.Context(), strings.NewReader(question))
		wait.Go(func() {
			resp, err := f.Client().Do(q)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
		receive(t, called, "a call")
	}
	resp, body := f.do(t, f.call(t, t.Context(), strings.NewReader(question)))
	checkProblem(t, "a third", resp, body, 503, "2 calls are under way")
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(release)
	wait.Wait()
	eventually(t, "room", func() bool { return f.inFlight(t) == 0 })
	if resp, _ := f.do(t, f.call(t, t.Context(), strings.NewReader(question))); resp.StatusCode != 200 {
		t.Errorf("when there is room again: %d", resp.StatusCode)
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(string(body), "stream") {
			w.Header().Set(kind, events)
			for range 10 {
				fmt.Fprintf(w, "data: %s\n\n", body)
				_ = http.NewResponseController(w).Flush()
			}
			return
		}
		w.Header().Set(kind, inJSON)
		_, _ = w.Write(body)
	}, nil)
	var wait sync.WaitGroup
	for worker := range 16 {
		wait.Go(func() {
			for i := range 20 {
				body := fmt.Sprintf(`{"n":"%d-%d"}`, worker, i)
				want := body
				if i%2 == 1 {
					body = fmt.Sprintf(`{"stream":true,"n":"%d-%d"}`, worker, i)
					want = strings.Repeat("data: "+body+"\n\n", 10)
				}
				resp, err := f.Client().Do(f.call(t, t.Context(), strings.NewReader(body)))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(got) != want {
					t.Errorf("%q %v, want %q", got, err, want)
				}
			}
		})
	}
	wait.Wait()
	f.counted(t, "200", 320)
	eventually(t, "the end of all", func() bool { return f.inFlight(t) == 0 })
}

func TestAClosedRelaySaysWhy(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(http.ResponseWriter, *http.Request) { t.Error("the provider was called") }, func(o *relay.Options) { o.Closed = "no key: set one" })
	resp, body := f.do(t, f.call(t, t.Context(), strings.NewReader(question)))
	checkProblem(t, "closed", resp, body, 503, "no key: set one")
	f.counted(t, "503", 1)
}

func TestTheRelayHasLimitsOfItsOwn(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	given := &http.Transport{ResponseHeaderTimeout: time.Nanosecond}
	f := newFront(t, func(w http.ResponseWriter, q *http.Request) {
		<-release
		answering(200, opinion, kind, inJSON)(w, q)
	}, func(o *relay.Options) { o.HTTP = &http.Client{Transport: given, Timeout: time.Nanosecond} })
	go close(release)
	if resp, body := f.do(t, f.call(t, t.Context(), strings.NewReader(question))); resp.StatusCode != 200 {
		t.Errorf("the limits of the client that was given hold: %d %s", resp.StatusCode, body)
	}
	if given.ResponseHeaderTimeout != time.Nanosecond {
		t.Error("the client that was given has changed")
	}
}

func TestWrongOptionsAreNamed(t *testing.T) {
	t.Parallel()
	good := relay.Options{Target: relay.Local, Base: "http://ollama:11434/v1", Log: slog.New(slog.DiscardHandler), Now: time.Now}
	tests := []struct {
		name   string
		change func(*relay.Options)
		want   string // "": no error
	}{
		{"good", func(*relay.Options) {}, ""},
		{"a slash at the end", func(o *relay.Options) { o.Base += "/" }, ""},
		{"no base", func(o *relay.Options) { o.Base = "" }, "base"},
		{"a path", func(o *relay.Options) { o.Base = "/v1" }, "base"},
		{"no scheme", func(o *relay.Options) { o.Base = "ollama:11434/v1" }, "base"},
		{"another scheme", func(o *relay.Options) { o.Base = "ftp://ollama/v1" }, "base"},
		{"no host", func(o *relay.Options) { o.Base = "http://:80/v1" }, "base"},
		{"a broken one", func(o *relay.Options) { o.Base = "http://[" + providerKey }, "base"},
		{"a key in the query", func(o *relay.Options) { o.Base += "?key=" + providerKey }, "base"},
		{"a key in the user", func(o *relay.Options) { o.Base = "http://" + providerKey + "@ollama/v1" }, "base"},
		{"a fragment", func(o *relay.Options) { o.Base += "#x" }, "base"},
		{"the endpoint", func(o *relay.Options) { o.Base += "/chat/completions" }, "leave the /chat/completions"},
		{"a line break in the key", func(o *relay.Options) { o.Key = providerKey + "\n" }, "character 29 of 29"},
		{"no ASCII in the key", func(o *relay.Options) { o.Key = "\u201c" + providerKey }, "character 1 of"},
		{"a negative request", func(o *relay.Options) { o.MaxRequest = -1 }, "maxRequest"},
		{"a negative response", func(o *relay.Options) { o.MaxResponse = -1 }, "maxResponse"},
		{"a negative stream", func(o *relay.Options) { o.MaxStream = -1 }, "maxStream"},
		{"a negative number", func(o *relay.Options) { o.MaxInFlight = -1 }, "maxInFlight"},
		{"a negative time-out", func(o *relay.Options) { o.Timeout = -1 }, "timeout"},
		{"a negative idle time", func(o *relay.Options) { o.Idle = -1 }, "idle"},
	}
	for _, tt := range tests {
		o := good
		tt.change(&o)
		_, err := relay.New(o)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		case err != nil && strings.Contains(err.Error(), providerKey):
			t.Errorf("%s: the error shows the key: %v", tt.name, err)
		}
	}
	seen := map[string]bool{}
	for _, target := range []relay.Target{relay.Local, relay.Cloud, relay.Provider} {
		if seen[target.String()] {
			t.Errorf("two targets are %q", target)
		}
		seen[target.String()] = true
	}
}
