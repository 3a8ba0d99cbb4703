package trap

import (
	"net/http"
	"strings"
	"testing"
)

var seed = []byte("a seed of thirty-two bytes, fixed")

func newTraps(t testing.TB) *Traps {
	t.Helper()
	traps, err := New(Options{Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	return traps
}

// linksOf returns the links that the page at a path gets.
func linksOf(traps *Traps, path string) string {
	w := traps.writers.Get().(*Writer)
	defer traps.writers.Put(w)
	return string(traps.appendLinks(nil, w.mac, path))
}

// mark stands for the links in documents of these tests.
const mark = "{links}"

// inserted sends a document through an inserter, cut at those places, and returns what came out.
func inserted(t testing.TB, document string, cuts ...int) string {
	t.Helper()
	var out strings.Builder
	s := inserter{to: &out, links: func() []byte { return []byte(mark) }}
	from := 0
	for _, cut := range append(cuts, len(document)) {
		if err := s.write([]byte(document[from:cut])); err != nil {
			t.Fatal(err)
		}
		from = cut
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// sink is a client that keeps nothing but counts.
type sink struct {
	header http.Header
	status int
	bytes  int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { s.bytes += len(p); return len(p), nil }
func (s *sink) FlushError() error           { return nil }
