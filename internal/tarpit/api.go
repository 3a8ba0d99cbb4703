package tarpit

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/quickthorn/quickthorn/internal/private"
)

// Report is what the tarpit says of itself. Durations are in seconds, sizes in bytes.
type Report struct {
	On      bool              `json:"on"`
	Pressed bool              `json:"pressed"` // nobody is let in while the machine is needed for readers
	Since   time.Time         `json:"since"`   // what is counted begins here
	Now     Held              `json:"now"`
	Them    Theirs            `json:"them"` // what it cost the clients
	Us      Ours              `json:"us"`   // what it cost us
	Shed    map[string]uint64 `json:"shed"` // clients that were not taken in, by reason
	Clients []Client          `json:"clients"`
}

// Held is who is in the tarpit now.
type Held struct {
	Connections int `json:"connections"` // answers under way, streams among them
	Streams     int `json:"streams"`
	Limit       int `json:"limit"` // of connections
}

// Theirs is what the tarpit cost those in it.
type Theirs struct {
	Seconds  float64 `json:"seconds"` // the sum of all stays
	Bytes    int64   `json:"bytes"`
	Pages    uint64  `json:"pages"` // answers of every kind
	Streams  uint64  `json:"streams"`
	Archives uint64  `json:"archives"`
	Depth    int     `json:"depth"` // the deepest page
}

// Ours is what the tarpit cost us.
type Ours struct {
	CPUSeconds float64 `json:"cpuSeconds"` // by the clock, while answers were made
	Bytes      int64   `json:"bytes"`
}

// Client is the account of one client.
type Client struct {
	Client     string    `json:"client"` // an address, or an IPv6 /64; "" if it has none
	Site       string    `json:"site"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
	Now        int       `json:"now"`
	Theirs               // what it cost the client
	CPUSeconds float64   `json:"cpuSeconds"`
	Refused    uint64    `json:"refused"` // requests beyond the day's pages
}

func theirs(a *Account) Theirs {
	return Theirs{Seconds: a.Held.Seconds(), Bytes: a.Bytes, Pages: a.Pages, Streams: a.Streams, Archives: a.Archives, Depth: a.Depth}
}

// Report returns the report, with at most n clients, those that were held longest first.
func (t *Tarpit) Report(n int) *Report {
	all := t.Total()
	r := &Report{
		On: t.On(), Pressed: t.pressed.Load(), Since: t.since.UTC(),
		Now:  Held{Connections: all.Now, Streams: t.o.Streams.Stats().Held, Limit: t.o.Limits.Connections},
		Them: theirs(&all), Us: Ours{CPUSeconds: all.Cost.Seconds(), Bytes: all.Bytes},
		Shed: map[string]uint64{}, Clients: []Client{},
	}
	for i := range t.shed {
		r.Shed[shedReason(i).String()] = t.shed[i].Load()
	}
	for _, c := range t.Clients(n) {
		name := ""
		if c.Client.IsValid() {
			if name = c.Client.String(); c.Client.IsSingleIP() {
				name = c.Client.Addr().String()
			}
		}
		r.Clients = append(r.Clients, Client{
			Client: name, Site: c.Site, First: c.First.UTC(), Last: c.Last.UTC(), Now: c.Now, Theirs: theirs(&c.Account),
			CPUSeconds: c.Cost.Seconds(), Refused: c.Spent,
		})
	}
	return r
}

// MaxClients is how many clients a report has at most.
const MaxClients = 1000

// Position is whether the tarpit takes clients in.
type Position struct {
	On bool `json:"on"`
}

// API serves /v1/tarpit on the private listener: GET the report, PUT the switch.
type API struct {
	Tarpit *Tarpit
	// Keep makes the switch's position last over a restart; nil: it does not.
	Keep func(ctx context.Context, on bool) error
}

// Register adds the routes.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/tarpit", func(w http.ResponseWriter, r *http.Request) {
		n := 20
		if s := r.URL.Query().Get("clients"); s != "" {
			var err error
			if n, err = strconv.Atoi(s); err != nil || n < 0 || n > MaxClients {
				private.Problem(w, http.StatusBadRequest, "clients: want a number from 0 to "+strconv.Itoa(MaxClients))
				return
			}
		}
		private.JSON(w, a.Tarpit.Report(n))
	})
	mux.HandleFunc("PUT /v1/tarpit", func(w http.ResponseWriter, r *http.Request) {
		var p struct {
			On *bool `json:"on"`
		}
		if err := private.ReadJSON(w, r, &p); err != nil {
			private.Problem(w, http.StatusBadRequest, err.Error())
			return
		}
		if p.On == nil {
			private.Problem(w, http.StatusBadRequest, `want {"on": true} or {"on": false}`)
			return
		}
		// Off is at once, and stays so also if it cannot be kept.
		if !*p.On {
			a.Tarpit.Switch(false)
		}
		if a.Keep != nil {
			if err := a.Keep(r.Context(), *p.On); err != nil {
				private.Problem(w, http.StatusServiceUnavailable, "the switch could not be kept: "+err.Error())
				return
			}
		}
		a.Tarpit.Switch(*p.On)
		private.JSON(w, Position{On: *p.On})
	})
}

// Setting is the name under which the switch's position is kept in the state store.
const Setting = "tarpit"

// Stored returns the position that was kept, on if there is none.
func Stored(ctx context.Context, s Settings) (bool, error) {
	b, err := s.Get(ctx, Setting)
	if err != nil {
		return true, fmt.Errorf("read the tarpit's switch: %w", err)
	}
	return string(b) != "off", nil
}

// Store keeps the position.
func Store(ctx context.Context, s Settings, on bool) error {
	value := "on"
	if !on {
		value = "off"
	}
	if err := s.Put(ctx, Setting, []byte(value)); err != nil {
		return fmt.Errorf("keep the tarpit's switch: %w", err)
	}
	return nil
}

// Settings keep small values durably; a value that was never put is nil.
type Settings interface {
	Get(ctx context.Context, name string) ([]byte, error)
	Put(ctx context.Context, name string, value []byte) error
}
