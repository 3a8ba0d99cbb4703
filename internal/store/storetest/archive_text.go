package storetest

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store"
)

// hostile makes the nth event with those texts where a client, or who forges events, can put what they like.
func hostile(n int, texts ...string) *defense.Event {
	return Event(n, func(e *defense.Event) {
		at := 0
		next := func() string {
			at++
			return texts[at%len(texts)]
		}
		for _, to := range []*string{
			&e.Kind, &e.Site, &e.Edge, &e.RequestID, &e.Client.Country, &e.Client.Token,
			&e.Request.Method, &e.Request.Host, &e.Request.Path, &e.Request.Query, &e.Request.Class, &e.Request.Protocol, &e.Request.Agent, &e.Request.Referrer,
			&e.Request.Headers.Shape, &e.Request.Headers.Accept, &e.Request.Headers.AcceptLanguage, &e.Request.Headers.SecFetchSite,
			&e.Identity.Crawler, &e.Identity.How, &e.Verdict.Rule, &e.Verdict.Reason, &e.Verdict.Decision,
		} {
			*to = next()
		}
		e.Request.TLS = &defense.EventTLS{Version: next(), JA4: next()}
		e.Signals = []defense.Signal{{Name: next(), Weight: 1, Sentence: next()}}
		e.Verdict.Shadow = []defense.ShadowHit{{Rule: next()}}
		e.Challenge = &defense.EventOutcome{ID: next(), Kind: next(), Outcome: next()}
	})
}

// kept is the event as an archive that keeps queries has it.
func kept(t testing.TB, e *defense.Event) defense.Event {
	t.Helper()
	record.Bound(e)
	m := keepAll().Masker()
	e.Request.Query, e.Request.Referrer = m.Query(e.Request.Query), m.Referrer(e.Request.Referrer)
	// In JSON once, as the archive has it.
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var k defense.Event
	if err := json.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

// bait are texts that have broken programs.
func bait() []string {
	return []string{
		"", "\x00", "a\x00b", "\xff\xfe", "\xc3\x28", "\xed\xa0\x80", "\xf0\x9f", "\ufeff\u202e\u2028", "'; DROP TABLE events; --", `\`, `\x41\000`, `"\u0000"`, "{}", "NULL", "\\N", "\n\r\t\x1b[31m\x7f",
		"%00%s%n", "$1", "?", strings.Repeat("é", 3000), strings.Repeat("\x00", 3000), strings.Repeat("\xff", 3000), "a" + strings.Repeat("\xf0\x9f\x8c\xb9", 1000), "https://u:p@h/?token=\x00#\xff",
	}
}

func testABatchOfHostileTextComesBack(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	r := rand.New(rand.NewPCG(7, 11))
	texts := bait()
	for range 150 {
		b := make([]byte, r.IntN(300))
		for i := range b {
			// Many of the bytes that mean something to somebody.
			if b[i] = byte(r.Uint32()); r.IntN(3) == 0 {
				b[i] = "\x00'\"\\{}%$\xff\xc3\n"[r.IntN(11)]
			}
		}
		texts = append(texts, string(b))
	}
	var batch []*defense.Event
	var want []defense.Event
	for n := range 60 {
		r.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
		batch = append(batch, hostile(n, texts...))
		want = append([]defense.Event{kept(t, hostile(n, texts...))}, want...)
	}
	put(t, a, batch...)
	if diff := cmp.Diff(want, find(t, a, record.Filter{Limit: 1000})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// Filters meet the same texts.
	for _, s := range bait() {
		if len(s) > 512 {
			continue
		}
		for _, f := range []record.Filter{{ID: s}, {Site: s}, {Host: s}, {Path: s}, {Agent: s}, {Rule: s}, {Crawler: s}, {Event: s}, {Before: "1." + s}} {
			if _, err := a.Events(t.Context(), f); err != nil {
				t.Errorf("%+v: %v", f, err)
			}
		}
	}
	if _, err := a.Summary(t.Context(), Noon(), Noon().AddDate(0, 0, 1)); err != nil {
		t.Error(err)
	}
	if err := a.AddCounters(t.Context(), []record.Counter{{Hour: Noon(), Site: "\x00\xff", Count: math.MaxUint64}}); err != nil {
		t.Error(err)
	}
}

// FuzzArchiveText holds an archive to taking and giving back any text.
func FuzzArchiveText(f *testing.F, open func(*testing.F) store.Archive) {
	for _, s := range bait() {
		f.Add(s, s)
	}
	a, n := open(f), 0
	f.Fuzz(func(t *testing.T, x, y string) {
		n++
		e := hostile(n, x, y)
		want := kept(t, hostile(n, x, y))
		if _, err := a.Append(t.Context(), []*defense.Event{e}); err != nil {
			t.Fatal(err)
		}
		got := find(t, a, record.Filter{ID: want.ID})
		if len(got) != 1 {
			t.Fatalf("%d events with the id, want 1", len(got))
		}
		if diff := cmp.Diff(want, got[0]); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}
