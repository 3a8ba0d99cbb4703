package replay

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/quickthorn/quickthorn/internal/accesslog"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// quiet refuses GPTBot and lets an address open five pages at once, and one a second.
const quiet = `
rules:
  - {name: no-training, when: 'crawler.id == "gptbot"', action: deny, basis: certain, reason: trains models}
budgets:
  - {name: pages, per: client, kinds: [navigation], rate: 1/s, burst: 5, reason: too many pages}
`

func TestCrawlersAndReadersAreCountedApart(t *testing.T) {
	r := replayed(t, line(noon, "192.0.2.1", "/", gptbot)+line(noon, "192.0.2.2", "/", chrome)+
		line(noon, "192.0.2.3", "/feed.xml", feed)+line(noon, "192.0.2.4", "/a.git/info/refs?service=git-upload-pack", git))
	if diff := cmp.Diff(map[string]uint64{"allow": 3, "deny": 1}, r.Verdicts); diff != "" {
		t.Error(diff)
	}
	if stopped, all := r.HarmTotal(); stopped != 0 || all != 3 {
		t.Errorf("%d of %d readers stopped, want 0 of 3", stopped, all)
	}
	if len(r.Crawlers) != 2 || r.Spared.Requests != 1 || r.Spared.Bytes != 1000 {
		t.Errorf("crawlers %v, spared %v", r.Crawlers, r.Spared)
	}
}

func TestFloodIsThrottledByTheLogsOwnClock(t *testing.T) {
	var steady, flood strings.Builder
	for i := range 60 {
		steady.WriteString(line(noon.Add(time.Duration(i)*time.Second), "192.0.2.1", "/page", chrome))
		flood.WriteString(line(noon, "192.0.2.1", "/page", chrome))
	}
	if r := replayed(t, steady.String(), with(compiled(t, quiet))); r.Verdicts["throttle"] != 0 {
		t.Errorf("a page a second: %d throttled, want none", r.Verdicts["throttle"])
	}
	r := replayed(t, flood.String(), with(compiled(t, quiet)))
	if r.Verdicts["throttle"] != 55 {
		t.Errorf("60 pages at once: %d throttled, want 55", r.Verdicts["throttle"])
	}
	if len(r.Harm) != 1 || r.Harm[0].Requests != 55 || r.Harm[0].Clients != 1 || r.Harm[0].Rule != "budget:pages" || len(r.Harm[0].Examples) != maxHarmExamples || r.Harm[0].Examples[0].Line != 6 {
		t.Errorf("harm %+v", r.Harm)
	}
}

// Apache writes the time at which a request came when it is answered, so lines of
// the same minute come in any order, as in the real log of Elastic's.
func TestFloodIsSeenThoughLinesAreOutOfOrder(t *testing.T) {
	var log strings.Builder
	for i := range 200 {
		log.WriteString(line(noon.Add(time.Duration(i*37%60)*time.Second), "192.0.2.1", "/page", chrome))
	}
	r := replayed(t, log.String(), with(compiled(t, quiet)))
	if passed, most := r.Verdicts["allow"], uint64(5+60); passed > most {
		t.Errorf("%d of 200 pages within a minute pass a budget that allows %d", passed, most)
	}
	if r.Start != noon || r.End != noon.Add(59*time.Second) {
		t.Errorf("the report covers %s to %s, not the times as written", r.Start, r.End)
	}
}

func TestNextFileMayBeginEarlier(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	for i := range 60 {
		log.WriteString(line(noon.Add(time.Duration(i)*time.Second), "192.0.2.1", "/page", chrome))
	}
	var files []string
	for i := range 2 {
		files = append(files, filepath.Join(dir, fmt.Sprint("server", i, ".log")))
		if err := os.WriteFile(files[i], []byte(log.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := options(t)
	o.Policy = compiled(t, quiet)
	r, err := Run(context.Background(), files, 15, o)
	if err != nil {
		t.Fatal(err)
	}
	// The bucket is as full as it was at the first file's end: the second is judged like the first.
	if r.Requests != 120 || r.Verdicts["throttle"] != 0 {
		t.Errorf("verdicts %v of %d requests", r.Verdicts, r.Requests)
	}
}

func TestFilesCompressedPlainAndStandardInput(t *testing.T) {
	dir := t.TempDir()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, line(noon, "192.0.2.1", "/one", chrome))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	one, two := filepath.Join(dir, "one.gz"), filepath.Join(dir, "two.log")
	for name, text := range map[string][]byte{one: packed.Bytes(), two: []byte(line(noon.Add(time.Minute), "192.0.2.2", "/two", chrome))} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := options(t)
	o.Stdin = strings.NewReader(line(noon.Add(2*time.Minute), "192.0.2.3", "/three", chrome))
	r, err := Run(context.Background(), []string{one, two, "-"}, 15, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 3 || len(r.Inputs) != 3 || r.End.Sub(r.Start) != 2*time.Minute {
		t.Errorf("%d requests of %d inputs over %s", r.Requests, len(r.Inputs), r.End.Sub(r.Start))
	}
}

func TestBrokenLinesAreReportedWithReasons(t *testing.T) {
	good := line(noon, "192.0.2.1", "/", chrome)
	r := replayed(t, good+good+"\x1b[2Jno log line\n"+
		`192.0.2.9 - - [01/Mar/2026:12:00:00 +0000] "\x16\x03\x01" 400 0 "-" "-"`+"\n"+good)
	if r.Requests != 3 || r.Broken != 2 || len(r.Inputs[0].Reasons) != 2 {
		t.Fatalf("%d read, %d broken, reasons %+v", r.Requests, r.Broken, r.Inputs[0].Reasons)
	}
	for _, why := range r.Inputs[0].Reasons {
		if why.Lines != 1 || why.Text == "" || why.At == 0 || strings.Contains(why.Example, "\x1b") {
			t.Errorf("reason %+v", why)
		}
	}
}

func TestWhatCannotBeReadIsAnErrorThatHelps(t *testing.T) {
	dir := t.TempDir()
	diary := filepath.Join(dir, "diary.txt")
	if err := os.WriteFile(diary, []byte(strings.Repeat("Dear diary, nothing happened.\n", 20)), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing.log")
	tests := []struct {
		name  string
		files []string
		want  []string
	}{
		{"none named", nil, []string{"no log file"}},
		{"missing", []string{missing}, []string{missing, "no such file"}},
		{"unknown format", []string{diary}, []string{diary, "format"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Run(context.Background(), tt.files, 15, options(t))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			t.Log(err)
		})
	}
}

func TestCancelledReplayStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	o := options(t)
	o.Stdin = strings.NewReader(strings.Repeat(line(noon, "192.0.2.1", "/", chrome), 10_000))
	if _, err := Run(ctx, []string{"-"}, 15, o); err != context.Canceled {
		t.Errorf("error %v, want that of the context", err)
	}
}

func TestProgressTellsHowFar(t *testing.T) {
	calls, last := 0, uint64(0)
	replayed(t, strings.Repeat(line(noon, "192.0.2.1", "/", chrome), 40_000), func(o *Options) {
		o.Progress = func(file string, done, of int64, requests uint64) {
			if file != "-" || done <= 0 || of != 0 || requests <= last {
				t.Errorf("%s: %d of %d, %d requests after %d", file, done, of, requests, last)
			}
			calls, last = calls+1, requests
		}
	})
	if calls == 0 {
		t.Error("never told")
	}
}

func TestComparisonTellsClientByClient(t *testing.T) {
	strict := compiled(t, `
rules:
  - {name: no-training, when: 'crawler.id == "gptbot"', action: deny, basis: certain, reason: trains models}
  - {name: closed, when: 'request.path == "/closed"', action: throttle, basis: judged, reason: closed}
`)
	log := line(noon, "192.0.2.1", "/", gptbot) + // refused by both
		line(noon, "192.0.2.2", "/", chrome) + line(noon, "192.0.2.2", "/closed", chrome) + line(noon, "192.0.2.2", "/closed", chrome) +
		line(noon, "192.0.2.3", "/closed", feed) + line(noon, "192.0.2.4", "/", chrome)
	r := replayed(t, log, with(compiled(t, quiet)), against(strict))
	want := &Comparison{
		A: "mine", B: "mine", Requests: 6, Changed: 3, Total: 2, Readers: ReadersChange{StoppedA: 0, StoppedB: 3},
		Changes: []Change{{defense.Allow, defense.Throttle, 3}},
		Clients: []ClientDiff{
			{Client: "192.0.2.2", Agent: chrome, Request: "GET /closed", RuleB: "closed", Changed: 2, A: map[string]uint64{"allow": 3}, B: map[string]uint64{"allow": 1, "throttle": 2}},
			{Client: "192.0.2.3", Agent: feed, Request: "GET /closed", RuleB: "closed", Changed: 1, A: map[string]uint64{"allow": 1}, B: map[string]uint64{"throttle": 1}},
		},
	}
	if diff := cmp.Diff(want, r.Comparison); diff != "" {
		t.Error(diff)
	}
	if same := replayed(t, log, with(strict), against(strict)).Comparison; same.Changed != 0 || same.Total != 0 || len(same.Clients) != 0 {
		t.Errorf("a policy differs from itself: %+v", same)
	}
}

// manyClients is a log of n clients with one request each, and one that asks after each of them.
func manyClients(n int) string {
	var b strings.Builder
	a := netip.MustParseAddr("10.0.0.0")
	for i := range n {
		at := noon.Add(time.Duration(i) * time.Second)
		b.WriteString(line(at, a.String(), fmt.Sprint("/page/", i), fmt.Sprintf("Mozilla/5.0 (Windows NT 10.0) Firefox/%d.%d", i%200, i)))
		b.WriteString(line(at, "192.0.2.1", "/often", gptbot))
		a = a.Next()
	}
	return b.String()
}

func TestMemoryIsBoundedWhateverTheNumberOfClients(t *testing.T) {
	const keys, clients = 400, 20_000
	r := replayed(t, manyClients(clients), against(preset(t, "siege")), func(o *Options) { o.maxKeys = keys })
	if !r.Approximate || !r.Comparison.Approximate {
		t.Error("the report does not say that its lists are not exact")
	}
	if r.Requests != 2*clients || r.Verdicts["deny"] != clients {
		t.Errorf("totals are not exact: %d requests, %v", r.Requests, r.Verdicts)
	}
	if c := r.StoppedClients; len(c) == 0 || c[0].Name != "192.0.2.1" || c[0].Stopped != clients {
		t.Errorf("the client that asks most is not found exactly: %+v", c)
	}

	c := newCollector(keys)
	o := options(t)
	o.Stdin = strings.NewReader(manyClients(clients))
	if _, _, err := judgeAll(context.Background(), []string{"-"}, &o, func(l *observed, _ *defense.Verdict) { c.add(l) }, func() uint64 { return 0 }); err != nil {
		t.Fatal(err)
	}
	if n := len(c.clients.m) + len(c.prefixes.m) + len(c.agents.m) + len(c.paths.m); n > 3*keys {
		t.Errorf("%d keys are kept, at most %d may be", n, 3*keys)
	}
}

func TestKeptTextDoesNotKeepTheLine(t *testing.T) {
	long := "/" + strings.Repeat("x", 1000)
	got := bounded(long[:50])
	if got != long[:50] {
		t.Fatalf("bounded changed %q", got)
	}
	if &[]byte(got)[0] == &[]byte(long)[0] {
		t.Error("shares memory with the line")
	}
}

func TestReportIsTheSameAsJSONEachTime(t *testing.T) {
	log := line(noon, "192.0.2.1", "/", gptbot) + line(noon, "2001:db8::1", "/<b>", "a\\\"<script>alert(1)</script>") +
		line(noon.Add(time.Hour), "192.0.2.2", "/", chrome) + "broken\n"
	var first []byte
	for range 3 {
		r := replayed(t, log, against(preset(t, "siege")))
		out, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, out) {
			t.Fatal(cmp.Diff(string(first), string(out)))
		}
		first = out
	}
	golden(t, "small.json", append(first, '\n'))
}

func TestEmptyLogGivesEmptyListsAndNoTimes(t *testing.T) {
	r := replayed(t, "", func(o *Options) {
		f, err := accesslog.Named("combined")
		if err != nil {
			t.Fatal(err)
		}
		o.Format = f
	})
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "null") || strings.Contains(string(out), `"start"`) {
		t.Errorf("%s", out)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "none") {
		t.Errorf("%v: %s", err, text.String())
	}
	if err := r.WriteHTML(&text); err != nil {
		t.Error(err)
	}
}

// hostile tries to leave its cell, its attribute, the page and the terminal.
const hostile = `</td></script><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>' \x1b[31m`

func TestPageIsSelfContainedAndEscapesWhatClientsSent(t *testing.T) {
	mine := compiled(t, `
rules:
  - {name: all, when: 'true', action: deny, basis: certain, reason: '<b>all</b>'}
`)
	log := line(noon, "192.0.2.1", "/<script>x</script>", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 "+hostile) + line(noon, "192.0.2.2", "/", hostile) + "<script>broken\n"
	r := replayed(t, log, with(mine), against(preset(t, "readers-first")))
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	// A browser's view: an element that is not of the template's came from a client.
	doc, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	elements := strings.Fields("html head meta title style body h1 h2 p ul li b div table thead tbody tr th td details summary code br span figure figcaption svg g text line rect")
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if !slices.Contains(elements, n.Data) {
			t.Errorf("the page has an element <%s>", n.Data)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || slices.Contains([]string{"src", "href", "srcset", "action", "http-equiv"}, a.Key) {
				t.Errorf("<%s> has the attribute %s=%q", n.Data, a.Key, a.Val)
			}
		}
	}
	for _, bad := range []string{"\x1b", "@import", "url("} {
		if strings.Contains(text, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	for _, want := range []string{"&lt;script&gt;x&lt;/script&gt;", "192.0.2.2", "compared with", "<svg"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
}

func TestReportForTheTerminalHasNoControlCharacters(t *testing.T) {
	r := replayed(t, line(noon, "192.0.2.1", "/\x1b]0;owned\x07\u202e", "curl/8 \x1b[2J\u202e\u009b31m")+"\x1b[1mbroken\n", with(compiled(t, `
rules:
  - {name: all, when: 'true', action: deny, basis: certain, reason: all}
`)))
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, c := range text.String() {
		if c < 0x20 && c != '\n' || c >= 0x7f && c < 0xa0 || c == 0x202e {
			t.Errorf("control character %U in %q", c, text.String())
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	src, err := accesslog.Open(logs+"/elastic-apache_logs.log.gz", nil)
	if err != nil {
		b.Fatal(err)
	}
	var log bytes.Buffer
	if _, err := log.ReadFrom(src); err != nil {
		b.Fatal(err)
	}
	if err := src.Close(); err != nil {
		b.Fatal(err)
	}
	log.WriteByte('\n')
	data := bytes.Repeat(log.Bytes(), 10)
	o := options(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	lines := 0
	for b.Loop() {
		o.Stdin = bytes.NewReader(data)
		r, err := Run(context.Background(), []string{"-"}, 15, o)
		if err != nil {
			b.Fatal(err)
		}
		lines += int(r.Requests)
	}
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds(), "lines/s")
}

// BenchmarkManyClients says what a replay of as many clients as there are lines keeps in memory.
func BenchmarkManyClients(b *testing.B) {
	data := manyClients(500_000)
	o := options(b)
	o.Compare = preset(b, "siege")
	for b.Loop() {
		o.Stdin = strings.NewReader(data)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		most := uint64(0)
		o.Progress = func(_ string, _, _ int64, requests uint64) {
			if requests%(1<<17) == 0 {
				runtime.GC()
				runtime.ReadMemStats(&after)
				most = max(most, after.HeapAlloc-before.HeapAlloc)
			}
		}
		if _, err := Run(context.Background(), []string{"-"}, 15, o); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(most)/(1<<20), "MiB-kept")
	}
}
