package decision_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestImportUnderstandsTheFormsThatListsCome(t *testing.T) {
	list := decision.ImportOptions{Origin: "list:x"}
	own := decision.ImportOptions{}
	operator := decision.ImportOptions{Origin: "operator"}
	with := func(o decision.ImportOptions, f decision.Format) decision.ImportOptions {
		o.Format = f
		return o
	}
	tests := []struct {
		name string
		o    decision.ImportOptions
		in   string
		want []string // value action origin reason expires-in-seconds, sorted
	}{
		{"addresses and ranges", list, "192.0.2.1\n2001:DB8::1\n192.0.2.77/24\n::ffff:192.0.2.2\n", []string{
			"192.0.2.0/24 challenge list:x  0", "192.0.2.1 challenge list:x  0", "192.0.2.2 challenge list:x  0", "2001:db8::1 challenge list:x  0"}},
		{"comments, blanks, DOS ends, BOM", list, "\ufeff# a list\r\n; old style\r\n\r\n  192.0.2.1 # one\r\n192.0.2.0/28 ; SBL1, listed\r\n", []string{
			"192.0.2.0/28 challenge list:x  0", "192.0.2.1 challenge list:x  0"}},
		{"a reason after a comma", list, "192.0.2.1, scrapes, and lies\n", []string{"192.0.2.1 challenge list:x scrapes, and lies 0"}},
		{"a score after a tab", list, "192.0.2.1\t10\n192.0.2.2   3\n", []string{"192.0.2.1 challenge list:x  0", "192.0.2.2 challenge list:x  0"}},
		{"no newline at the end", list, "192.0.2.1", []string{"192.0.2.1 challenge list:x  0"}},
		{"ipset save", list, "create bad hash:ip family inet hashsize 1024 maxelem 65536 timeout 600\nadd bad 192.0.2.1 timeout 60\nadd bad 192.0.2.2\nadd bad 192.0.2.3,tcp:80 timeout 0\n", []string{
			"192.0.2.1 challenge list:x  60", "192.0.2.2 challenge list:x  0", "192.0.2.3 challenge list:x  0"}},
		{"fail2ban's log", list, "2026-02-28 10:00:00,123 fail2ban.filter [7]: INFO [sshd] Found 192.0.2.9 - 2026-02-28 10:00:00\n" +
			"2026-02-28 10:00:00,123 fail2ban.actions [7]: NOTICE [nginx-bots] Ban 192.0.2.1\n2026-02-28 10:10:00,123 fail2ban.actions [7]: NOTICE [nginx-bots] Unban 192.0.2.1\n", []string{
			"192.0.2.1 challenge list:x fail2ban nginx-bots 0"}},
		{"CSV with a header", with(operator, decision.FormatCSV), "duration,scope,value,type,reason,country\n" +
			"4h,ip,192.0.2.1,ban,\"crawls, \"\"fast\"\"\",DE\n,range,192.0.2.0/24,challenge,,\n60,agent,BadBot,deny,x,\n", []string{
			"192.0.2.0/24 challenge operator  0", `192.0.2.1 deny operator crawls, "fast" 14400`, "BadBot deny operator x 60"}},
		{"CSV without a header", with(list, decision.FormatCSV), "192.0.2.1,scrapes\n192.0.2.2\n", []string{
			"192.0.2.1 challenge list:x scrapes 0", "192.0.2.2 challenge list:x  0"}},
		{"CSV with agents", with(operator, decision.FormatCSV), "agent,action\nBadBot,deny\n", []string{"BadBot deny operator  0"}},
		{"NDJSON, found out", own, `{"value":"192.0.2.1","action":"tarpit","origin":"operator","expires":"2026-03-01T13:00:00Z"}` + "\n\n" +
			`{"scope":"agent","value":"BadBot","action":"deny","origin":"peer:p","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","sequence":9}` + "\n", []string{
			"192.0.2.1 tarpit operator  3600", "BadBot deny peer:p  0"}},
		{"JSON, found out", own, ` [{"value":"192.0.2.1","action":"deny","origin":"engine"}, {"value":"192.0.2.2"}]`, []string{
			"192.0.2.1 deny engine  0", "192.0.2.2 challenge list:import  0"}},
		{"one JSON object", with(own, decision.FormatJSON), `{"value":"192.0.2.2"}`, []string{"192.0.2.2 challenge list:import  0"}},
		{"somebody else's list cannot speak for the operator", list, `{"value":"192.0.2.1","action":"allow","origin":"operator"}`, []string{
			"192.0.2.1 challenge list:x  0"}},
		{"defaults", decision.ImportOptions{Origin: "operator", Action: new(defense.Deny), Reason: "why not", Expires: noon.Add(time.Minute)}, "192.0.2.1\n192.0.2.2,because\n", []string{
			"192.0.2.1 deny operator why not 60", "192.0.2.2 deny operator because 60"}},
		{"nothing", list, "", nil},
		{"white space", list, " \n\t\n", nil},
		{"an empty array", list, "[]", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newLog(t)
			r, err := f.Import(t.Context(), iotest.OneByteReader(strings.NewReader(tt.in)), tt.o)
			if err != nil || r.Rejected != 0 || r.Added != len(tt.want) {
				t.Fatalf("%+v, %v", r, err)
			}
			var got []string
			for _, d := range f.all() {
				ends := 0
				if !d.Expires.IsZero() {
					ends = int(d.Expires.Sub(noon).Seconds())
				}
				got = append(got, fmt.Sprintf("%s %s %s %s %d", d.Value, d.Action, d.Origin, d.Reason, ends))
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestImportGoesOnOverBadLinesAndSaysWhich(t *testing.T) {
	long := strings.Repeat("x", decision.MaxImportLine+5)
	tests := []struct {
		format decision.Format
		in     string
		want   []string // parts of the problems in order
	}{
		{decision.FormatList, "192.0.2.1\nnonsense\n192.0.2.256\n0.0.0.0/0\n" + long + "\n10.0.0.1-10.0.0.9\nban \x1b[2J now\nadd set\nadd set 192.0.2.3 timeout soon\n192.0.2.2\n", []string{
			`line 2: value: "nonsense" is not an address`, `line 3: value: "192.0.2.256"`, "line 4: value: 0.0.0.0/0 would stop more than a /8", "line 5: longer than",
			"line 6: ", `line 7: "ban \x1b[2J now" is not`, "line 8: an ipset line needs", `line 9: timeout "soon"`}},
		{decision.FormatCSV, "value,action,expires,duration,scope\n192.0.2.1\n192.0.2.9,maybe\n192.0.2.9,deny,tomorrow\n192.0.2.9,deny,,-4h\n\"192.0.2.9\n,deny\n192.0.2.9,deny,,,planet\n\"1\"2,deny\n192.0.2.2\n", []string{
			"line 3: action: unknown action", `line 4: expires: "tomorrow" is not a time`, `line 5: duration: "-4h"`, "line 6: a quoted field", "line 7: value: is missing", "line 8: scope: unknown scope", "line 9: a comma is missing"}},
		{decision.FormatNDJSON, `{"value":"192.0.2.1"}` + "\n{\n" + `{"value":7}` + "\n" + `{"value":"192.0.2.9","colour":"red"}` + "\n" + `{"value":"192.0.2.9"} {}` + "\n" +
			`{"value":"192.0.2.9","action":"maim"}` + "\n" + `{"value":"BadBot"}` + "\n" + `{"value":"192.0.2.9","expires":"tomorrow"}` + "\n[]\n" + `{"value":"192.0.2.2"}`, []string{
			"line 2: the JSON ends early", "line 3: value: must not be a JSON number", "line 4: colour: unknown field", "line 5: more than one", "line 6: action: unknown action", "line 7: value: \"BadBot\" is not an address, range or fingerprint; for an agent", "line 8: ", "line 9: must not be a JSON array"}},
	}
	for _, tt := range tests {
		f := newLog(t)
		r, err := f.Import(t.Context(), strings.NewReader(tt.in), decision.ImportOptions{Origin: "list:x", Format: tt.format})
		if err != nil || r.Added != 2 || r.Rejected != len(tt.want) || len(r.Problems) != len(tt.want) {
			t.Errorf("%s: %+v, %v", tt.format, r, err)
			continue
		}
		for i, want := range tt.want {
			if got := r.Problems[i].String(); !strings.HasPrefix(got, want) || strings.ContainsRune(got, 0x1b) || len(got) > 400 {
				t.Errorf("%s: got %q, want %q", tt.format, got, want)
			}
		}
	}
}

func TestImportCountsWhatItDoesNotTellApart(t *testing.T) {
	f := newLog(t)
	if _, err := f.Import(t.Context(), strings.NewReader("192.0.2.1\n192.0.2.2\n"), decision.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	in := strings.Repeat("rubbish\n", 500) + "192.0.2.1\n192.0.2.2,news\n192.0.2.3\n192.0.2.3\n" + `# {"expires":"2020-01-01T00:00:00Z"}`
	r, err := f.Import(t.Context(), strings.NewReader(in), decision.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Rejected != 500 || len(r.Problems) != decision.MaxImportProblems || r.Added != 1 || r.Updated != 1 || r.Unchanged != 2 || r.Lines != 504 {
		t.Errorf("%+v", r)
	}
	r, err = f.Import(t.Context(), strings.NewReader(`{"value":"192.0.2.9","created":"2019-01-01T00:00:00Z","expires":"2020-01-01T00:00:00Z"}`), decision.ImportOptions{})
	if err != nil || r.Expired != 1 || r.Added+r.Rejected != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestImportEndsWithTheReaderTheContextOrTheLimit(t *testing.T) {
	broken := errors.New("connection reset")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		r    io.Reader
		want error
	}{
		{"reader", t.Context(), io.MultiReader(strings.NewReader("192.0.2.1\n"), iotest.ErrReader(broken)), broken},
		{"context", cancelled, strings.NewReader("192.0.2.1\n"), context.Canceled},
		{"JSON array", t.Context(), &endless{chunk: bytes.Repeat([]byte("[[[["), 1<<15)}, decision.ErrImportTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newLog(t)
			if _, err := f.Import(tt.ctx, tt.r, decision.ImportOptions{}); !errors.Is(err, tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// endless repeats chunk for ever.
type endless struct{ chunk []byte }

func (e *endless) Read(p []byte) (int, error) { return copy(p, e.chunk), nil }

func TestPublishedListsAreReadWithoutAProblem(t *testing.T) {
	for name, want := range map[string]int{"openai-ipv4.txt": 233, "googlebot-ipv6.txt": 24, "facebook-ipv4.txt": 27, "fake-googlebot-ips.list": 218} {
		f := newLog(t)
		file, err := os.Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		r, err := f.Import(t.Context(), file, decision.ImportOptions{Origin: "list:" + name})
		if err != nil || r.Added != want || r.Rejected != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		f.restart(t)
		if n := f.Set().Len(); n != want {
			t.Errorf("%s: %d after a restart", name, n)
		}
		if name == "openai-ipv4.txt" {
			m := f.Set().Lookup(&decision.Subject{Addr: netip.MustParseAddr("4.151.71.180")}, noon) // in 4.151.71.176/28
			if m.Weak.Action != defense.Challenge || m.Weak.Origin != "list:openai-ipv4.txt" || m.Strong.OK {
				t.Errorf("%+v", m)
			}
		}
	}
}

func FuzzImport(f *testing.F) {
	for _, s := range []string{
		"192.0.2.1\n192.0.2.0/24, x\n", "add s 192.0.2.1 timeout 5\n", "[sshd] Ban 192.0.2.1\n", "value,action\n\"192.0.2.1\",deny\n",
		`{"value":"192.0.2.1","action":"deny"}`, `[{"scope":"agent","value":"BadBot","action":"allow"}]`, "\"\",\"\"\"", "\ufeff::1",
	} {
		for _, format := range []string{"", "list", "csv", "ndjson", "json"} {
			f.Add(format, s)
		}
	}
	f.Fuzz(func(t *testing.T, format, in string) {
		log := decision.NewLog(decision.NewSet(nil), &memory{}, decision.LogOptions{Now: func() time.Time { return noon }})
		if _, err := log.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		r, _ := log.Import(t.Context(), strings.NewReader(in), decision.ImportOptions{Format: decision.Format(format)})
		if n := log.Set().Len(); n != r.Added {
			t.Errorf("%d added, %d there", r.Added, n)
		}
		if r.Lines != r.Added+r.Updated+r.Unchanged+r.Expired+r.Rejected {
			t.Errorf("the counts do not add up: %+v", r)
		}
		for _, p := range r.Problems {
			for _, c := range p.Problem {
				if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
					t.Errorf("a control character in %q", p.Problem)
				}
			}
		}
		for _, d := range log.Set().List(decision.Filter{}, noon, 100) {
			if again := d; again.Normalize() != nil || again.Value != d.Value {
				t.Errorf("not in canonical form: %+v", d)
			}
		}
		// What was accepted can be exported and read again.
		var out bytes.Buffer
		if err := log.Export(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		r2, err := log.Import(t.Context(), &out, decision.ImportOptions{Format: decision.FormatNDJSON, Force: true})
		if err != nil || r2.Rejected != 0 || r2.Unchanged != log.Set().Len() {
			t.Errorf("its own export: %+v, %v", r2, err)
		}
	})
}

// memory is a store without a disk.
type memory struct {
	state   decision.State
	changes map[uint64]decision.Change
}

func (m *memory) Commit(_ context.Context, b *decision.Batch) error {
	if m.changes == nil {
		m.changes = map[uint64]decision.Change{}
	}
	for _, seq := range b.Drop {
		delete(m.changes, seq)
	}
	for _, d := range b.Put {
		m.changes[d.Sequence] = decision.Change{Sequence: d.Sequence, Decision: &d}
	}
	for _, d := range b.Deleted {
		m.changes[d.Sequence] = decision.Change{Sequence: d.Sequence, Deleted: d.ID}
	}
	m.state = b.State
	return nil
}

func (m *memory) State(context.Context) (decision.State, error) { return m.state, nil }

func (m *memory) Changes(_ context.Context, after uint64, fn func(decision.Change) bool) error {
	for seq := after + 1; seq <= m.state.Last; seq++ {
		if c, ok := m.changes[seq]; ok && !fn(c) {
			return nil
		}
	}
	return nil
}

// millionLines is a list as large as the issue asks for.
func millionLines() string {
	var b strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&b, "%d.%d.%d.%d\n", 1+i%200, i>>16&255, i>>8&255, i&255)
	}
	return b.String()
}

func BenchmarkImportMillionThenLoad(b *testing.B) {
	in := millionLines()
	for b.Loop() {
		f := newLog(b)
		start := time.Now()
		r, err := f.Import(b.Context(), strings.NewReader(in), decision.ImportOptions{Origin: "list:big"})
		if err != nil || r.Added != 1_000_000 {
			b.Fatal(r, err)
		}
		imported := time.Now()
		if l := f.restart(b); l.Decisions != 1_000_000 {
			b.Fatal(l)
		}
		info, err := os.Stat(f.path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(imported.Sub(start).Seconds(), "import-s")
		b.ReportMetric(time.Since(imported).Seconds(), "load-s")
		b.ReportMetric(float64(info.Size())/1e6, "fileB/decision")
	}
}
