package simulate

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/upstream"
)

// Clock is a virtual clock. Its Now is what everything that judges in a simulation takes for the time. It is safe for concurrent use.
type Clock struct{ now atomic.Int64 }

// NewClock returns a clock that shows that time.
func NewClock(start time.Time) *Clock {
	c := &Clock{}
	c.set(start)
	return c
}

// Now returns the virtual time, in UTC.
func (c *Clock) Now() time.Time { return time.Unix(0, c.now.Load()).UTC() }

// Wait lets virtual time pass within the request that is being played: what waits takes no real time. Other requests, which are
// played before or after, do not see it.
func (c *Clock) Wait(d time.Duration) {
	if d > 0 {
		c.now.Add(int64(d))
	}
}

func (c *Clock) set(t time.Time) { c.now.Store(t.UnixNano()) }

// LoadOptions say what a server can do. Zero fields have their defaults.
type LoadOptions struct {
	Workers int           // that work side by side; default 2
	Speed   float64       // 1: a page takes its worker as long as [Site.Cost] says; use the scenario's scale, so that few clients find a small server. Default 1
	MaxWait time.Duration // a request that would wait longer is refused with 503; default 12 s
}

// Load is the capacity of a server: requests wait in one line for a few workers. It is safe for concurrent use.
type Load struct {
	o    LoadOptions
	mu   sync.Mutex
	free []time.Time // when each worker will be
}

// NewLoad returns an idle server.
func NewLoad(o LoadOptions) *Load {
	if o.Workers <= 0 {
		o.Workers = 2
	}
	if o.Speed <= 0 {
		o.Speed = 1
	}
	if o.MaxWait <= 0 {
		o.MaxWait = 12 * time.Second
	}
	return &Load{o: o, free: make([]time.Time, o.Workers)}
}

// Take enters a request that costs a worker that long. It returns how long the answer takes; ok is false if the server refuses,
// which takes no time. What costs less than a millisecond never waits.
func (l *Load) Take(now time.Time, cost time.Duration) (latency time.Duration, ok bool) {
	if cost < time.Millisecond { // a file, which a server hands out beside its work
		return cost, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	next := 0
	for i, t := range l.free {
		if t.Before(l.free[next]) {
			next = i
		}
	}
	begin := now
	if l.free[next].After(now) {
		begin = l.free[next]
	}
	if begin.Sub(now) > l.o.MaxWait {
		return 0, false
	}
	end := begin.Add(time.Duration(float64(cost) / l.o.Speed))
	l.free[next] = end
	return end.Sub(now), true
}

// Upstream is the synthetic site behind an edge, without a network between them: an [edge.Forwarder].
type Upstream struct {
	Site *Site
	Load *Load            // nil: answers take no time
	Now  func() time.Time // the clock's
	Wait func(time.Duration)
}

// Forward answers as the site, after as long as its load makes it take.
func (u *Upstream) Forward(w http.ResponseWriter, r *http.Request, o *upstream.Options) (upstream.Result, error) {
	target := r.URL.RequestURI()
	var res upstream.Result
	ok := true
	if u.Load != nil {
		if res.HeaderDuration, ok = u.Load.Take(u.Now(), u.Site.Cost(target)); ok {
			u.Wait(res.HeaderDuration)
		}
	}
	a := &announcer{ResponseWriter: w, res: &res}
	if o != nil {
		a.onHeader = o.OnHeader
	}
	if ok {
		u.Site.ServeHTTP(a, r)
	} else {
		http.Error(a, "overloaded", http.StatusServiceUnavailable)
	}
	if !res.Started {
		a.WriteHeader(http.StatusOK)
	}
	return res, nil
}

// ServeHTTP serves the site under its load without an edge.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = u.Forward(w, r, nil) // never fails
}

// announcer calls onHeader and counts.
type announcer struct {
	http.ResponseWriter
	onHeader func(int, http.Header)
	res      *upstream.Result
}

// WriteHeader announces the header.
func (a *announcer) WriteHeader(status int) {
	if !a.res.Started {
		a.res.Started, a.res.Status = true, status
		if a.onHeader != nil {
			a.onHeader(status, a.Header())
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write sends the body.
func (a *announcer) Write(b []byte) (int, error) {
	if !a.res.Started {
		a.WriteHeader(http.StatusOK)
	}
	n, err := a.ResponseWriter.Write(b)
	a.res.Bytes += int64(n)
	return n, err
}
