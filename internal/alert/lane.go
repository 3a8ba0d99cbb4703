package alert

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/id"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// window is the time within which a channel sends at most MessagesPerHour messages.
const window = time.Hour

// full is how long to wait for room in a full queue before looking again.
const full = 10 * time.Second

// lane is the way to one channel: what is gathered for it, and its queue. Items pass through it as
// through a sieve: group, then held in quiet hours, then more beyond the limits, then the queue.
type lane struct {
	o       *Options
	channel Channel
	name    string
	state   *telemetry.State

	// Guarded by the dispatcher's mutex.
	groups map[key]*group
	held   map[key]*held
	more   map[key]*Item // what the hour's messages or the queue had no room for
	moreAt time.Time     // when to try to send more
	sent   []time.Time   // when messages were queued within the last hour, at most MessagesPerHour

	queue   chan *Message
	closing chan struct{} // closed at the end: who waits for another attempt makes it now
	// Written by the worker, read by anyone.
	delivered, failed, retries, abandoned atomic.Uint64
	busy                                  atomic.Bool // an attempt or the wait for one is under way
}

// key is what alerts of one group have in common.
type key struct{ kind, site string }

// kindOthers is the kind of the group for all kinds and sites beyond MaxGroups; it comes on top of them.
const kindOthers = "others"

// group is what is known of one kind and site.
type group struct {
	item   *Item       // gathered since the last message; nil: nothing
	quiet  *QuietHours // of the rule that the most severe alert of item fits
	due    time.Time   // when item is to be sent
	last   time.Time   // when an item was sent or held; zero: never
	lastOf Severity    // how severe that was
}

// held is an item that waits for the end of quiet hours.
type held struct {
	item  *Item
	until time.Time
}

func newLane(c Channel, o *Options) *lane {
	log := o.Log.With(slog.String("channel", c.Name()))
	return &lane{
		o: o, channel: c, name: c.Name(),
		state:  telemetry.NewState(log, "alerts cannot be sent by this channel", "alerts are sent by this channel again", o.Now),
		groups: map[key]*group{}, held: map[key]*held{}, more: map[key]*Item{},
		queue: make(chan *Message, o.Queue), closing: make(chan struct{}),
	}
}

// gather adds an alert to its group and returns when that is due.
func (l *lane) gather(a *Alert, quiet *QuietHours, now time.Time) time.Time {
	k := key{a.Kind, a.Site}
	g := l.groups[k]
	if g == nil && len(l.groups) >= l.o.MaxGroups {
		k = key{kind: kindOthers}
		g = l.groups[k]
	}
	if g == nil {
		g = &group{}
		l.groups[k] = g
	}
	item := newItem(a)
	item.Kind, item.Site = k.kind, k.site
	soon := now.Add(l.o.GroupWait)
	if g.item == nil {
		g.item, g.quiet = item, quiet
		g.due = soon
		if regular := g.last.Add(l.o.GroupInterval); !g.last.IsZero() && a.Severity <= g.lastOf && regular.After(soon) {
			g.due = regular
		}
		return g.due
	}
	if item.Severity > g.item.Severity {
		g.quiet = quiet
		if item.Severity > g.lastOf && g.due.After(soon) {
			g.due = soon // worse than what the owner knows of
		}
	}
	g.item.add(item)
	return g.due
}

// flush lets what is due pass and returns when the next thing is; zero: nothing waits.
func (l *lane) flush(now time.Time, ids *id.Source) (next time.Time) {
	soonest := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	// First, or what comes anew would take its place again and again.
	if len(l.more) > 0 && !l.moreAt.After(now) {
		items := values(l.more)
		l.more = map[key]*Item{}
		l.send(ReasonMore, items, now, ids)
	}
	for k, g := range l.groups {
		if g.item == nil || g.due.After(now) {
			continue
		}
		item, quiet := g.item, g.quiet
		g.item, g.quiet, g.last, g.lastOf = nil, nil, now, item.Severity
		if until, ok := quiet.holds(item.Severity, now); ok {
			l.hold(k, item, until)
		} else {
			l.send(ReasonAlert, []*Item{item}, now, ids)
		}
	}

	var digest []*Item
	for k, h := range l.held {
		if h.until.After(now) {
			soonest(h.until)
			continue
		}
		delete(l.held, k)
		digest = append(digest, h.item)
	}
	if len(digest) > 0 {
		l.send(ReasonDigest, digest, now, ids)
	}

	if len(l.more) > 0 {
		soonest(l.moreAt)
	}

	for k, g := range l.groups {
		switch forget := g.last.Add(l.o.GroupInterval); {
		case g.item != nil:
			soonest(g.due)
		case !forget.After(now):
			delete(l.groups, k)
		default:
			soonest(forget)
		}
	}
	return next
}

func (l *lane) hold(k key, item *Item, until time.Time) {
	if h := l.held[k]; h != nil {
		h.item.add(item)
		h.until = until
		return
	}
	if len(l.held) > l.o.MaxGroups && k.kind != kindOthers {
		item.Kind, item.Site = kindOthers, ""
		l.hold(key{kind: kindOthers}, item, until)
		return
	}
	l.held[k] = &held{item, until}
}

// send queues a message, or keeps its items for the one that tells all that found no room.
func (l *lane) send(reason Reason, items []*Item, now time.Time, ids *id.Source) {
	for len(l.sent) > 0 && !l.sent[0].Add(window).After(now) {
		l.sent = l.sent[1:]
	}
	room := l.o.MessagesPerHour - len(l.sent)
	if room <= 0 {
		l.keep(items, l.sent[0].Add(window))
		return
	}
	if len(l.queue) == cap(l.queue) { // only this side sends, so there is room below if there is now
		l.keep(items, now.Add(full))
		return
	}
	m := newMessage(ids.Next(), reason, now, items)
	l.sent = append(l.sent, now)
	if room == 1 {
		m.Note = "This was the last message that this channel may send within an hour. What happens until " +
			stamp(l.sent[0].Add(window)) + " comes as one message then."
	}
	l.queue <- m
}

// keep adds items to those that found no room; they are tried again at t.
func (l *lane) keep(items []*Item, t time.Time) {
	if len(l.more) == 0 || t.Before(l.moreAt) || !l.moreAt.After(l.o.Now()) {
		l.moreAt = t
	}
	for _, item := range items {
		k := key{item.Kind, item.Site}
		if l.more[k] == nil && len(l.more) > l.o.MaxGroups {
			item.Kind, item.Site = kindOthers, ""
			k = key{kind: kindOthers}
		}
		if have := l.more[k]; have != nil {
			have.add(item)
		} else {
			l.more[k] = item
		}
	}
}

// finish queues all that waits as one message, whatever it waits for, and ends the queue.
func (l *lane) finish(now time.Time, ids *id.Source) {
	defer close(l.queue)
	close(l.closing)
	l.moreAt = now
	for _, g := range l.groups {
		if g.item != nil {
			l.keep([]*Item{g.item}, now)
		}
	}
	for _, h := range l.held {
		l.keep([]*Item{h.item}, now)
	}
	items := values(l.more)
	clear(l.groups)
	clear(l.held)
	clear(l.more)
	if len(items) == 0 {
		return
	}
	select {
	case l.queue <- newMessage(ids.Next(), ReasonStop, now, items):
	default:
		l.abandoned.Add(1)
	}
}

// waiting returns how many alerts are gathered for messages to come.
func (l *lane) waiting() (n int) {
	for _, g := range l.groups {
		if g.item != nil {
			n = plus(n, g.item.Count)
		}
	}
	for _, h := range l.held {
		n = plus(n, h.item.Count)
	}
	for _, i := range l.more {
		n = plus(n, i.Count)
	}
	return n
}

func values[K comparable](m map[K]*Item) []*Item {
	items := make([]*Item, 0, len(m))
	for _, i := range m {
		items = append(items, i)
	}
	return items
}
