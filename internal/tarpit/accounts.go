package tarpit

import (
	"container/list"
	"net/netip"
	"sort"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/maze"
	"github.com/quickthorn/quickthorn/internal/tarpit/entry"
)

// Account is what one client, or all of them, spent in the tarpit, and what we spent on them.
type Account struct {
	Pages    uint64        // answers of every kind
	Streams  uint64        // of these, streams that dripped
	Archives uint64        // of these, archives
	Bytes    int64         // of bodies, sent
	Held     time.Duration // the sum of all stays, those under way among them
	Cost     time.Duration // our processor's time
	Depth    int           // the deepest page
	Now      int           // answers under way
	Spent    uint64        // requests beyond the day's hops, which were refused

	begun time.Duration // the sum of when the answers under way began, since the first time that the accounts know
}

// with returns the account at a time, since the accounts' first: with what is under way.
func (a *Account) with(now time.Duration) Account {
	b := *a
	b.Held += max(0, time.Duration(a.Now)*now-a.begun)
	return b
}

// add ends a stay, at a time since the accounts' first.
func (a *Account) add(kind maze.Kind, s *entry.Stay, now time.Duration) {
	a.Pages++
	switch kind {
	case maze.KindStream:
		a.Streams++
	case maze.KindArchive:
		a.Archives++
	}
	a.Bytes += s.Bytes
	a.Held += s.Held
	a.Cost += s.Cost
	a.Depth = max(a.Depth, s.Depth)
	if a.Now--; a.Now > 0 {
		a.begun -= now - s.Held
	} else { // a client may have been forgotten meanwhile, and then have come anew
		a.Now, a.begun = 0, 0
	}
}

// ClientAccount is the account of one client.
type ClientAccount struct {
	Client      netip.Prefix
	Site        string
	First, Last time.Time
	Account
}

// accounts remembers a bounded number of clients; who has not come for longest is forgotten first.
type accounts struct {
	mu    sync.Mutex
	max   int
	of    map[netip.Prefix]*list.Element // of *record
	order list.List                      // the latest first
	total Account
	since time.Time
}

type record struct {
	ClientAccount
	day  int64 // that hops are of
	hops int
}

func newAccounts(n int, now time.Time) accounts {
	return accounts{max: max(n, 1), of: map[netip.Prefix]*list.Element{}, since: now}
}

func dayOf(t time.Time) int64 { return t.Unix() / 86400 }

// arrive notes that the client asks for something, unless it had its hops of today.
func (a *accounts) arrive(g *entry.Guest, now time.Time, depth, hops int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	el, ok := a.of[g.Client]
	if !ok {
		if len(a.of) >= a.max {
			last := a.order.Back()
			delete(a.of, last.Value.(*record).Client)
			a.order.Remove(last)
		}
		el = a.order.PushFront(&record{ClientAccount: ClientAccount{Client: g.Client, First: now}})
		a.of[g.Client] = el
	} else {
		a.order.MoveToFront(el)
	}
	e := el.Value.(*record)
	if d := dayOf(now); e.day != d {
		e.day, e.hops = d, 0
	}
	e.Site, e.Last = g.Site, now
	if hops > 0 && e.hops >= hops {
		e.Spent++
		a.total.Spent++
		return false
	}
	e.hops++
	for _, account := range [...]*Account{&e.Account, &a.total} {
		account.Now++
		account.begun += now.Sub(a.since)
	}
	e.Depth = max(e.Depth, depth)
	a.total.Depth = max(a.total.Depth, depth)
	return true
}

func (a *accounts) leave(client netip.Prefix, kind maze.Kind, s *entry.Stay, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total.add(kind, s, now.Sub(a.since))
	if el, ok := a.of[client]; ok {
		e := el.Value.(*record)
		e.add(kind, s, now.Sub(a.since))
		e.Last = now
	}
}

// Total is the account of all clients since the start.
func (t *Tarpit) Total() Account {
	t.book.mu.Lock()
	defer t.book.mu.Unlock()
	return t.book.total.with(t.o.Now().Sub(t.book.since))
}

// Clients returns the accounts of at most n clients, those that were held longest first.
func (t *Tarpit) Clients(n int) []ClientAccount {
	t.book.mu.Lock()
	all := make([]ClientAccount, 0, len(t.book.of))
	now := t.o.Now().Sub(t.book.since)
	for el := t.book.order.Front(); el != nil; el = el.Next() {
		c := el.Value.(*record).ClientAccount
		c.Account = c.with(now)
		all = append(all, c)
	}
	t.book.mu.Unlock()
	sort.SliceStable(all, func(i, j int) bool { return all[i].Held > all[j].Held })
	return all[:min(n, len(all))]
}
