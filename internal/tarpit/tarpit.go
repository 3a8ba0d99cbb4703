// Package tarpit keeps clients that are judged to be scrapers busy: whatever they ask for is a page of an endless maze, now and then a
// stream that drips or a made-up archive. It knows who is in it, what that costs them and what it costs us, and it never takes more of the
// machine than it was given: beyond its bounds it takes nobody in, and the edge refuses as it would without a tarpit.
package tarpit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/decoy"
	"github.com/quickthorn/quickthorn/internal/drip"
	"github.com/quickthorn/quickthorn/internal/maze"
	"github.com/quickthorn/quickthorn/internal/tarpit/entry"
)

// Limits bound what the tarpit takes of the machine and of the network.
type Limits struct {
	Connections int           // clients that are answered or held at once
	Bandwidth   int64         // bytes a second in all; 0: no bound
	CPU         float64       // share of one processor for making answers, averaged over a second
	Daily       int64         // bytes a day (UTC) in all; 0: no bound
	Hops        int           // answers a day (UTC) and client; 0: no bound
	MinDelay    time.Duration // shortest wait before a page
	MaxDelay    time.Duration // longest one
	StreamMax   time.Duration // longest stream
	ArchiveRate int64         // bytes a second of one archive; 0: no bound
	Clients     int           // accounts kept
}

// Options are the parts of a Tarpit. All but Pressed and Drained are required.
type Options struct {
	Maze     *maze.Maze
	Archives *decoy.Decoy
	Streams  *drip.Wheel
	Limits   Limits
	Epoch    time.Duration // how long archives stay the same; that of Archives
	Now      func() time.Time
	// Prepare, if it is not nil, makes what is made late. It is called once, when the first client is let in, and is not on anybody's account.
	Prepare func()
	// Pressed reports whether the machine is needed for readers: while it is, nobody is let in, and who is held is let go. nil: it never is.
	Pressed func() bool
	Drained <-chan struct{} // closed when the program begins to end: nobody is let in any more, and who is held is let go; nil: it never is
}

// Tarpit answers the clients that are in it. It may be used by many goroutines at once. It holds streams only while Run runs.
type Tarpit struct {
	o       Options
	mazes   sync.Map // of *maze.Maze, by site: where it is another than that of Options
	off     atomic.Bool
	pressed atomic.Bool
	places  chan struct{}
	cpu     bucket // of nanoseconds
	bytes   bucket
	daily   daily
	book    accounts
	shed    [shedReasons]atomic.Uint64
	since   time.Time
	buffers sync.Pool

	mu      sync.Mutex
	release chan struct{} // closed to let go whoever is held
	ready   sync.Once
}

// shedReason is why a client was not taken in.
type shedReason uint8

const (
	shedOff shedReason = iota
	shedPressed
	shedPlaces
	shedCPU
	shedBandwidth
	shedDaily
	shedHops
	shedReasons
)

// String is the reason as in metrics.
func (r shedReason) String() string {
	return [shedReasons]string{"off", "pressure", "connections", "cpu", "bandwidth", "daily", "hops"}[r]
}

// New returns a tarpit that is switched on.
func New(o Options) (*Tarpit, error) {
	switch l := &o.Limits; {
	case l.Connections <= 0:
		return nil, errors.New("tarpit: at least one connection must be allowed")
	case l.CPU <= 0:
		return nil, errors.New("tarpit: some share of a processor must be allowed")
	case o.Epoch < time.Hour:
		return nil, errors.New("tarpit: archives must stay the same for at least an hour")
	case l.Bandwidth < 0 || l.Daily < 0 || l.Hops < 0 || l.MinDelay < 0 || l.MaxDelay < 0 || l.StreamMax < 0 || l.ArchiveRate < 0:
		return nil, errors.New("tarpit: a bound below 0 bounds nothing")
	}
	now := o.Now()
	t := &Tarpit{
		o: o, places: make(chan struct{}, o.Limits.Connections), daily: daily{limit: o.Limits.Daily},
		cpu:   newBucket(o.Limits.CPU*float64(time.Second), now),
		bytes: newBucket(float64(o.Limits.Bandwidth), now),
		book:  newAccounts(o.Limits.Clients, now), since: now, release: make(chan struct{}),
	}
	t.buffers.New = func() any { b := make([]byte, 0, 32<<10); return &b }
	return t, nil
}

// Redress gives a site a maze of its own from now on. Addresses stay good if it has the seed and the prefix of the one before.
func (t *Tarpit) Redress(site string, m *maze.Maze) { t.mazes.Store(site, m) }

func (t *Tarpit) mazeOf(site string) *maze.Maze {
	if m, ok := t.mazes.Load(site); ok {
		return m.(*maze.Maze)
	}
	return t.o.Maze
}

// lookEvery is how often the pressure is looked at.
const lookEvery = 250 * time.Millisecond

// Run holds streams and watches the pressure until ctx ends, and then lets go whoever is held.
func (t *Tarpit) Run(ctx context.Context) error {
	var group sync.WaitGroup
	var err error
	group.Go(func() { err = t.o.Streams.Run(ctx) })
	defer group.Wait()
	defer t.Release()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	drained := t.o.Drained
	for {
		select {
		case <-drained:
			t.Switch(false)
			drained = nil
		case <-ctx.Done():
			group.Wait()
			if errors.Is(err, ctx.Err()) {
				return nil
			}
			return err
		case <-tick.C:
			if t.o.Pressed == nil {
				continue
			}
			now := t.o.Pressed()
			if now && !t.pressed.Swap(true) {
				t.Release()
			} else if !now {
				t.pressed.Store(false)
			}
		}
	}
}

// On reports whether the tarpit takes clients in.
func (t *Tarpit) On() bool { return !t.off.Load() }

// Switch turns the tarpit off or on. Off lets go whoever is held, at once.
func (t *Tarpit) Switch(on bool) {
	t.off.Store(!on)
	t.o.Streams.SetOff(!on)
	if !on {
		t.Release()
	}
}

// Held is how many answers are under way, streams among them.
func (t *Tarpit) Held() int { return len(t.places) }

// Release lets go whoever is held: streams and archives end, pages that wait come at once.
func (t *Tarpit) Release() {
	t.mu.Lock()
	close(t.release)
	t.release = make(chan struct{})
	t.mu.Unlock()
	t.o.Streams.Drain()
}

func (t *Tarpit) released() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.release
}

// Enter answers the guest's request. When it returns Taken, done is called once with what the stay cost: before Enter returns, or
// later and from another goroutine when the connection was taken over; then w must not be touched any more. Otherwise nothing was
// written and done is not called.
func (t *Tarpit) Enter(w http.ResponseWriter, r *http.Request, g *entry.Guest, done func(entry.Stay)) entry.Refusal {
	now := t.o.Now()
	m := t.mazeOf(g.Site)
	path := r.URL.EscapedPath()
	release := t.released() // before off is looked at, so that neither is missed
	if reason, ok := t.admit(g, now, m.Depth(path)); !ok {
		t.shed[reason].Add(1)
		if reason == shedHops {
			return entry.Spent
		}
		return entry.Full
	}
	if t.o.Prepare != nil {
		t.ready.Do(t.o.Prepare)
	}
	// The place is given back by whatever ends the stay.
	v := &stay{t: t, m: m, g: *g, start: now, done: done, depth: m.Depth(path), kind: m.Kind(path), release: release}
	reads := r.Method == http.MethodGet
	switch {
	case v.kind == maze.KindStream && reads && t.stream(w, r, v):
	case v.kind == maze.KindArchive && reads:
		t.archive(w, r, v)
	default: // also where there is no place for a stream: a page is a plausible answer too
		t.page(w, r, v)
	}
	return entry.Taken
}

// admit takes a place for the guest, or says why there is none.
func (t *Tarpit) admit(g *entry.Guest, now time.Time, depth int) (shedReason, bool) {
	switch {
	case t.off.Load():
		return shedOff, false
	case t.pressed.Load():
		return shedPressed, false
	case !t.cpu.positive(now):
		return shedCPU, false
	case t.o.Limits.Bandwidth > 0 && !t.bytes.positive(now):
		return shedBandwidth, false
	case t.daily.spent(now):
		return shedDaily, false
	}
	select {
	case t.places <- struct{}{}:
	default:
		return shedPlaces, false
	}
	if !t.book.arrive(g, now, depth, t.o.Limits.Hops) {
		<-t.places
		return shedHops, false
	}
	return 0, true
}

// stay is one request under way.
type stay struct {
	t       *Tarpit
	m       *maze.Maze
	g       entry.Guest
	kind    maze.Kind
	start   time.Time
	done    func(entry.Stay)
	depth   int
	cost    time.Duration
	release <-chan struct{}
}

// request is what the maze is asked for.
func (v *stay) request(r *http.Request) *maze.Request {
	return &maze.Request{Site: v.g.Site, Scheme: v.g.Scheme, Host: r.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, WayOut: v.g.WayOut}
}

// end accounts for the stay. Bytes that were not taken from the budget yet are spent.
func (v *stay) end(kind maze.Kind, status int, sent, spent int64) {
	t := v.t
	now := t.o.Now()
	s := entry.Stay{Status: status, Held: max(0, now.Sub(v.start)), Bytes: sent, Depth: v.depth, Cost: v.cost}
	if spent > 0 {
		t.bytes.take(float64(spent), now)
	}
	t.daily.take(sent, now)
	t.book.leave(v.g.Client, kind, &s, now)
	<-t.places
	v.done(s)
}

// spend adds the time that making an answer took to the stay's cost and takes it from the processor's share.
func (v *stay) spend(begin time.Time) {
	d := time.Since(begin)
	v.cost += d
	v.t.cpu.take(float64(d), v.t.o.Now())
}

// wait waits, or less when the client is gone or let go. It reports whether the client is there.
func (v *stay) wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-v.release:
	case <-ctx.Done():
		return false
	}
	return true
}

// header sets what every answer of the maze carries: it is not for any index, and no cache is to keep it.
func header(h http.Header, depth int) {
	h.Set("X-Robots-Tag", robots)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if relayed(h) {
		h.Set(entry.HeaderStay, "depth="+strconv.Itoa(depth))
	}
}

const robots = "noindex, nofollow, noarchive"

// page answers with a page of the maze.
func (t *Tarpit) page(w http.ResponseWriter, r *http.Request, v *stay) {
	buffer := t.buffers.Get().(*[]byte)
	defer t.buffers.Put(buffer)
	begin := time.Now()
	var pg maze.Page
	pg, *buffer = v.m.Page((*buffer)[:0], v.request(r))
	v.spend(begin)
	body := *buffer
	h := w.Header()
	header(h, v.depth)
	h.Set("Content-Type", pg.ContentType)
	if pg.ETag != "" {
		h.Set("ETag", pg.ETag)
	}
	if !pg.Modified.IsZero() {
		h.Set("Last-Modified", pg.Modified.UTC().Format(http.TimeFormat))
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	var sent int64
	// Whatever ends the answer ends the stay, also a panic of net/http's.
	defer func() { v.end(pg.Kind, pg.Status, sent, sent) }()
	if !v.wait(r.Context(), min(max(pg.Delay, t.o.Limits.MinDelay), t.o.Limits.MaxDelay)) {
		return
	}
	w.WriteHeader(pg.Status)
	if r.Method == http.MethodHead {
		return
	}
	n, _ := w.Write(body) // an error means that the client is gone, which is its own loss
	sent = int64(n)
}

// archive answers with a made-up archive.
func (t *Tarpit) archive(w http.ResponseWriter, r *http.Request, v *stay) {
	path := r.URL.EscapedPath()
	h := w.Header()
	header(h, v.depth)
	h.Set("Content-Type", decoy.ContentType(path))
	if r.ProtoMajor == 1 {
		h.Set("Connection", "close") // the deadlines below are left on it
	}
	p := &paced{v: v, w: w, ctx: r.Context(), rate: t.o.Limits.ArchiveRate, control: http.NewResponseController(w), start: time.Now(), began: time.Now()}
	defer func() { v.end(maze.KindArchive, http.StatusOK, p.sent, 0) }()
	w.WriteHeader(http.StatusOK)
	err := t.o.Archives.Write(r.Context(), p, path, v.start.Unix()/int64(t.o.Epoch/time.Second), decoy.Client{Address: v.g.Address, Time: v.start})
	v.spend(p.began)
	if err != nil {
		panic(http.ErrAbortHandler) // cutting the connection says that the rest is missing
	}
}

// pieceTime is how long a client may leave a piece of an archive unread.
const pieceTime = 60 * time.Second

var errReleased = errors.New("tarpit: whoever was held has been let go")

// paced writes an archive at its rate and within the bandwidth of all. What passes between two writes is the cost of making it.
type paced struct {
	v       *stay
	w       http.ResponseWriter
	ctx     context.Context
	control *http.ResponseController
	rate    int64
	start   time.Time
	began   time.Time // when making the next piece began
	sent    int64
}

// Write writes in small pieces, each when its time has come.
func (p *paced) Write(b []byte) (n int, err error) {
	p.v.spend(p.began)
	defer func() { p.began = time.Now() }()
	for len(b) > 0 {
		piece := b[:min(len(b), 4<<10)]
		if p.rate > 0 {
			due := p.start.Add(time.Duration(float64(p.sent) / float64(p.rate) * float64(time.Second)))
			if !p.v.wait(p.ctx, time.Until(due)) {
				return n, p.ctx.Err()
			}
		}
		for p.v.t.o.Limits.Bandwidth > 0 && !p.v.t.bytes.positive(p.v.t.o.Now()) {
			if !p.v.wait(p.ctx, 100*time.Millisecond) {
				return n, p.ctx.Err()
			}
			select {
			case <-p.v.release:
				return n, errReleased
			default:
			}
		}
		select {
		case <-p.v.release:
			return n, errReleased
		default:
		}
		_ = p.control.SetWriteDeadline(time.Now().Add(pieceTime)) // without deadlines the server's own bounds hold
		m, err := p.w.Write(piece)
		n += m
		p.sent += int64(m)
		p.v.t.bytes.take(float64(m), p.v.t.o.Now())
		if err != nil {
			return n, fmt.Errorf("archive: %w", err)
		}
		b = b[m:]
		if p.rate > 0 {
			if err := p.control.Flush(); err != nil {
				return n, fmt.Errorf("archive: %w", err)
			}
		}
	}
	return n, nil
}
