package sse

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func read(r io.Reader) (events []string, err error) {
	s := NewReader(r)
	for {
		e, err := s.Next()
		if err != nil {
			return events, err
		}
		events = append(events, e.Name+"|"+string(e.Data))
	}
}

func TestEventsAreReadAsTheStandardSays(t *testing.T) {
	for _, tt := range []struct {
		name, stream, want string
		err                error
	}{
		{"one", "data: hello\n\n", "|hello", io.EOF},
		{"a name", "event: delta\ndata: {}\n\n", "delta|{}", io.EOF},
		{"several lines", "data: a\ndata:b\ndata:  c\ndata\n\n", "|a\nb\n c\n", io.EOF},
		{"ends of lines", "data: a\r\n\r\ndata: b\r\rdata: c\n\n", "|a;|b;|c", io.EOF},
		{"comments, other fields and empty events", ": ping\n\nid: 7\nretry: 10\nevent: x\n\ndata: a\n\n\n\n", "|a", io.EOF},
		{"a name is of one event", "event: x\n\ndata: a\n\n", "|a", io.EOF},
		{"a byte order mark", "\ufeffdata: a\n\n", "|a", io.EOF},
		{"nothing", "", "", io.EOF},
		{"broken off within a line", "data: a\n\ndata: b", "|a", io.ErrUnexpectedEOF},
		{"broken off within an event", "data: a\n\ndata: b\n", "|a", io.ErrUnexpectedEOF},
		{"broken off behind a name", "event: x\n", "", io.ErrUnexpectedEOF},
		{"too large", "data: " + strings.Repeat("x", MaxEvent) + "\n\n", "", ErrLarge},
		{"too large in many lines", strings.Repeat("data: "+strings.Repeat("x", 1<<16)+"\n", MaxEvent>>16) + "\n", "", ErrLarge},
	} {
		for cut, r := range map[string]io.Reader{"whole": strings.NewReader(tt.stream), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.stream))} {
			events, err := read(r)
			if got := strings.Join(events, ";"); got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%s, %s: %.100q, %v; want %q, %v", tt.name, cut, got, err, tt.want, tt.err)
			}
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add("event: a\ndata: b\n\n: c\r\rdata")
	f.Fuzz(func(t *testing.T, s string) {
		one, err := read(strings.NewReader(s))
		two, other := read(iotest.HalfReader(strings.NewReader(s)))
		if strings.Join(one, ";") != strings.Join(two, ";") || !errors.Is(other, err) {
			t.Errorf("%q, %v; in pieces %q, %v", one, err, two, other)
		}
	})
}
