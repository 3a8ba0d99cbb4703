package redemption

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

var one = defense.Redemption{Ticket: 1<<64 - 1, Visitor: 5, At: time.Unix(1_790_000_000, 0).UTC(), Share: 255}

type memory struct {
	m   *Memory
	err error
}

func (m memory) Redeem(_ context.Context, r defense.Redemption, keep time.Duration) (defense.Redemption, bool, error) {
	if keep != Keep {
		return r, false, errors.New("kept for another time")
	}
	first, known := m.m.Note(r)
	return first, known, m.err
}

func serve(t *testing.T, s Store) *Client {
	mux := http.NewServeMux()
	(&API{s}).Register(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return &Client{Base: srv.URL + "/", HTTP: srv.Client(), Key: "key"}
}

func TestTheFirstRedemptionOfATicketCountsForAll(t *testing.T) {
	c := serve(t, memory{m: NewMemory(100)})
	if first, known, err := c.Redeem(t.Context(), one); err != nil || known || first != one {
		t.Fatalf("%+v, %v, %v", first, known, err)
	}
	other := one
	other.Visitor, other.Share = 6, 3
	if first, known, err := c.Redeem(t.Context(), other); err != nil || !known || first.Visitor != 5 || first.Share != 255 || !first.At.Equal(one.At) {
		t.Errorf("%+v, %v, %v", first, known, err)
	}
}

func TestWhatCannotBeNotedIsAnError(t *testing.T) {
	c := serve(t, memory{m: NewMemory(100), err: errors.New("away")})
	if _, _, err := c.Redeem(t.Context(), one); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("store away: %v", err)
	}
	if _, _, err := c.Redeem(t.Context(), defense.Redemption{Ticket: 1}); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("incomplete: %v", err)
	}
	for name, answer := range map[string]string{"junk": "x", "another ticket": `{"first": {"ticket": "0000000000000007", "visitor": "0000000000000001", "at": "2026-11-25T12:00:00Z", "share": 1}}`, "endless": strings.Repeat(" ", 1<<20)} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(answer)) }))
		if _, _, err := (&Client{Base: srv.URL, HTTP: srv.Client()}).Redeem(t.Context(), one); err == nil {
			t.Errorf("%s: no error", name)
		}
		srv.Close()
	}
	for _, body := range []string{"", "[]", `{"ticket": -1}`, `{"ticket": "` + strings.Repeat("1", 2000) + `"}`} {
		mux := http.NewServeMux()
		(&API{memory{m: NewMemory(100)}}).Register(mux)
		w := httptest.NewRecorder()
		if mux.ServeHTTP(w, httptest.NewRequest("POST", Path, strings.NewReader(body))); w.Code != 400 {
			t.Errorf("%.20q: %d", body, w.Code)
		}
	}
}

func TestMemoryIsBoundedAndForgets(t *testing.T) {
	m := NewMemory(1 << 12)
	r := one
	for i := range defense.TokenID(100_000) {
		r.Ticket = i * 0x9E3779B97F4A7C15
		m.Note(r)
	}
	held := 0
	for i := range m.shards {
		held += len(m.shards[i].now) + len(m.shards[i].old)
	}
	if held > 1<<12 || m.Early() == 0 {
		t.Errorf("%d held, %d given up early", held, m.Early())
	}
	m = NewMemory(1 << 12)
	m.Note(one)
	r = one
	for _, step := range []struct {
		after time.Duration
		known bool
	}{{Keep, true}, {2*Keep + time.Minute, true}, {5 * Keep, false}} {
		r.At = one.At.Add(step.after)
		if _, known := m.Note(r); known != step.known && step.after <= Keep {
			t.Errorf("after %v known is %v", step.after, known)
		} else if step.after == 5*Keep && known {
			t.Error("never forgotten")
		}
	}
}
