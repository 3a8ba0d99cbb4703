package maze

import (
	"bytes"
	"strings"
	"testing"
)

func TestAnEndlessPageIsTheSameInPiecesOfAnySize(t *testing.T) {
	for name, text := range map[string]Text{"plain": newPlainText(), "hostile": hostileText{}} {
		m, err := New(Options{Seed: bytes.Repeat([]byte("s"), 32), Prefix: "/p/", Text: text, Streams: 4})
		if err != nil {
			t.Fatal(err)
		}
		q := &Request{Site: "s", Host: "www.example.org", Path: "/p/some-page", WayOut: "/.quickthorn/way-out?to=%2Fp"}
		whole, first := m.Endless(nil, q)
		want := whole.Next(nil, 20_000)
		if len(want) != 20_000 {
			t.Fatalf("%s: %d bytes of 20,000", name, len(want))
		}
		for _, part := range []string{`content="noindex, nofollow"`, `href="/.quickthorn/way-out?to=%2Fp"`, "<title>"} {
			if !strings.Contains(string(first), part) {
				t.Errorf("%s: no %s in the beginning %s", name, part, first)
			}
		}
		if strings.Contains(string(want), "<script") {
			t.Errorf("%s: a text gets into the page unescaped", name)
		}
		pieces, again := m.Endless(nil, q)
		if !bytes.Equal(first, again) {
			t.Errorf("%s: two beginnings of one page differ", name)
		}
		var got []byte
		for n := 1; len(got) < len(want); n = n%97 + 5 {
			got = pieces.Next(got, min(n, len(want)-len(got)))
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: in pieces it is another text", name)
		}
		q.Path = "/p/another-page"
		other, _ := m.Endless(nil, q)
		if bytes.Equal(other.Next(nil, 1000), want[:1000]) {
			t.Errorf("%s: two pages have the same text", name)
		}
	}
}

func TestAnEndlessPageEndsWhereThereIsNothingToSay(t *testing.T) {
	m, err := New(Options{Seed: bytes.Repeat([]byte("s"), 32), Prefix: "/p/", Text: silentText{}})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := m.Endless(nil, &Request{Host: "h", Path: "/p/x"})
	if b := e.Next(nil, 100); len(b) != 0 {
		t.Errorf("%d bytes of silence", len(b))
	}
}
