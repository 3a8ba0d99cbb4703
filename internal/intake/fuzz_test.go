package intake

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// contract returns the events that producers and consumers both test against, one a line.
func contract(t testing.TB) [][]byte {
	t.Helper()
	text, err := os.ReadFile("../defense/testdata/event.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		t.Fatal(err)
	}
	var lines [][]byte
	for _, r := range raw {
		var b bytes.Buffer
		if err := json.Compact(&b, r); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, b.Bytes())
	}
	return lines
}

// FuzzParseEvents holds the intake to its word: what it accepts can be queued and read back as it was, and is within all limits.
func FuzzParseEvents(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range contract(f) {
		f.Add(line)
	}
	f.Add(ndjson(varied(0, 3)...))
	f.Add([]byte("\n\r\n{}\n[]\nnull\n\x00\n\xff"))
	f.Add([]byte(`{"schema":1,"schema":1,"SCHEMA":1,"kind":"trap","id":"01m8997gdr0000000000000003","time":"2026-11-25T12:00:00.003+13:00","client":{"address":"::ffff:1.2.3.4"},"signals":[{},{"weight":-7}],"verdict":{"shadow":[{"rule":"\u0000\ud800"}]},"tarpit":{"held":1e-9},"response":{"duration":1e308}}`))
	f.Add([]byte(`{"schema":1,"kind":"request","id":"01M8997GDR0000000000000003","time":"2026-11-25T12:00:00Z","client":{"address":"1.2.3.4"},"signals":[` + strings.Repeat(`{},`, 500) + `{}]}`))
	latest := noon.Add(24 * time.Hour)
	f.Fuzz(func(t *testing.T, plain []byte) {
		events, rejected, err := parseEvents(plain, maxLine, latest)
		if err != nil {
			return
		}
		lines := 0
		for line := range bytes.Lines(plain) {
			if len(bytes.TrimSpace(line)) > 0 {
				lines++
			}
		}
		if len(events)+len(rejected) != lines {
			t.Fatalf("%d events and %d rejected of %d lines", len(events), len(rejected), lines)
		}
		for _, r := range rejected {
			if r.Problem == "" || r.Index < 0 || r.Index >= lines {
				t.Fatalf("rejected %+v", r)
			}
		}
		for _, e := range events {
			if problem := checkEvent(e); problem != "" {
				t.Fatalf("accepted: %s", problem)
			}
			if e.Time.After(latest) || len(e.Signals) > 32 || cap(e.Signals) > 64 || len(e.Request.Path) > 2048 || strings.ContainsRune(e.Request.Path+e.Site+e.Verdict.Reason, 0) || !utf8.ValidString(e.Request.Agent) {
				t.Fatalf("accepted %+v", e)
			}
		}
		if len(events) == 0 {
			return
		}
		parcels, err := c.pack(events)
		if err != nil {
			t.Fatal(err)
		}
		var back []*defense.Event
		for _, p := range parcels {
			got, err := c.unpack(p.body)
			if err != nil {
				t.Fatal(err)
			}
			back = append(back, got...)
		}
		if diff := cmp.Diff(events, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzDecode holds the decoder to encoding/json: the same event of every text, or the same error.
func FuzzDecode(f *testing.F) {
	for _, line := range contract(f) {
		f.Add(line)
	}
	f.Add(bytes.TrimSpace(ndjson(varied(0, 1)...)))
	for _, text := range []string{
		`{}`, ` { } `, `{"schema":1,"schema":2}`, `{"SCHEMA":1}`, `{"schema":null}`, `{"schema":1.0}`, `{"schema":-0}`, `{"schema":01}`, `{"schema":1e2}`, `{"schema":99999999999999999999}`,
		`{"client":{"asn":4294967296}}`, `{"client":{"asn":-1}}`, `{"client":{"asn":-0}}`, `{"client":{"address":"a"},"client":{"prefix":"b"}}`, `{"signals":[]}`, `{"signals":[{}],"signals":[{"name":"x"}]}`,
		`{"signals":[{"name":"a\u0041\ud83d\ude00\ud800"},]}`, `{"signals":[{"name":"a","weight":-3,"sentence":"b"},{}]}`, `{"request":{"path":"/\u0026\"\\","query":"\x"}}`, `{"request":{"kind":"navigation","tls":{}}}`,
		`{"request":{"tls":null,"kind":"x"}}`, `{"time":"2026-11-25T12:00:00+13:00"}`, `{"time":"2026-11-25t12:00:00z"}`, `{"time":"2026-11-25T12:00:00,5Z"}`, `{"response":{"duration":1e-7,"bytes":9223372036854775807}}`,
		`{"response":{"duration":1e999}}`, `{"response":{"duration":.5}}`, `{"response":{"duration":5.}}`, `{"response":{"duration":-}}`, `{"transient":true}`, `{"transient":True}`, `{"transient":falsey}`, "{\"site\":\"\xff\u2028\x7f\"}",
		"{\"site\":\"a\nb\"}", `{"verdict":{"action":"deny","shadow":[{"rule":"r","action":"observe","score":5}]}}`, `{"tarpit":{"held":4.75,"bytes":2048,"depth":3},"challenge":{"id":"a","kind":"b","outcome":"c"}}`,
		`{"kind" : "request" , "id":"x"}x`, `{"kind":"request",}`, `{"kind":"req`, `{"kind":"req\`, `[]`, `null`, `"x"`, ``, `{"signals":[` + strings.Repeat(`{},`, 63) + `{}]}`, `{"signals":[` + strings.Repeat(`{},`, 64) + `{}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		want := new(defense.Event)
		wrong := json.Unmarshal(line, want)
		d := new(decoder)
		for range 2 { // the second time it knows the names
			got, err := d.decode(line)
			if (err == nil) != (wrong == nil) || err != nil && err.Error() != wrong.Error() {
				t.Fatalf("error %v, want %v", err, wrong)
			}
			if err != nil {
				continue
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

func TestTheDecoderReadsWhatEdgesSendByItself(t *testing.T) {
	t.Parallel()
	lines := contract(t)
	for _, e := range varied(0, 5) {
		lines = append(lines, bytes.TrimSpace(ndjson(e)))
	}
	lines = append(lines, []byte(strings.Replace(string(lines[0]), "/index.php", `/\u003c\"é`, 1)))
	d := new(decoder)
	for _, line := range lines {
		d.text, d.at, d.line = line, 0, string(line)
		if !d.event(new(defense.Event)) || !d.end() {
			t.Errorf("it leaves %s to encoding/json, from %s on", line, line[min(d.at, len(line)):])
		}
	}
	for i := range 2 * maxNames {
		line := []byte(`{"signals":[{"name":"` + strings.Repeat("n", i) + `"}]}`)
		if _, err := d.decode(line); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.names) > maxNames {
		t.Errorf("%d names are remembered", len(d.names))
	}
}

func TestEventsDoNotHoldTheTextThatTheyWereReadFrom(t *testing.T) {
	t.Parallel()
	long := strings.Replace(string(contract(t)[0]), `"name":"cleared"`, `"name":"`+strings.Repeat("n", 40_000)+`"`, 1)
	for _, line := range append(contract(t), []byte(long)) {
		d := new(decoder)
		e, problem := parseEvent(d, line, maxLine, time.Time{})
		if problem != "" {
			t.Fatal(problem)
		}
		held := func(s string) bool {
			at, from := uintptr(unsafe.Pointer(unsafe.StringData(s))), uintptr(unsafe.Pointer(unsafe.StringData(d.line)))
			return len(s) > 0 && at >= from && at < from+uintptr(len(d.line))
		}
		texts := 0
		var walk func(v reflect.Value)
		walk = func(v reflect.Value) {
			switch v.Kind() {
			case reflect.String:
				if texts++; held(v.String()) {
					t.Errorf("%q is a part of the line", v.String())
				}
			case reflect.Struct:
				for i := range v.NumField() {
					walk(v.Field(i))
				}
			case reflect.Slice:
				for i := range v.Len() {
					walk(v.Index(i))
				}
			case reflect.Pointer:
				if !v.IsNil() && v.Type() != reflect.TypeFor[*time.Location]() {
					walk(v.Elem())
				}
			}
		}
		walk(reflect.ValueOf(e))
		if texts < 25 {
			t.Errorf("only %d texts were looked at", texts)
		}
		for _, s := range e.Signals {
			if len(s.Name) > 100 {
				for name := range d.names {
					if unsafe.StringData(s.Name) == unsafe.StringData(name) {
						t.Error("a name that was cut holds the rest of it")
					}
				}
			}
		}
	}
}

// FuzzUnpack reads what may be left of a queue's body.
func FuzzUnpack(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	good, err := c.pack(varied(0, 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[0].body)
	f.Add([]byte{bodyEvents})
	f.Add(append(good[0].body, good[0].body[1:]...))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) == 0 {
			return
		}
		events, err := c.unpack(body)
		if err != nil {
			return
		}
		for _, e := range events {
			if problem := checkEvent(e); problem != "" {
				t.Fatal(problem)
			}
		}
		_ = begins(body)
	})
}

// FuzzWebhook sends bodies of every type to a webhook.
func FuzzWebhook(f *testing.F) {
	f.Add(uint8(0), []byte(webEvent))
	f.Add(uint8(1), []byte(webEvent+"\n"+webEvent))
	f.Add(uint8(2), []byte(`203.0.113.9 - - [25/Nov/2026:12:00:00 +0000] "GET /a HTTP/1.1" 200 12 "-" "Mozilla/5.0"`))
	f.Add(uint8(1), []byte(`{"client":"::1","method":"\u0000","target":"/%zz?%","status":999,"headers":{"":"","a b":"\n","X-Forwarded-For":"::1"},"headersComplete":true,"agent":"","referrer":null}`))
	h := newHook(f)
	f.Fuzz(func(t *testing.T, how uint8, body []byte) {
		h.s.memory = newMemory()
		h.queue.waiting = nil
		source := []string{"nginx", "shop"}[how>>4%2]
		w := request{http.MethodPost, "/v1/webhook/" + source, operatorKey, body, []string{"Content-Type", []string{jsonType, linesType, textType}[how%3], "Idempotency-Key", string([]byte{'k', how})}}.send(t, h.handler)
		switch w.Code {
		case http.StatusAccepted, http.StatusUnsupportedMediaType, http.StatusRequestEntityTooLarge:
		default:
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for _, e := range h.queued(t) { // which also reads it as the archive's keeper does
			if !strings.HasPrefix(e.Edge, WebhookPrefix) || e.Verdict.Action != defense.Allow || e.Site == "" {
				t.Fatalf("event %+v", e)
			}
		}
	})
}

// FuzzCounters reads batches of counters.
func FuzzCounters(f *testing.F) {
	f.Add([]byte(`{"id":"01M8997GDR0000000000000003","edge":"e","counters":[{"hour":"2026-11-25T12:00:00Z","site":"a","action":"allow","intended":"deny","count":1}]}`))
	f.Add([]byte(`{"counters":[{},{}]}`))
	f.Add([]byte(`{"counters":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var in counterBody
		if err := strictJSON(text, &in); err != nil {
			return
		}
		b := CounterBatch{ID: in.ID, Edge: in.Edge, Counters: in.Counters}
		if b.check() != nil {
			return
		}
		// What is accepted can be queued and read back.
		again, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		var back CounterBatch
		if err := json.Unmarshal(again, &back); err != nil || back.check() != nil {
			t.Fatalf("%v %v", err, back.check())
		}
	})
}
