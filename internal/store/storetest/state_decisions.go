package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/store"
)

// noon is when the suite's decisions are made.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// decisionID is a valid id that goes with a sequence.
func decisionID(seq uint64) string {
	return ulid.MustParse(fmt.Sprintf("01JQ00000%017d", seq%1e16)).String()
}

// numbered is a decision of that sequence.
func numbered(seq uint64) defense.Decision {
	return defense.Decision{
		ID: decisionID(seq), Scope: defense.ScopeAddress, Value: fmt.Sprintf("10.%d.%d.%d", seq>>16&255, seq>>8&255, seq&255),
		Action: defense.Deny, Origin: "operator", Created: noon(), Sequence: seq,
	}
}

func commit(t *testing.T, s decision.Store, b decision.Batch) {
	t.Helper()
	if err := s.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

// changes returns the changes after a sequence, each as "+SEQUENCE" or "-SEQUENCE ID".
func changes(t *testing.T, s decision.Store, after uint64) []string {
	t.Helper()
	var got []string
	err := s.Changes(t.Context(), after, func(c decision.Change) bool {
		switch {
		case c.Decision == nil:
			got = append(got, fmt.Sprintf("-%d %s", c.Sequence, c.Deleted))
		case c.Decision.Sequence != c.Sequence || c.Deleted != "":
			t.Errorf("a change of sequence %d with %+v", c.Sequence, c)
		default:
			got = append(got, fmt.Sprintf("+%d", c.Sequence))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func stands(t *testing.T, s decision.Store, want decision.State) {
	t.Helper()
	if got, err := s.State(t.Context()); err != nil || got != want {
		t.Errorf("stands at %+v, %v, want %+v", got, err, want)
	}
}

func decisions(t *testing.T, f StateFactory) {
	t.Run("a new store has none", func(t *testing.T) {
		s := f.Open(t)
		stands(t, s, decision.State{})
		if got := changes(t, s, 0); got != nil {
			t.Errorf("got %v", got)
		}
	})

	t.Run("every field comes back", func(t *testing.T) {
		s := f.Open(t)
		want := []defense.Decision{
			{
				ID: decisionID(1), Scope: defense.ScopeAgent, Value: `Bad"Bot/é`, Action: defense.Tarpit, Origin: "list:a b",
				Reason: strings.Repeat("ü", defense.MaxDecisionReason/2), CaseID: "case-1", Site: "wiki",
				Created: noon(), Expires: noon().Add(time.Hour), Sequence: 1,
			},
			{ID: decisionID(2), Scope: defense.ScopeRange, Value: "2001:db8::/32", Action: defense.Challenge, Origin: "engine", Sequence: 2},
		}
		commit(t, s, decision.Batch{State: decision.State{Last: 2}, Put: want})
		s = f.Reopen(t, s)
		var got []defense.Decision
		if err := s.Changes(t.Context(), 0, func(c decision.Change) bool {
			got = append(got, *c.Decision)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("changes come in the order of their sequences and a reopened store has them", func(t *testing.T) {
		s := f.Open(t)
		commit(t, s, decision.Batch{
			State: decision.State{Last: 5}, Put: []defense.Decision{numbered(1), numbered(2), numbered(5)},
			Deleted: []decision.Deletion{{Sequence: 3, ID: decisionID(900)}, {Sequence: 4, ID: decisionID(901)}},
		})
		commit(t, s, decision.Batch{
			State: decision.State{Last: 7, Floor: 3}, Put: []defense.Decision{numbered(6)}, Drop: []uint64{2, 77},
			Deleted: []decision.Deletion{{Sequence: 7, ID: decisionID(2)}},
		})
		want := []string{"+1", "-4 " + decisionID(901), "+5", "+6", "-7 " + decisionID(2)}
		for range 2 {
			stands(t, s, decision.State{Last: 7, Floor: 3})
			for after, from := range map[uint64]int{0: 0, 1: 1, 4: 2, 6: 4, 7: 5, 1 << 62: 5, 1<<64 - 1: 5} {
				if diff := cmp.Diff(want[from:], append([]string{}, changes(t, s, after)...)); diff != "" {
					t.Errorf("after %d: %s", after, diff)
				}
			}
			s = f.Reopen(t, s)
		}
	})

	t.Run("reading stops when it is told to", func(t *testing.T) {
		s := f.Open(t)
		commit(t, s, decision.Batch{State: decision.State{Last: 3}, Put: []defense.Decision{numbered(1), numbered(2), numbered(3)}})
		n := 0
		if err := s.Changes(t.Context(), 0, func(decision.Change) bool { n++; return n < 2 }); err != nil || n != 2 {
			t.Errorf("called %d times, %v", n, err)
		}
	})

	t.Run("the largest batch and large sequences keep their order", func(t *testing.T) {
		s := f.Open(t)
		const base = 1<<60 - 5000 // the last byte, the last two and the high half change on the way
		b := decision.Batch{State: decision.State{Last: base + decision.MaxBatch}}
		for i := range uint64(decision.MaxBatch) {
			if seq := base + 1 + i; i%3 == 2 {
				b.Deleted = append(b.Deleted, decision.Deletion{Sequence: seq, ID: decisionID(seq)})
			} else {
				b.Put = append(b.Put, numbered(seq))
			}
		}
		commit(t, s, b)
		next := uint64(base)
		if err := s.Changes(t.Context(), 0, func(c decision.Change) bool {
			next++
			if c.Sequence != next || (c.Decision == nil) != ((next-base-1)%3 == 2) {
				t.Errorf("got %d %v instead of %d", c.Sequence, c.Decision, next)
			}
			return !t.Failed()
		}); err != nil {
			t.Fatal(err)
		}
		if next != b.Last {
			t.Errorf("ended at %d, not %d", next, b.Last)
		}
		drop := decision.Batch{State: decision.State{Last: b.Last + 1, Floor: b.Last}}
		for i := range b.Put {
			drop.Drop = append(drop.Drop, b.Put[i].Sequence)
		}
		commit(t, s, drop)
		if got := changes(t, s, 0); len(got) != 0 {
			t.Errorf("%d changes are left", len(got))
		}
	})

	t.Run("a batch that nobody waits for any more is not there", func(t *testing.T) {
		s := f.Open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Commit(ctx, &decision.Batch{State: decision.State{Last: 1}, Put: []defense.Decision{numbered(1)}}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		stands(t, s, decision.State{})
	})

	t.Run("a log works on it and goes on after a restart", func(t *testing.T) {
		s := f.Open(t)
		l := load(t, s)
		ds := add(t, l, 1, 2, 3, 4)
		if n, err := l.Delete(t.Context(), ds[1].ID); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		longer := ds[0]
		longer.Reason = "again"
		if _, err := l.Add(t.Context(), []defense.Decision{longer}, decision.AddOptions{}); err != nil {
			t.Fatal(err)
		}
		page, err := l.Since(t.Context(), decision.Position{After: 2}, 2)
		if err != nil || len(page.Changes) != 2 || !page.More || page.Next.After != 4 {
			t.Fatalf("%+v, %v", page, err)
		}
		page, err = l.Since(t.Context(), page.Next, 10)
		if err != nil || len(page.Changes) != 2 || page.Changes[0].Deleted != ds[1].ID || page.Changes[1].Decision.Reason != "again" {
			t.Fatalf("%+v, %v", page, err)
		}
		s = f.Reopen(t, s)
		l = load(t, s)
		if n := l.Set().Len(); n != 3 {
			t.Errorf("%d decisions after a restart, want 3", n)
		}
		if got := add(t, l, 5); got[0].Sequence != 7 {
			t.Errorf("went on with sequence %d, want 7", got[0].Sequence)
		}
	})

	t.Run("who missed forgotten deletions is told", func(t *testing.T) {
		s := f.Open(t)
		commit(t, s, decision.Batch{State: decision.State{Last: 9, Floor: 8}, Put: []defense.Decision{numbered(9)}})
		l := load(t, s)
		if _, err := l.Since(t.Context(), decision.Position{After: 7}, 10); !errors.Is(err, decision.ErrBehind) {
			t.Errorf("after 7: %v", err)
		}
		if p, err := l.Since(t.Context(), decision.Position{After: 8}, 10); err != nil || len(p.Changes) != 1 {
			t.Errorf("after 8: %+v, %v", p, err)
		}
	})

	t.Run("who follows the log while it changes misses nothing", func(t *testing.T) {
		s := f.Open(t)
		l := load(t, s)
		have := map[string]uint64{} // id: sequence
		follow := func(at decision.Position) decision.Position {
			for {
				p, err := l.Since(t.Context(), at, 7)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range p.Changes {
					if c.Decision != nil {
						have[c.Decision.ID] = c.Sequence
					} else {
						delete(have, c.Deleted)
					}
				}
				if at = p.Next; !p.More {
					return at
				}
			}
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for i := range uint64(60) {
				ds := []defense.Decision{numbered(i), numbered(i + 1), numbered(1000 + i%5)}
				ds[2].Reason = fmt.Sprint("change ", i)
				ds, err := l.Add(t.Context(), ds, decision.AddOptions{})
				if err == nil && i%2 == 0 {
					_, err = l.Delete(t.Context(), ds[0].ID)
				}
				if err != nil {
					t.Error(err)
				}
			}
		}()
		var at decision.Position
		for running := true; running; {
			select {
			case <-ended:
				running = false
			default:
			}
			at = follow(at) // once more after the end
		}
		want := map[string]uint64{}
		for _, d := range l.Set().List(decision.Filter{}, noon(), 1000) {
			want[d.ID] = d.Sequence
		}
		if diff := cmp.Diff(want, have); diff != "" || len(want) == 0 {
			t.Error(diff)
		}
	})

	t.Run("of two logs the one that did not see the other's change is stopped", func(t *testing.T) {
		if f.Second == nil {
			t.Skip("only one process can have it open")
		}
		s := f.Open(t)
		other := f.Second(t, s)
		mine, theirs := load(t, s), load(t, other)
		add(t, theirs, 1)
		for range 2 { // it stays so until the log is loaded again
			_, err := mine.Add(t.Context(), []defense.Decision{numbered(2)}, decision.AddOptions{})
			if !errors.Is(err, store.ErrConflict) {
				t.Errorf("got %v", err)
			}
		}
		if n := mine.Set().Len(); n != 0 {
			t.Errorf("%d in force", n)
		}
		mine = load(t, s)
		if got := add(t, mine, 2); got[0].Sequence != 2 {
			t.Errorf("went on with sequence %d", got[0].Sequence)
		}
		if _, err := theirs.Delete(t.Context(), theirs.Set().List(decision.Filter{}, noon(), 1)[0].ID); !errors.Is(err, store.ErrConflict) {
			t.Errorf("the other one: %v", err)
		}
		if got := changes(t, other, 0); !slices.Equal(got, []string{"+1", "+2"}) {
			t.Errorf("left is %v", got)
		}
	})
}

func load(t *testing.T, s decision.Store) *decision.Log {
	t.Helper()
	l := decision.NewLog(decision.NewSet(nil), s, decision.LogOptions{Now: noon})
	if _, err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func add(t *testing.T, l *decision.Log, numbers ...uint64) []defense.Decision {
	t.Helper()
	var ds []defense.Decision
	for _, n := range numbers {
		ds = append(ds, numbered(n))
	}
	ds, err := l.Add(t.Context(), ds, decision.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func settings(t *testing.T, f StateFactory) {
	s := f.Open(t)
	get := func(key, want string) {
		t.Helper()
		if v, err := s.Settings().Get(t.Context(), key); err != nil || string(v) != want || (v == nil) != (want == "") {
			t.Errorf("%s is %q, %v, want %q", key, v, err, want)
		}
	}
	put := func(key, value string) {
		t.Helper()
		if err := s.Settings().Put(t.Context(), key, []byte(value)); err != nil {
			t.Error(err)
		}
	}
	get("mode", "")
	put("mode", "observe")
	put("mode", "enforce")
	put("bytes", "\x00\xff\r\n")
	put("largest", strings.Repeat("x", store.MaxSetting))
	if err := s.Settings().Put(t.Context(), "mode", make([]byte, store.MaxSetting+1)); err == nil || !strings.Contains(err.Error(), "at most 65536") {
		t.Errorf("too large: %v", err)
	}
	if err := s.Settings().Put(t.Context(), "", []byte("x")); err == nil || !strings.Contains(err.Error(), `putting setting ""`) {
		t.Errorf("without a key: %v", err)
	}
	s = f.Reopen(t, s)
	get("mode", "enforce")
	get("bytes", "\x00\xff\r\n")
	get("largest", strings.Repeat("x", store.MaxSetting))
	get("Mode", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Settings().Put(ctx, "mode", []byte("off")); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
	get("mode", "enforce")
}
