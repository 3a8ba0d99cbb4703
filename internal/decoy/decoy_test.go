package decoy

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	seed   = []byte("a seed of at least 16 bytes")
	noon   = time.Date(2026, time.November, 26, 12, 34, 0, 0, time.UTC)
	reader = Client{netip.MustParseAddr("192.0.2.7"), noon}
)

// epoch is the one that begins on the day of noon.
const epoch = 2969

// words is a text of few words, with all that needs escaping.
type words struct{}

func (words) AppendSentence(dst []byte, r Source, n int) []byte {
	list := [...]string{"alder", "birch", "cedar", "\"dogwood\"", `elm\fig`, "g\tüm", "hazel\n", "iv\x00y", "|juniper`", "\xffk", "東京", "larch,"}
	for i := range n {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, list[below(r, len(list))]...)
	}
	return append(dst, '.')
}

func (w words) AppendTitle(dst []byte, r Source, n int) []byte {
	dst = w.AppendSentence(dst, r, n)
	return dst[:len(dst)-1]
}

// same is a text that can be compressed as far as can be.
type same struct{}

func (same) AppendSentence(dst []byte, r Source, n int) []byte {
	return append(dst, strings.Repeat("a", 8*n)...)
}

func (s same) AppendTitle(dst []byte, r Source, n int) []byte { return s.AppendSentence(dst, r, n) }

func makes(t testing.TB, text Text, o Options) *Decoy {
	t.Helper()
	d, err := New(seed, text, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t testing.TB, d *Decoy, path string, epoch int64, c Client) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := d.Write(t.Context(), &b, path, epoch, c); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b.Bytes()
}

// small keeps tests quick.
var small = Options{MaxBytes: 512 << 10}

// unpack returns the members of an archive by their names.
func unpack(t testing.TB, path string, b []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	add := func(name string, r io.Reader) {
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s in %s: %v", name, path, err)
		}
		if out[name] != nil {
			t.Errorf("%s is twice in %s", name, path)
		}
		out[name] = data
	}
	switch f, _ := formatOf(path); f {
	case formatZip:
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			add(f.Name, r) // the reader compares sizes and checksums
		}
	case formatTarGz:
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for a := tar.NewReader(z); ; {
			h, err := a.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			add(h.Name, a)
		}
		if _, err := io.Copy(io.Discard, z); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	default:
		add(path, bytes.NewReader(b))
	}
	return out
}

func unpacked(members map[string][]byte) (n int) {
	for _, b := range members {
		n += len(b)
	}
	return n
}

// record is a line of data.
type record struct{ ID, Revision, Created, Title, Text, SHA256, Contributors, Embedding string }

// recordsOf reads a file of records strictly.
func recordsOf(t testing.TB, name string, b []byte) (out []record) {
	t.Helper()
	if strings.HasSuffix(name, ".csv") {
		r := csv.NewReader(bytes.NewReader(b))
		all, err := r.ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := strings.Join(all[0], ",") + "\n"; got != csvHead {
			t.Errorf("%s begins with %q", name, got)
		}
		for _, f := range all[1:] {
			out = append(out, record{f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]})
		}
		return out
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		var r record
		if err := d.Decode(&r); err != nil {
			t.Fatalf("%s: %v: %.200q", name, err, lines.Bytes())
		}
		out = append(out, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

var paths = []string{"/archive-k3p7/trees.zip", "/archive-k3p7/trees.tar.gz", "/data/export.jsonl", "/data/export.CSV"}

func TestEveryRecordIsWellFormed(t *testing.T) {
	d := makes(t, words{}, small)
	for _, path := range paths {
		for name, data := range unpack(t, path, write(t, d, path, epoch, reader)) {
			name = strings.ToLower(name)
			if strings.HasSuffix(name, ".json") {
				if !json.Valid(data) {
					t.Errorf("%s in %s is no JSON: %s", name, path, data)
				}
				continue
			}
			if strings.HasSuffix(name, ".md") {
				continue
			}
			all := recordsOf(t, name, data)
			if len(all) < 2 {
				t.Errorf("%s in %s has %d records", name, path, len(all))
			}
			named := 0
			for _, r := range all {
				at, err := time.Parse(time.RFC3339, r.Created)
				if err != nil || at.After(noon) {
					t.Errorf("created at %q", r.Created)
				}
				if len(r.ID) != 16 || len(r.Revision) != 32 || len(r.SHA256) != 64 || r.Title == "" || r.Text == "" || len(r.Embedding)%4 != 0 {
					t.Errorf("in %s: %+v", name, r)
				}
				if r.Contributors != "" {
					named++
				}
			}
			if named == 0 {
				t.Errorf("nobody is named in %s", name)
			}
		}
	}
}

func TestArchivesHaveWhatSuchArchivesHave(t *testing.T) {
	d := makes(t, words{}, small)
	for _, path := range paths[:2] {
		members := unpack(t, path, write(t, d, path, epoch, reader))
		for _, name := range []string{"trees/README.md", "trees/metadata.json", "trees/index.csv", "trees/data/part-00000.jsonl", "trees/data/part-00001.jsonl"} {
			if len(members[name]) == 0 {
				t.Errorf("%s is not in %s", name, path)
			}
		}
	}
}

func TestOtherToolsAcceptTheArchives(t *testing.T) {
	d := makes(t, words{}, Options{MaxBytes: 1 << 20, Bombs: true})
	for path, tool := range map[string][]string{"/x/a.zip": {"unzip", "-tq"}, "/x/b.tar.gz": {"tar", "-tzf"}} {
		t.Run(tool[0], func(t *testing.T) {
			bin, err := exec.LookPath(tool[0])
			if err != nil {
				t.Skip("it is not installed")
			}
			at := filepath.Join(t.TempDir(), filepath.Base(path))
			if err := os.WriteFile(at, write(t, d, path, epoch, reader), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), bin, append(tool[1:], at)...).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestTheSameIsAlwaysTheSame(t *testing.T) {
	for _, path := range paths {
		a := write(t, makes(t, words{}, small), path, epoch, reader)
		if b := write(t, makes(t, words{}, small), path, epoch, reader); !bytes.Equal(a, b) {
			t.Errorf("%s differs from time to time", path)
		}
	}
}

// TestFilesStayWhatTheyAre fails when what is made changes: with that, every client that comes again could tell.
func TestFilesStayWhatTheyAre(t *testing.T) {
	want := map[string]uint32{"/data/export.jsonl": 0x83f35138, "/data/export.CSV": 0x0aa5b573}
	d := makes(t, words{}, small)
	for path, sum := range want {
		if got := crc32.ChecksumIEEE(write(t, d, path, epoch, reader)); got != sum {
			t.Errorf("%s has the sum %#x, had %#x", path, got, sum)
		}
	}
}

func TestAnythingElseMakesAnotherFile(t *testing.T) {
	d := makes(t, words{}, small)
	other, err := New([]byte("another seed of 16 bytes"), words{}, small)
	if err != nil {
		t.Fatal(err)
	}
	ids := func(d *Decoy, path string, epoch int64, c Client) string {
		var all []string
		for _, r := range recordsOf(t, path, write(t, d, path, epoch, c)) {
			all = append(all, r.ID, r.Title, r.Text)
		}
		return strings.Join(all, "\n")
	}
	base := ids(d, "/a.jsonl", epoch, reader)
	for name, got := range map[string]string{
		"another path":  ids(d, "/b.jsonl", epoch, reader),
		"another epoch": ids(d, "/a.jsonl", epoch+1, reader),
		"another seed":  ids(other, "/a.jsonl", epoch, reader),
	} {
		if got[:40] == base[:40] {
			t.Errorf("%s has the same file", name)
		}
	}
	if got := ids(d, "/a.jsonl", epoch, Client{netip.MustParseAddr("2001:db8::1"), noon}); got != base {
		t.Error("another client has other data, not just another mark")
	}
}

func TestArchivesStayWithinTheirBounds(t *testing.T) {
	for name, text := range map[string]Text{"a text": words{}, "one letter": same{}} {
		for _, o := range []Options{{MaxBytes: 512 << 10}, {MaxBytes: 512 << 10, MaxRatio: 4}, {MaxBytes: 2 << 20, MaxRatio: 8}} {
			t.Run(fmt.Sprint(name, o), func(t *testing.T) {
				d := makes(t, text, o)
				for i := range 3 {
					for _, path := range paths {
						path = fmt.Sprint("/", i, path)
						b := write(t, d, path, epoch, reader)
						n := unpacked(unpack(t, path, b))
						if int64(len(b)) > d.o.MaxBytes || int64(n) < d.o.MaxBytes/16 {
							t.Errorf("%s has %d bytes, unpacked %d", path, len(b), n)
						}
						if n > d.o.MaxRatio*len(b) {
							t.Errorf("%s becomes %.1f times as large", path, float64(n)/float64(len(b)))
						}
					}
				}
			})
		}
	}
}

func TestBombsAreThereOnlyWhenAskedFor(t *testing.T) {
	for _, path := range paths[:2] {
		o := small
		n := unpacked(unpack(t, path, write(t, makes(t, words{}, o), path, epoch, reader)))
		o.Bombs = true
		for i := range 4 { // also where the rest is least
			path := fmt.Sprint("/", i, path)
			b := write(t, makes(t, words{}, o), path, epoch, reader)
			members := unpack(t, path, b)
			with := unpacked(members)
			bomb := len(members["trees/data/archive-00000.csv"])
			if int64(n) > o.MaxBytes || int64(len(b)) > o.MaxBytes || int64(bomb) < 31*o.MaxBytes || with > 1000*len(b) {
				t.Errorf("%s: %d bytes without, %d with, of which %d are the bomb, in %d", path, n, with, bomb, len(b))
			}
		}
	}
}

func TestDatesFollowTheEpoch(t *testing.T) {
	d := makes(t, words{}, small)
	for _, e := range []int64{epoch, 0, -5, 1 << 62, -1 << 62} {
		b := write(t, d, "/a.zip", e, reader)
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		begin := d.dateOf(e)
		for _, f := range z.File {
			if age := begin.Sub(f.Modified); age < -2*time.Second || age > 72*time.Hour {
				t.Errorf("epoch %d begins at %v; %s is of %v", e, begin, f.Name, f.Modified)
			}
		}
	}
	if got := d.dateOf(epoch); got.Year() != 2026 {
		t.Errorf("epoch %d begins at %v", epoch, got)
	}
}

func TestWhatIsNoArchiveIsRefused(t *testing.T) {
	d := makes(t, words{}, small)
	for _, path := range []string{"", "/", "/a.html", "/zip", "/a.zip/", "/a.gz", "/a.tar", strings.Repeat("x", 1<<20)} {
		var b bytes.Buffer
		if err := d.Write(t.Context(), &b, path, epoch, reader); err == nil || b.Len() > 0 || len(err.Error()) > 300 {
			t.Errorf("%.20q: %d bytes, %v", path, b.Len(), err)
		}
		if ct := ContentType(path); ct != "" {
			t.Errorf("%.20q is of type %q", path, ct)
		}
	}
	for path, want := range map[string]string{
		"/a.zip": "application/zip", "/A.Tar.GZ": "application/gzip", "b.jsonl": "application/x-ndjson", ".csv": "text/csv; charset=utf-8",
	} {
		if got := ContentType(path); got != want {
			t.Errorf("%s is of type %q", path, got)
		}
	}
}

func TestFoldersHaveHarmlessNames(t *testing.T) {
	for path, want := range map[string]string{
		"/a/trees-2024_v1.2": "trees-2024_v1.2", "/a/../..": "-.", "/": "dataset", "": "dataset", "/a\\b\"c": "a-b-c", "/%2e%2e": "-2e-2e", "/\x00\n": "dataset",
		"/" + strings.Repeat("x", 300): strings.Repeat("x", maxName),
	} {
		if got := baseName(path); got != want {
			t.Errorf("%q becomes %q, want %q", path, got, want)
		}
	}
}

// failing is a client that goes after so many bytes.
type failing struct{ left int }

var errGone = errors.New("gone")

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errGone
	}
	return len(b), nil
}

func TestAClientThatGoesEndsTheWork(t *testing.T) {
	d := makes(t, words{}, Options{})
	for _, path := range paths {
		for _, n := range []int{0, 100, 50 << 10} {
			f := &failing{n}
			if err := d.Write(t.Context(), f, path, epoch, reader); !errors.Is(err, errGone) {
				t.Errorf("%s after %d bytes: %v", path, n, err)
			}
			if f.left < -stageLen {
				t.Errorf("%s: %d bytes more were offered at once", path, -f.left)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Write(ctx, io.Discard, path, epoch, reader); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAStreamTakesLittleMemory(t *testing.T) {
	for name, text := range map[string]Text{"a text": words{}, "one letter": same{}} {
		for _, o := range []Options{small, {MaxRatio: 4}, {Bombs: true, MaxBytes: 1 << 20}} {
			d := makes(t, text, o)
			for _, path := range paths {
				f, suffix := formatOf(path)
				x, s := d.file(path, suffix, epoch, reader), newStage(t.Context(), io.Discard)
				before := s.out.Cap()
				var err error
				switch f {
				case formatZip:
					err = x.zip(s)
				case formatTarGz:
					err = x.tarGz(s)
				default:
					err = x.plain(s, f)
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := s.out.Cap(); got != before || got+blockLen > 56<<10 {
					t.Errorf("%s, %s: the stage grew from %d to %d bytes", name, path, before, got)
				}
			}
		}
	}
}

func TestSenselessOptionsAreNamed(t *testing.T) {
	for want, o := range map[string]Options{
		"bytes": {MaxBytes: 1000}, "to 67108864": {MaxBytes: 1 << 40}, "times": {MaxRatio: 3}, "to 1000": {MaxRatio: 1001}, "epoch": {Epoch: time.Minute},
	} {
		if _, err := New(seed, words{}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := New(seed[:15], words{}, Options{}); err == nil || !strings.Contains(err.Error(), "seed") {
		t.Errorf("a short seed: %v", err)
	}
	if _, err := New(seed, nil, Options{}); err == nil || !strings.Contains(err.Error(), "text") {
		t.Errorf("no text: %v", err)
	}
}

func FuzzWrite(f *testing.F) {
	for _, path := range paths {
		f.Add(path, int64(epoch), []byte{192, 0, 2, 1}, int64(1764160440))
	}
	d := makes(f, words{}, small)
	f.Fuzz(func(t *testing.T, path string, epoch int64, address []byte, unix int64) {
		a, _ := netip.AddrFromSlice(address)
		var b bytes.Buffer
		if err := d.Write(t.Context(), &b, path, epoch, Client{a, time.Unix(unix, 0)}); err != nil {
			if ContentType(path) != "" {
				t.Error(err)
			}
			return
		}
		for name, data := range unpack(t, path, b.Bytes()) {
			if !slices.Contains([]string{"", "README.md", "metadata.json"}, name[strings.LastIndexByte(name, '/')+1:]) {
				recordsOf(t, strings.ToLower(name), data)
			}
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	d := makes(b, words{}, Options{})
	for _, path := range paths {
		b.Run(path[strings.IndexByte(path, '.')+1:], func(b *testing.B) {
			b.SetBytes(d.file(path, ".", epoch, reader).size)
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Write(b.Context(), io.Discard, path, epoch, reader); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
