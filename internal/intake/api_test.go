package intake

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
)

func TestEventsAreTakenInEveryEncodingThatIsPromised(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	h, err := handlerOf(p.s)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		name   string
		body   func(plain []byte) []byte
		header []string
	}{
		{"zstd", zstded, []string{"Content-Type", "application/x-ndjson", "Content-Encoding", "zstd"}},
		{"gzip", gzipped, []string{"Content-Type", "application/x-ndjson", "Content-Encoding", "gzip"}},
		{"as it is", bytes.Clone, []string{"Content-Type", "application/x-ndjson; charset=utf-8"}},
		{"identity", bytes.Clone, []string{"Content-Type", "application/json", "Content-Encoding", "identity"}},
		{"two zstd frames", func(b []byte) []byte { return append(zstded(b[:len(b)/2]), zstded(b[len(b)/2:])...) },
			[]string{"Content-Type", "application/x-ndjson", "Content-Encoding", "ZSTD"}},
	} {
		events := varied(10*i, 10*i+10)
		w := request{http.MethodPost, "/v1/events", proxyKey, c.body(ndjson(events...)), c.header}.send(t, h)
		var got Receipt
		if w.Code != http.StatusAccepted {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
			continue
		}
		decode(t, w.Body, &got)
		if diff := cmp.Diff(Receipt{Accepted: 10, Rejected: []Rejected{}}, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		// What is queued is what was sent.
		queued := p.queue.waiting[len(p.queue.waiting)-1]
		back, err := p.s.codec.unpack(queued.Body)
		if err != nil {
			t.Errorf("%s: what was queued cannot be read: %v", c.name, err)
		}
		if diff := cmp.Diff(events, back); diff != "" || queued.Source != "proxy" || queued.Events != 10 {
			t.Errorf("%s: queued from %q: %s", c.name, queued.Source, diff)
		}
	}
}

func TestRequestsForEventsThatAreRefused(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	h, err := handlerOf(p.s)
	if err != nil {
		t.Fatal(err)
	}
	one := ndjson(storetest.Varied(1))
	lines := []string{"Content-Type", "application/x-ndjson"}
	packed := func(how string) []string { return append([]string{"Content-Encoding", how}, lines...) }
	counters := func(text string) request {
		return request{http.MethodPost, "/v1/counters", proxyKey, []byte(text), []string{"Content-Type", "application/json"}}
	}
	for _, c := range []struct {
		name   string
		q      request
		status int
		detail string
	}{
		{"no key", request{http.MethodPost, "/v1/events", "", one, lines}, http.StatusUnauthorized, "Bearer"},
		{"the key of a webhook source", request{http.MethodPost, "/v1/events", nginxKey, one, lines}, http.StatusForbidden, "source:nginx"},
		{"another method", request{http.MethodGet, "/v1/events", proxyKey, nil, nil}, http.StatusMethodNotAllowed, "POST"},
		{"a form", request{http.MethodPost, "/v1/events", proxyKey, one, []string{"Content-Type", "application/x-www-form-urlencoded"}}, http.StatusUnsupportedMediaType, "ndjson"},
		{"no type", request{http.MethodPost, "/v1/events", proxyKey, one, nil}, http.StatusUnsupportedMediaType, "ndjson"},
		{"brotli", request{http.MethodPost, "/v1/events", proxyKey, one, packed("br")}, http.StatusUnsupportedMediaType, "zstd or gzip"},
		{"two encodings", request{http.MethodPost, "/v1/events", proxyKey, one, packed("gzip, zstd")}, http.StatusUnsupportedMediaType, "zstd or gzip"},
		{"zstd that is none", request{http.MethodPost, "/v1/events", proxyKey, one, packed("zstd")}, http.StatusBadRequest, "unpack"},
		{"gzip that is none", request{http.MethodPost, "/v1/events", proxyKey, one, packed("gzip")}, http.StatusBadRequest, "unpack"},
		{"zstd cut short", request{http.MethodPost, "/v1/events", proxyKey, cutShort(zstded(one)), packed("zstd")}, http.StatusBadRequest, "ends too early"},
		{"gzip cut short", request{http.MethodPost, "/v1/events", proxyKey, cutShort(gzipped(one)), packed("gzip")}, http.StatusBadRequest, "ends too early"},
		{"a zstd bomb", request{http.MethodPost, "/v1/events", proxyKey, claimingBomb(MaxBatchPlain + 1), packed("zstd")}, http.StatusRequestEntityTooLarge, "33554432"},
		{"a zstd bomb of many frames that do not say so", request{http.MethodPost, "/v1/events", proxyKey, bytes.Repeat(streamedBomb(1<<20), 33), packed("zstd")}, http.StatusRequestEntityTooLarge, "33554432"},
		{"a gzip bomb of many members", request{http.MethodPost, "/v1/events", proxyKey, bytes.Repeat(gzipped(make([]byte, 1<<20)), 33), packed("gzip")}, http.StatusRequestEntityTooLarge, "33554432"},
		{"too many bytes", request{http.MethodPost, "/v1/events", proxyKey, make([]byte, MaxBatchBytes+1), lines}, http.StatusRequestEntityTooLarge, "8388608"},
		{"too many events", request{http.MethodPost, "/v1/events", proxyKey, bytes.Repeat([]byte("{}\n"), MaxBatchEvents+1), lines}, http.StatusRequestEntityTooLarge, "10000"},

		{"counters of another type", request{http.MethodPost, "/v1/counters", proxyKey, []byte("{}"), lines}, http.StatusUnsupportedMediaType, "application/json"},
		{"counters that are none", counters(`[1]`), http.StatusBadRequest, "cannot unmarshal"},
		{"counters with what we do not know", counters(`{"id":"01M8997GDR0000000000000003","more":1}`), http.StatusBadRequest, "unknown field"},
		{"counters and more", counters(`{"id":"01M8997GDR0000000000000003"} {}`), http.StatusBadRequest, "more than one"},
		{"counters without id", counters(`{"counters":[]}`), http.StatusBadRequest, "ULID"},
		{"counters of no hour", counters(`{"id":"01M8997GDR0000000000000003","counters":[{"site":"a","action":"allow","intended":"allow","count":1}]}`), http.StatusBadRequest, "counters[0].hour"},
		{"counters of a site with NUL", counters(`{"id":"01M8997GDR0000000000000003","counters":[{"hour":"2026-11-25T12:00:00Z","site":"a\u0000","action":"allow","intended":"allow","count":1}]}`), http.StatusBadRequest, "counters[0].site"},
		{"counters of an unknown action", counters(`{"id":"01M8997GDR0000000000000003","counters":[{"action":"blokc"}]}`), http.StatusBadRequest, "blokc"},
		{"counters beyond all bounds", counters(`{"id":"01M8997GDR0000000000000003","counters":[{"hour":"2026-11-25T12:00:00Z","action":"allow","intended":"allow","count":9223372036854775808}]}`), http.StatusBadRequest, "counters[0].count"},
		{"too many counters", counters(`{"id":"01M8997GDR0000000000000003","counters":[{"hour":"2026-11-25T12:00:00Z"}` + strings.Repeat(`,{"hour":"2026-11-25T12:00:00Z"}`, maxCounters+1) + `]}`), http.StatusRequestEntityTooLarge, "at most"},
	} {
		w := c.q.send(t, h)
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, w.Code, c.status, w.Body)
			continue
		}
		if got := problem(t, w); !strings.Contains(got, c.detail) {
			t.Errorf("%s: %q does not say %q", c.name, got, c.detail)
		}
	}
	if p.queue.appended != 0 {
		t.Errorf("%d batches of these were queued", p.queue.appended)
	}
	if !p.s.bodies.sent.TryAcquire(sentBytes) || !p.s.bodies.unpacked.TryAcquire(unpackedBytes) {
		t.Error("the room for some of these bodies was not given back")
	}
}

func cutShort(b []byte) []byte { return b[:len(b)-5] }

// claimingBomb is a zstd frame that tells a size, and is empty.
func claimingBomb(n uint64) []byte {
	const singleSegment, eightBytes, lastBlock = 0x20, 0xc0, 1 // RFC 8878, 3.1.1
	b := binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, singleSegment | eightBytes}, n)
	return append(b, lastBlock, 0, 0)
}

// streamedBomb is a zstd frame that does not tell its size.
func streamedBomb(n int) []byte {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		panic(err)
	}
	for range n / (1 << 20) {
		_, _ = z.Write(make([]byte, 1<<20)) // to memory
	}
	_, _ = z.Write([]byte("rest"))
	_ = z.Close()
	return b.Bytes()
}

func TestALineThatIsNoEventIsRejectedByItselfAndTheOthersAreKept(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	h, err := handlerOf(p.s)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(e *defense.Event)) []byte { return ndjson(storetest.Event(5, f)) }
	good := storetest.Varied(0)
	lines := []struct {
		line    []byte
		problem string // "": it is kept
	}{
		{ndjson(good), ""},
		{[]byte("\n"), "-"}, // an empty line does not count
		{[]byte("no JSON\n"), "not an event: invalid character 'o'"},
		{[]byte("\x00\xff\xfe\n"), "not an event"},
		{[]byte("null\n"), "schema 0"},
		{[]byte(`[{"schema":1}]` + "\n"), "cannot unmarshal array"},
		{[]byte(strings.Repeat("[", 20_000) + "\n"), "exceeded max depth"},
		{append(bytes.Repeat([]byte(" "), 10), append(bytes.Repeat([]byte("x"), maxLine+1), '\n')...), "larger than 65536 bytes"},
		{change(func(e *defense.Event) { e.Schema = 2 }), "schema 2: this intake understands 1"},
		{change(func(e *defense.Event) { e.Kind = strings.Repeat("k", 100) }), `kind "kkkk`},
		{change(func(e *defense.Event) { e.ID = "1" }), `id "1" is not a ULID`},
		{change(func(e *defense.Event) { e.Time = time.Time{} }), "before 2000"},
		{change(func(e *defense.Event) { e.Time = evening().Add(maxAhead + time.Hour) }), "more than a day ahead"},
		{change(func(e *defense.Event) { e.Client.Address = "localhost" }), `client.address "localhost"`},
		{change(func(e *defense.Event) { e.Client.Address = "192.0.2.0/24" }), "is not an IP address"},
		{change(func(e *defense.Event) { e.Response.Status = 1 << 40 }), "response.status"},
		{change(func(e *defense.Event) { e.Verdict.Score = 101 }), "verdict.score"},
		{change(func(e *defense.Event) { e.Request.Path = "/\x00\xff" + strings.Repeat("y", 9000) }), ""},
		{change(func(e *defense.Event) {
			e.ID = strings.ToLower(storetest.Varied(3).ID)
			e.Time = evening().Add(time.Hour)
		}), ""},
		{ndjson(storetest.Event(6, func(e *defense.Event) { e.Client = defense.EventClient{} })), ""}, // by a Unix socket
		{append(bytes.TrimSpace(ndjson(storetest.Varied(4))), '\r', '\n'), ""},
		{bytes.TrimSpace(ndjson(storetest.Varied(4))), "-"}, // a duplicate, without line end
	}
	var body []byte
	want := Receipt{}
	index := 0
	for _, l := range lines {
		body = append(body, l.line...)
		switch l.problem {
		case "":
			want.Accepted++
		case "-":
			if index > 0 && len(l.line) > 1 {
				want.Duplicate++
			} else {
				continue
			}
		default:
			want.Rejected = append(want.Rejected, Rejected{index, l.problem})
		}
		index++
	}
	w := request{http.MethodPost, "/v1/events", proxyKey, zstded(body), []string{"Content-Type", "application/x-ndjson", "Content-Encoding", "zstd"}}.send(t, h)
	if w.Code != http.StatusAccepted {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var got Receipt
	decode(t, w.Body, &got)
	if got.Accepted != want.Accepted || got.Duplicate != want.Duplicate || len(got.Rejected) != len(want.Rejected) {
		t.Fatalf("got %+v\nwant %+v", got, want)
	}
	for i, r := range got.Rejected {
		if r.Index != want.Rejected[i].Index || !strings.Contains(r.Problem, want.Rejected[i].Problem) || len(r.Problem) > 300 {
			t.Errorf("rejected %+v, want %+v", r, want.Rejected[i])
		}
	}
	back, err := p.s.codec.unpack(p.queue.waiting[0].Body)
	if err != nil || len(back) != want.Accepted {
		t.Fatalf("%d events are queued: %v", len(back), err)
	}
	if path := back[1].Request.Path; !strings.HasPrefix(path, "/␀\uFFFD") || len(path) > 2048 {
		t.Errorf("a hostile path is queued as %.20q… of %d bytes", path, len(path))
	}
	if back[2].ID != storetest.Varied(3).ID {
		t.Errorf("an id in small letters is queued as %s", back[2].ID)
	}
	if s := p.s.Stats(); s.Rejected != uint64(len(want.Rejected)) || s.Accepted != uint64(want.Accepted) || s.Duplicate != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestOnlyTheFirstHundredRejectedLinesAreToldOf(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	h, err := handlerOf(p.s)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("{}\n"), MaxBatchEvents)
	w := request{http.MethodPost, "/v1/events", proxyKey, body, []string{"Content-Type", "application/x-ndjson"}}.send(t, h)
	var got Receipt
	decode(t, w.Body, &got)
	if w.Code != http.StatusAccepted || len(got.Rejected) != 100 || got.Accepted != 0 || p.s.Stats().Rejected != MaxBatchEvents {
		t.Errorf("%d, %d told, %d counted", w.Code, len(got.Rejected), p.s.Stats().Rejected)
	}
}

func TestEventsWhoseTextGrowsWhenItIsWrittenAnewAreNotLost(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	h, err := handlerOf(p.s)
	if err != nil {
		t.Fatal(err)
	}
	p.s.codec.maxPlain = maxParcelPlain / 8 // and everything else an eighth as well
	// U+2028 takes three bytes as it is and six as encoding/json writes it; one line that is no event has all of it written anew.
	var body bytes.Buffer
	const n = 300
	for i := range n {
		e := storetest.Varied(i)
		sep := strings.Repeat("@", 600)
		e.Request.Path, e.Request.Query, e.Verdict.Reason = "/"+sep, sep, sep[:300]
		body.Write(bytes.ReplaceAll(ndjson(e), []byte("@"), []byte("\u2028")))
	}
	if body.Len() > MaxBatchPlain {
		t.Fatal("the body is too large for this test")
	}
	body.WriteString("no event\n")
	w := request{http.MethodPost, "/v1/events", proxyKey, zstded(body.Bytes()), []string{"Content-Type", "application/x-ndjson", "Content-Encoding", "zstd"}}.send(t, h)
	var got Receipt
	decode(t, w.Body, &got)
	if w.Code != http.StatusAccepted || got.Accepted != n {
		t.Fatalf("%d %+v", w.Code, got)
	}
	total := 0
	for i := range p.queue.waiting {
		back, err := p.s.codec.unpack(p.queue.waiting[i].Body)
		if err != nil {
			t.Fatal(err)
		}
		total += len(back)
	}
	if len(p.queue.waiting) < 2 {
		t.Error("they did not grow beyond one batch: nothing was tried")
	}
	if total != n {
		t.Errorf("%d of %d events can be read from %d batches", total, n, len(p.queue.waiting))
	}
}

func TestEventsThatHardlyPackAreSplitUntilTheQueueTakesThem(t *testing.T) {
	t.Parallel()
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	c.maxBody, c.maxPlain = 256<<10, 512<<10
	chance := rand.NewChaCha8([32]byte{1})
	noise := func(n int) string {
		b := make([]byte, n*3/4)
		_, _ = chance.Read(b) // never fails
		return base64.StdEncoding.EncodeToString(b)
	}
	var events []*defense.Event
	for i := range 200 {
		events = append(events, storetest.Event(i, func(e *defense.Event) {
			e.Request.Path, e.Request.Query, e.Request.Referrer = noise(2048), noise(2048), noise(1024)
		}))
	}
	parcels, err := c.pack(events)
	if err != nil || len(parcels) < 4 {
		t.Fatalf("%d parcels: %v", len(parcels), err)
	}
	i := 0
	for _, p := range parcels {
		back, err := c.unpack(p.body)
		if err != nil || len(p.body) > c.maxBody || len(back) != len(p.events) {
			t.Fatalf("a parcel of %d bytes holds %d of %d events: %v", len(p.body), len(back), len(p.events), err)
		}
		for _, e := range back {
			if e.ID != events[i].ID {
				t.Fatalf("event %d is %s", i, e.ID)
			}
			i++
		}
	}
	if i != len(events) {
		t.Errorf("%d of %d events are in the parcels", i, len(events))
	}
}

func TestAFullQueueIsAnsweredWithWhenToTryAgain(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	h, err := handlerOf(p.s)
	if err != nil {
		t.Fatal(err)
	}
	p.queue.full = true
	counters := `{"id":"01M8997GDR0000000000000003","counters":[{"hour":"2026-11-25T12:00:00Z","action":"allow","intended":"allow","count":1}]}`
	for _, q := range []request{
		{http.MethodPost, "/v1/events", proxyKey, ndjson(storetest.Varied(1)), []string{"Content-Type", "application/x-ndjson"}},
		{http.MethodPost, "/v1/counters", proxyKey, []byte(counters), []string{"Content-Type", "application/json"}},
		{http.MethodPost, "/v1/webhook/nginx", nginxKey, []byte(`{"time":"2026-11-25T12:00:00Z","client":"192.0.2.1","method":"GET","target":"/","status":200}`), []string{"Content-Type", "application/json"}},
	} {
		w := q.send(t, h)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "5" {
			t.Errorf("%s: %d, Retry-After %q", q.path, w.Code, w.Header().Get("Retry-After"))
		}
		problem(t, w)
	}
	p.queue.full = false
	if r, code := post(t, h, storetest.Varied(1)); code != http.StatusAccepted || r.Accepted != 1 {
		t.Errorf("sent again it is %d %+v", code, r)
	}
}

func TestASlowSenderIsToldAndDoesNotHoldOthersUp(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	h, err := handlerOf(p.s)
	if err != nil {
		t.Fatal(err)
	}
	// The deadline of the real server is half a minute; here it has passed already.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&hasty{w}, r) }))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100\r\n\r\n{", proxyKey)
	answer, err := io.ReadAll(conn) // to the end: the connection is closed
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
		t.Errorf("%.200s %v", answer, err)
	}
	if !p.s.bodies.sent.TryAcquire(sentBytes) {
		t.Error("the room for the body was not given back")
	}
}

// hasty makes every read deadline one that has passed.
type hasty struct{ http.ResponseWriter }

func (w *hasty) SetReadDeadline(at time.Time) error {
	if !at.IsZero() {
		at = time.Now().Add(-time.Second)
	}
	return http.NewResponseController(w.ResponseWriter).SetReadDeadline(at)
}

func TestBodiesThatFindNoRoomAreRefusedAndNothingOfThemIsKept(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	h, err := handlerOf(p.s)
	if err != nil {
		t.Fatal(err)
	}
	// A claim that cannot be met is refused before a byte is read.
	r := httptest.NewRequest(http.MethodPost, "/v1/events", io.MultiReader())
	r.ContentLength = MaxBatchBytes + 1
	r.Header.Set("Content-Type", "application/x-ndjson")
	r.Header.Set("Authorization", "Bearer "+proxyKey)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that says it is too large: %d", w.Code)
	}
	for _, c := range []struct {
		name   string
		packed []byte
		want   int64
	}{
		{"a frame that tells its size", zstded(make([]byte, 5000)), 5000},
		{"two frames", append(zstded(make([]byte, 5000)), zstded(make([]byte, 5000))...), MaxBatchPlain},
		{"a frame that does not", streamedBomb(3 << 20), MaxBatchPlain},
		{"no frame", []byte("nothing"), MaxBatchPlain},
	} {
		if got := mayUnpackTo("zstd", c.packed); got != c.want {
			t.Errorf("%s: room for %d bytes is taken, want %d", c.name, got, c.want)
		}
	}
	if got := mayUnpackTo("gzip", make([]byte, 10)); got != 10_320 {
		t.Errorf("ten bytes of gzip take room for %d", got)
	}
}

func TestCountersAreQueuedAsTheyCame(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	h, err := handlerOf(p.s)
	if err != nil {
		t.Fatal(err)
	}
	in := CounterBatch{ID: storetest.Varied(1).ID, Edge: "edge-1", Counters: []record.Counter{{Hour: noon, Site: "wiki", Action: defense.Deny, Intended: defense.Deny, Count: 7}}}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	w := request{http.MethodPost, "/v1/counters", proxyKey, gzipped(text), []string{"Content-Type", "application/json", "Content-Encoding", "gzip"}}.send(t, h)
	if w.Code != http.StatusAccepted {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var got CounterBatch
	if err := json.Unmarshal(p.queue.waiting[0].Body[1:], &got); err != nil || p.queue.waiting[0].Body[0] != bodyCounters {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, got); diff != "" {
		t.Error(diff)
	}
	w = request{http.MethodPost, "/v1/counters", proxyKey, []byte(`{"id":"01M8997GDR0000000000000003","edge":"e","counters":null}`), []string{"Content-Type", "application/json"}}.send(t, h)
	if w.Code != http.StatusAccepted || len(p.queue.waiting) != 1 {
		t.Errorf("nothing counted: %d, %d batches", w.Code, len(p.queue.waiting))
	}
}

func TestTheOperatorSeesReplaysAndDiscardsDeadLetters(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir())
	q := r.state.Queue()
	bodies := [][]byte{
		nil, {'?', 1, 2}, {bodyEvents, 1, 2, 3}, append([]byte{bodyCounters}, "{"...),
		append([]byte{bodyEvents}, zstded(append(ndjson(storetest.Varied(1)), "no event\n"...))...),
	}
	for _, b := range bodies {
		if err := q.Append(t.Context(), queue.Batch{Source: "edge", Body: b, Events: 2}); err != nil {
			t.Fatal(err)
		}
	}
	var depth Depth
	decode(t, request{http.MethodGet, "/v1/queue", operatorKey, nil, nil}.send(t, r.handler).Body, &depth)
	if depth.Batches != 5 || depth.Events != 10 || depth.DeadLetters != 0 || depth.Oldest.IsZero() {
		t.Errorf("the queue holds %+v", depth)
	}
	run(t, r.s)
	dead := func(query string) DeadLetters {
		t.Helper()
		w := request{http.MethodGet, "/v1/dead-letters" + query, operatorKey, nil, nil}.send(t, r.handler)
		if w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		var d DeadLetters
		decode(t, w.Body, &d)
		return d
	}
	until(t, "all five are dead letters", func() bool { return len(dead("").DeadLetters) == 5 })
	all := dead("").DeadLetters
	for i, want := range []string{"it is empty", "unknown kind", "unpack", "unexpected end", "event 1: not an event"} {
		d := all[i]
		if !strings.Contains(d.Reason, want) || d.Source != "edge" || d.Bytes != len(bodies[i]) || d.BuriedAt.IsZero() || d.Attempts != 1 {
			t.Errorf("dead letter %d is %+v, want it to say %q", i, d, want)
		}
	}
	contains(t, all[4].Begins, `{\"schema\":1,`) // its text, not the bytes of zstd
	contains(t, all[2].Begins, `e\x01\x02`)

	// Page by page.
	var paged []DeadLetter
	for after := ""; ; {
		page := dead("?limit=2&after=" + after)
		paged = append(paged, page.DeadLetters...)
		if after = page.Next; after == "" {
			break
		}
	}
	if diff := cmp.Diff(all, paged); diff != "" {
		t.Error(diff)
	}

	for _, c := range []struct {
		name   string
		q      request
		status int
	}{
		{"a limit that is none", request{http.MethodGet, "/v1/dead-letters?limit=5x", operatorKey, nil, nil}, http.StatusBadRequest},
		{"too much", request{http.MethodGet, "/v1/dead-letters?limit=1001", operatorKey, nil, nil}, http.StatusBadRequest},
		{"after an unknown one", request{http.MethodGet, "/v1/dead-letters?after=zz", operatorKey, nil, nil}, http.StatusNotFound},
		{"an unknown one again", request{http.MethodPost, "/v1/dead-letters/replay", operatorKey, []byte(`{"ids":["d0000000000000099"]}`), nil}, http.StatusNotFound},
		{"an unknown one for good", request{http.MethodDelete, "/v1/dead-letters?ids=zz", operatorKey, nil, nil}, http.StatusNotFound},
		{"no word of which", request{http.MethodDelete, "/v1/dead-letters", operatorKey, nil, nil}, http.StatusBadRequest},
		{"what is no JSON", request{http.MethodPost, "/v1/dead-letters/replay", operatorKey, []byte("x"), nil}, http.StatusBadRequest},
		{"by an edge", request{http.MethodGet, "/v1/dead-letters", proxyKey, nil, nil}, http.StatusForbidden},
	} {
		if w := c.q.send(t, r.handler); w.Code != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, w.Code, c.status, w.Body)
		}
	}

	// Put back, they come to the same end; discarded, they are gone. What could be read of the last one is archived, once.
	ids, err := json.Marshal(map[string]any{"ids": []string{all[0].ID, all[4].ID}})
	if err != nil {
		t.Fatal(err)
	}
	var moved Moved
	decode(t, request{http.MethodPost, "/v1/dead-letters/replay", operatorKey, ids, nil}.send(t, r.handler).Body, &moved)
	if moved.Replayed != 2 {
		t.Errorf("replayed %+v", moved)
	}
	until(t, "they are dead letters again", func() bool { return r.s.Stats().Buried == 7 })
	decode(t, request{http.MethodDelete, "/v1/dead-letters?ids=" + all[1].ID + "," + all[2].ID, operatorKey, nil, nil}.send(t, r.handler).Body, &moved)
	if moved.Discarded != 2 || len(dead("").DeadLetters) != 3 {
		t.Errorf("discarded %+v, %d left", moved, len(dead("").DeadLetters))
	}
	decode(t, request{http.MethodDelete, "/v1/dead-letters?all=true", operatorKey, nil, nil}.send(t, r.handler).Body, &moved)
	if moved.Discarded != 3 || len(dead("").DeadLetters) != 0 {
		t.Errorf("discarded %+v, %d left", moved, len(dead("").DeadLetters))
	}
	if got := archived(t, r.archive); len(got) != 1 || got[0] != storetest.Varied(1).ID {
		t.Errorf("the archive has %v", got)
	}
}
