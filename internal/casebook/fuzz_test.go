package casebook

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// FuzzBook shows a book whatever decodes as an event, again and again as a campaign would, and lets time pass.
func FuzzBook(f *testing.F) {
	f.Add([]byte(`{"kind":"request","time":"2026-11-25T12:00:00Z","site":"wiki","client":{"address":"2001:db8::1"},"request":{"method":"GET","path":"/a/1","query":"b=2","kind":"navigation","headers":{"shape":"9f2c41d07b3ea865"}},"response":{"status":200}}`), uint8(40))
	f.Add([]byte(`{"kind":"trap","time":"2026-11-25T12:00:00Z","client":{"address":"::ffff:192.0.2.1%1","token":"x"}}`), uint8(3))
	f.Add([]byte(`{"kind":"challenge","time":"9999-12-31T23:59:59Z","client":{"address":"192.0.2.1"},"challenge":{"outcome":"issued"},"request":{"kind":"navigation"},"response":{"duration":1e308}}`), uint8(90))
	f.Fuzz(func(t *testing.T, text []byte, n uint8) {
		var e defense.Event
		if json.Unmarshal(text, &e) != nil {
			return
		}
		now := start
		b := New(Options{MaxClients: 50, MaxCampaigns: 10, MaxCases: 5, MinMembers: 3, NewID: func() string { return now.String() }, Now: func() time.Time { return now }})
		address := e.Client.Address
		for i := range n {
			if e.Client.Address = address; i%2 == 1 {
				e.Client.Address = netip.AddrFrom4([4]byte{10, i, i % 3, 1}).String()
			}
			b.Observe(&e)
			now = now.Add(time.Duration(i) * time.Second)
			e.Time = e.Time.Add(time.Duration(i) * time.Second)
			b.Tick(now)
			for _, c := range b.Due(now, 10) {
				b.Judged(c.ID, c.Revision, &defense.Judgement{Outcome: defense.OutcomeDecided}, []string{"d"}, now)
				if _, err := json.Marshal(c); err != nil {
					t.Errorf("a case cannot be written: %v", err)
				}
			}
		}
		b.Forget(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
		now = now.Add(100 * time.Hour)
		b.Tick(now)
		if s := b.Stats(); s.Clients > 50 || s.Campaigns > 10 {
			t.Errorf("over the bounds: %+v", s)
		}
	})
}
