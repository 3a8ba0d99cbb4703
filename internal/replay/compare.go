package replay

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Comparison says where two policies differ over the same log.
type Comparison struct {
	A        string        `json:"a"`
	B        string        `json:"b"`
	Requests uint64        `json:"requests"`
	Changed  uint64        `json:"changed"` // requests with another verdict
	Changes  []Change      `json:"changes"` // by pair of verdicts, most frequent first
	Clients  []ClientDiff  `json:"clients"` // those with most changes
	Total    int           `json:"totalClients"`
	Readers  ReadersChange `json:"readers"`
}

// Change is how often A's verdict became B's.
type Change struct {
	A        defense.Action `json:"a"`
	B        defense.Action `json:"b"`
	Requests uint64         `json:"requests"`
}

// ReadersChange is what changes for requests that look like readers.
type ReadersChange struct {
	StoppedA uint64 `json:"stoppedA"`
	StoppedB uint64 `json:"stoppedB"`
}

// ClientDiff is one client that the policies treat differently.
type ClientDiff struct {
	Client  string            `json:"client"`
	Agent   string            `json:"agent"` // of the first request that differs
	Request string            `json:"request"`
	RuleA   string            `json:"ruleA"`
	RuleB   string            `json:"ruleB"`
	Changed uint64            `json:"changed"`
	A       map[string]uint64 `json:"a"` // requests by action
	B       map[string]uint64 `json:"b"`
}

type clientPair struct {
	a, b    [defense.Charge + 1]uint64
	changed uint64
	first   Example
	ruleB   string
}

type comparer struct {
	requests uint64
	changes  map[[2]defense.Action]uint64
	clients  map[netip.Prefix]*clientPair
	readers  ReadersChange
}

func newComparer() *comparer {
	return &comparer{changes: map[[2]defense.Action]uint64{}, clients: map[netip.Prefix]*clientPair{}}
}

func (c *comparer) add(o *Observed, b *defense.Verdict) {
	va, vb := o.Verdict.Intended, b.Intended
	c.requests++
	if Reader(o.Profile) != "" {
		if va.Stops() {
			c.readers.StoppedA++
		}
		if vb.Stops() {
			c.readers.StoppedB++
		}
	}
	k := o.Profile.Client.Counted
	p, ok := c.clients[k]
	if !ok {
		if len(c.clients) >= maxKeys {
			c.forget()
		}
		p = &clientPair{}
		c.clients[k] = p
	}
	p.a[va]++
	p.b[vb]++
	if va == vb {
		return
	}
	c.changes[[2]defense.Action{va, vb}]++
	if p.changed == 0 {
		p.first, p.ruleB = example(o), strings.Clone(b.Rule)
		p.first.Agent, p.first.Request = strings.Clone(p.first.Agent), strings.Clone(p.first.Request)
	}
	p.changed++
}

// forget drops the clients that are treated alike, or the half that differ least.
func (c *comparer) forget() {
	before := len(c.clients)
	var changed []uint64
	for k, p := range c.clients {
		if p.changed == 0 {
			delete(c.clients, k)
		} else {
			changed = append(changed, p.changed)
		}
	}
	if len(c.clients) < before {
		return
	}
	slices.Sort(changed)
	cut := changed[len(changed)/2]
	for k, p := range c.clients {
		if p.changed <= cut {
			delete(c.clients, k)
		}
	}
}

func (c *comparer) report(a, b string, n int) *Comparison {
	r := &Comparison{A: a, B: b, Requests: c.requests, Readers: c.readers}
	for k, count := range c.changes {
		r.Changes = append(r.Changes, Change{k[0], k[1], count})
		r.Changed += count
	}
	slices.SortFunc(r.Changes, func(x, y Change) int {
		return cmp.Or(cmp.Compare(y.Requests, x.Requests), cmp.Compare(x.A, y.A), cmp.Compare(x.B, y.B))
	})
	for k, p := range c.clients {
		if p.changed == 0 {
			continue
		}
		name := k.String()
		if k.IsSingleIP() {
			name = k.Addr().String()
		}
		ca, cb := count{actions: p.a}, count{actions: p.b}
		r.Clients = append(r.Clients, ClientDiff{
			Client: name, Agent: p.first.Agent, Request: p.first.Request, RuleA: p.first.Rule, RuleB: p.ruleB, Changed: p.changed, A: actionMap(&ca), B: actionMap(&cb),
		})
	}
	r.Total = len(r.Clients)
	slices.SortFunc(r.Clients, func(x, y ClientDiff) int {
		return cmp.Or(cmp.Compare(y.Changed, x.Changed), cmp.Compare(x.Client, y.Client))
	})
	r.Clients = r.Clients[:min(n, len(r.Clients))]
	return r
}

// WriteText writes the comparison for a terminal.
func (c *Comparison) WriteText(out io.Writer) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintf(tw, "\n%s compared with %s\n", c.B, c.A)
	fmt.Fprintf(tw, "  %s of %s requests (%s) get another verdict; %d clients are treated differently\n", number(c.Changed), number(c.Requests), percent(c.Changed, c.Requests), c.Total)
	fmt.Fprintf(tw, "  requests that look like readers and are stopped: %s before, %s after\n", number(c.Readers.StoppedA), number(c.Readers.StoppedB))
	for _, k := range c.Changes {
		fmt.Fprintf(tw, "  %s → %s\t%s\n", k.A, k.B, number(k.Requests))
	}
	tw.Flush()
	for _, k := range c.Clients {
		fmt.Fprintf(&b, "  %s: %s changed; %s → %s\n", k.Client, number(k.Changed), actionsText(k.A), actionsText(k.B))
		ruleA, ruleB := cmp.Or(k.RuleA, "nothing"), cmp.Or(k.RuleB, "nothing")
		fmt.Fprintf(&b, "      %s  %q  by %s, then %s\n", k.Request, k.Agent, ruleA, ruleB)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func actionsText(m map[string]uint64) string {
	var parts []string
	for a := defense.Allow; a <= defense.Deny; a++ {
		if n := m[a.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", a, number(n)))
		}
	}
	return strings.Join(parts, ", ")
}
