package spendredis

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/llm/spend/spendtest"
	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

func TestTheBooksAreKept(t *testing.T) {
	t.Parallel()
	address, prefix := testserver.Redis(t).Address, ""
	open := func(t *testing.T) spend.Store {
		s, err := Open(redisconn.Options{Addresses: []string{address}, Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	spendtest.Store(t, spendtest.Factory{
		Open: func(t *testing.T) spend.Store {
			prefix = rand.Text() + ":"
			return open(t)
		},
		Crash: func(t *testing.T, _ spend.Store) spend.Store { return open(t) },
		Later: func(t *testing.T, s spend.Store) { // the time is the server's: what holds is made old instead
			st := s.(*Store)
			key := st.key("blog", 20000)
			all, err := st.client.HGetAll(t.Context(), key).Result()
			if err != nil || len(all) == 0 {
				t.Fatalf("%v, %v", all, err)
			}
			for f, v := range all {
				if rest, ok := strings.CutPrefix(f, "l:"); ok {
					_, amounts, _ := strings.Cut(v, " ")
					if err := st.client.HSet(t.Context(), key, "l:"+rest, "1 "+amounts).Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
	})
}
