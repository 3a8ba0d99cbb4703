package alert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/id"
)

// Options are the settings of a Dispatcher. Now, Random and Log are required; the
// zero value of any other field takes what its comment says.
type Options struct {
	Channels []Channel // with different names; none: alerts are counted, nothing is sent
	Rules    []Rule    // in order; nil: what is at least a warning goes to every channel

	GroupWait       time.Duration // how long the first alert of a kind and site waits for others; 0: 30 s
	GroupInterval   time.Duration // least time between two messages about one kind and site; 0: 15 min
	MessagesPerHour int           // most messages by one channel within an hour; 0: 30
	MaxGroups       int           // most kinds and sites that are told apart; 0: 128. What is beyond counts as one

	Queue       int           // most messages that wait for one channel; 0: 32. What is beyond is merged into one
	SendTimeout time.Duration // limit of one attempt to send; 0: 30 s
	RetryFor    time.Duration // how old a message may be when it is tried again; 0: 1 h, below 0: one attempt only
	Drain       time.Duration // time to send what has been gathered when Run ends; 0: 5 s

	Now    func() time.Time
	Random func() uint64 // for ids and for spreading attempts; rand.Uint64 of math/rand/v2 will do
	Log    *slog.Logger
}

// Dispatcher takes alerts and sends messages. It is a prometheus.Collector.
type Dispatcher struct {
	o     Options
	ids   *id.Source
	lanes []*lane
	descs *descs

	raised   [severities]atomic.Uint64
	unrouted atomic.Uint64 // fitted no rule, or one that is silent
	late     atomic.Uint64 // raised after the end

	// mu guards all that follows and the groups of the lanes. It is held for a moment only, never
	// during I/O, so that Raise can be called from anywhere.
	mu     sync.Mutex
	next   time.Time // when something is due; zero: nothing
	closed bool

	wake chan struct{} // says that next has come nearer
	ran  atomic.Bool
}

// New returns a dispatcher, or an error that names the setting which is wrong. It sends once Run is called.
func New(o Options) (*Dispatcher, error) {
	if o.Now == nil || o.Random == nil || o.Log == nil {
		return nil, errors.New("alerts: Now, Random and Log are required")
	}
	setDefault(&o.GroupWait, 30*time.Second)
	setDefault(&o.GroupInterval, 15*time.Minute)
	setDefault(&o.MessagesPerHour, 30)
	setDefault(&o.MaxGroups, 128)
	setDefault(&o.Queue, 32)
	setDefault(&o.SendTimeout, 30*time.Second)
	setDefault(&o.Drain, 5*time.Second)
	if o.RetryFor == 0 {
		o.RetryFor = time.Hour
	}
	if o.Rules == nil {
		o.Rules = []Rule{{Severity: Warning}}
	}
	o.Rules = slices.Clone(o.Rules)
	d := &Dispatcher{o: o, ids: id.New(o.Now, o.Random), descs: newDescs(), wake: make(chan struct{}, 1)}
	for _, c := range o.Channels {
		if err := checkName(c.Name()); err != nil {
			return nil, err
		}
		if d.lane(c.Name()) != nil {
			return nil, fmt.Errorf("alert channel %q: another one has that name", c.Name())
		}
		d.lanes = append(d.lanes, newLane(c, &d.o))
	}
	for k := range o.Rules {
		if err := d.checkRule(&o.Rules[k]); err != nil {
			return nil, fmt.Errorf("alert rule %d: %w", k+1, err)
		}
	}
	return d, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

func (d *Dispatcher) checkRule(r *Rule) error {
	if r.Severity >= severities {
		return errors.New("no such severity")
	}
	if r.Silence && (len(r.Channels) > 0 || r.Quiet != nil) {
		return errors.New("a silent rule has neither channels nor quiet hours")
	}
	for _, name := range r.Channels {
		if d.lane(name) == nil {
			return d.unknown(name)
		}
	}
	if r.Quiet != nil {
		return r.Quiet.check()
	}
	return nil
}

func (d *Dispatcher) lane(name string) *lane {
	for _, l := range d.lanes {
		if l.name == name {
			return l
		}
	}
	return nil
}

func (d *Dispatcher) unknown(name string) error {
	if len(d.lanes) == 0 {
		return fmt.Errorf("there is no alert channel %q, nor any other", line(name, maxName))
	}
	var names []string
	for _, l := range d.lanes {
		names = append(names, l.name)
	}
	return fmt.Errorf("there is no alert channel %q; there are %s", line(name, maxName), strings.Join(names, ", "))
}

// Raise hands over an alert. It never waits and never fails: the alert joins those of its
// kind and site. Raise may be called before Run; after Run has ended, alerts are counted as lost.
func (d *Dispatcher) Raise(a Alert) {
	a = a.cleaned()
	if a.At.IsZero() {
		a.At = d.o.Now()
	}
	if a.ID == "" {
		a.ID = d.ids.Next()
	}
	d.raised[a.Severity].Add(1)
	k := slices.IndexFunc(d.o.Rules, func(r Rule) bool { return r.fits(&a) })
	if k < 0 || d.o.Rules[k].Silence {
		d.unrouted.Add(1)
		return
	}
	rule := &d.o.Rules[k]

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		d.late.Add(1)
		return
	}
	now := d.o.Now()
	for _, l := range d.lanes {
		if len(rule.Channels) == 0 || slices.Contains(rule.Channels, l.name) {
			d.dueAt(l.gather(&a, rule.Quiet, now))
		}
	}
}

// dueAt notes that there is something to do at t, and tells Run when that is sooner than it knows.
func (d *Dispatcher) dueAt(t time.Time) {
	if !d.next.IsZero() && !t.Before(d.next) {
		return
	}
	d.next = t
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends. Then what has been gathered is sent, in one message for each channel, and Run returns
// nil once all is sent or the time for it has passed; what could not be sent is logged. It may be called once.
func (d *Dispatcher) Run(ctx context.Context) error {
	if d.ran.Swap(true) {
		return errors.New("alerts: Run was called before")
	}
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var workers sync.WaitGroup
	for _, l := range d.lanes {
		workers.Go(func() { l.work(sending) })
	}

	d.schedule(ctx)
	d.finish()

	timer := time.AfterFunc(d.o.Drain, stop)
	defer timer.Stop()
	workers.Wait()
	for _, l := range d.lanes {
		if n := l.abandoned.Load(); n > 0 {
			d.o.Log.Warn("alert messages were not sent before the end", "channel", l.name, "messages", n)
		}
	}
	return nil
}

// schedule makes messages of what is due, until ctx ends.
func (d *Dispatcher) schedule(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-timer.C:
		}
		next := d.flush()
		if next.IsZero() {
			timer.Stop()
			continue
		}
		// Not much longer than a minute at once, since a clock may be set and a machine sleep.
		timer.Reset(min(max(next.Sub(d.o.Now()), time.Millisecond), time.Minute))
	}
}

// flush queues what is due and returns when to come again; zero: not before an alert is raised.
func (d *Dispatcher) flush() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.o.Now()
	d.next = time.Time{}
	for _, l := range d.lanes {
		if t := l.flush(now, d.ids); !t.IsZero() && (d.next.IsZero() || t.Before(d.next)) {
			d.next = t
		}
	}
	return d.next
}

// finish queues all that has been gathered and ends the queues.
func (d *Dispatcher) finish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, l := range d.lanes {
		l.finish(d.o.Now(), d.ids)
	}
}

// Result is what became of a test alert in one channel.
type Result struct {
	Channel string  `json:"channel"`
	Seconds float64 `json:"seconds"`           // until the channel had taken it, or failed
	Problem string  `json:"problem,omitempty"` // "" when it was sent
}

// Test sends a test alert by the named channel, or by all when the name is "", at once: past rules,
// quiet hours, queue and limits, with one attempt. It works whether or not Run does.
func (d *Dispatcher) Test(ctx context.Context, channel string) []Result {
	lanes := d.lanes
	if channel != "" {
		l := d.lane(channel)
		if l == nil {
			return []Result{{Channel: line(channel, maxName), Problem: d.unknown(channel).Error()}}
		}
		lanes = []*lane{l}
	}
	results := make([]Result, len(lanes))
	var all sync.WaitGroup
	for k, l := range lanes {
		all.Go(func() {
			a := Alert{
				Kind: KindTest, Severity: Info, At: d.o.Now(),
				Title: "Test alert of channel " + l.name,
				Text:  "Somebody asked for this test. Alerts that are sent by this channel arrive where you read this.",
			}.cleaned()
			m := newMessage(d.ids.Next(), ReasonTest, a.At, []*Item{newItem(&a)})
			results[k] = Result{Channel: l.name}
			if err := l.attempt(ctx, m); err != nil {
				results[k].Problem = err.Error()
			}
			results[k].Seconds = d.o.Now().Sub(a.At).Seconds()
		})
	}
	all.Wait()
	return results
}
