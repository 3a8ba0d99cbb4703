package redis

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/testserver"
	goredis "github.com/redis/go-redis/v9"
)

func TestWhatIsNoBatchIsBuriedAndStopsNobody(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})
	stream := s.key("queue")
	server.Do("XADD", stream, "*", "some", "thing")
	server.Do("XADD", stream, "*", "s", "edge", "t", "1", "n", "-5", "z", "1")
	server.Do("XADD", stream, "*", "s", "edge", "t", "1", "n", "1", "z", "99999999999999999999")
	server.Do("XADD", stream, "*", "s", "edge", "t", "1", "n", "1", "z", "5") // without a body
	if err := s.Queue().Append(t.Context(), queue.Batch{Body: []byte("good")}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time the first four are dead
		bs, err := s.Queue().Next(t.Context(), 10)
		if err != nil || len(bs) != 1 || string(bs[0].Body) != "good" {
			t.Fatalf("%+v, %v", bs, err)
		}
		s = open(t, s.o)
	}
	letters, err := s.Queue().Dead(t.Context(), "", 10)
	if err != nil || len(letters) != 4 {
		t.Fatal(letters, err)
	}
	for i, want := range []string{"not an entry", "-5 events", "out of range", "missing"} {
		if !strings.Contains(letters[i].Reason, want) {
			t.Errorf("%q, want %q", letters[i].Reason, want)
		}
	}
}

func TestWhatLiesBehindIsFound(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})
	server.Do("XADD", s.key("queue"), "5-0", "s", "", "t", "1", "n", "0", "z", "0")
	server.Do("HSET", s.key("bodies"), "5-0", "")
	if bs, err := s.Queue().Next(t.Context(), 10); err != nil || len(bs) != 1 {
		t.Fatal(bs, err)
	}
	// As after a failover to a server that had not got the last entries and whose clock is behind.
	server.Do("DEL", s.key("queue"))
	for _, id := range []string{"2-0", "3-0"} {
		server.Do("XADD", s.key("queue"), id, "s", "", "t", "1", "n", "0", "z", "1")
		server.Do("HSET", s.key("bodies"), id, "x")
	}
	for n := 0; n < 2; {
		bs, err := s.Queue().Next(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		n += len(bs)
	}
}

func TestNextBoundsWhatItHolds(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t, "--appendfsync", "no")
	s := open(t, Options{Options: redisconn.Options{Addresses: []string{server.Address}}})
	body := make([]byte, queue.MaxBody)
	for i := range 6 {
		copy(body, fmt.Sprint(i))
		if err := s.Queue().Append(t.Context(), queue.Batch{Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	take := func(want string) (ids []string) {
		t.Helper()
		bs, err := s.Queue().Next(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, b := range bs {
			got.WriteByte(b.Body[0])
			ids = append(ids, b.ID)
		}
		if got.String() != want {
			t.Errorf("got %s, want %s", got.String(), want)
		}
		return ids
	}
	first := take("0123")
	if err := s.Queue().Release(t.Context(), first[0], first[2], first[3]); err != nil {
		t.Fatal(err)
	}
	again := take("0234")
	if err := s.Queue().Release(t.Context(), append(again, first[1])...); err != nil {
		t.Fatal(err)
	}
	take("0123")
	take("45")
}

func TestIDsAreComparedAsNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"1-0", "1-0", 0}, {"9-0", "10-0", -1}, {"10-2", "10-10", -1}, {"18446744073709551615-1", "2-1", 1}} {
		if got := compareIDs(c.a, c.b); got != c.want {
			t.Errorf("%s, %s: %d", c.a, c.b, got)
		}
	}
	for _, bad := range []string{"", "1", "1-", "-1", "1-1-1", "01-1", "+1-1", " 1-1", "18446744073709551616-0", "1-1\n"} {
		if _, _, ok := parseID(bad); ok {
			t.Errorf("%q is an id", bad)
		}
	}
}

// FuzzHeader reads whatever somebody may have put into the stream.
func FuzzHeader(f *testing.F) {
	f.Add("edge", "1", "2", "3", "4", "", "5-0")
	f.Add("", "-1", "99999999999999999999", "x", "", "9", "")
	f.Fuzz(func(t *testing.T, s, at, n, z, a, u, b string) {
		h := parseHeader(goredis.XMessage{ID: "7-1", Values: map[string]any{"s": s, "t": at, "n": n, "z": z, "a": a, "u": u, "b": b}})
		if h.id != "7-1" || h.body == "" || h.damaged == nil && (h.size < 0 || h.size > queue.MaxBody || h.events < 0) {
			t.Errorf("%+v", h)
		}
	})
}
