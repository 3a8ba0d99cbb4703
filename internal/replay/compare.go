package replay

import (
	"cmp"
	"fmt"
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
	// Approximate says that there are more clients than are kept: the list and its total are not exact.
	Approximate bool `json:"approximate,omitempty"`
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
	a, b           [defense.Charge + 1]uint64
	changed        uint64
	agent, request string // of the first request that differs, and the rules that made it so
	ruleA, ruleB   string
}

type comparer struct {
	max      int
	requests uint64
	changes  map[[2]defense.Action]uint64
	clients  map[netip.Prefix]*clientPair
	readers  ReadersChange
	// forgotten says that clients had to be dropped.
	forgotten bool
}

// newComparer returns a comparer that keeps at most max clients.
func newComparer(max int) *comparer {
	return &comparer{max: max, changes: map[[2]defense.Action]uint64{}, clients: map[netip.Prefix]*clientPair{}}
}

func (c *comparer) add(o *observed, b *defense.Verdict) {
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
		if len(c.clients) >= c.max {
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
		p.agent, p.request = bounded(o.Profile.Agent.Text.Value), bounded(o.Profile.Method+" "+o.Profile.Target)
		p.ruleA, p.ruleB = bounded(o.Verdict.Rule), bounded(b.Rule)
	}
	p.changed++
}

// forget drops the clients that are treated alike and, if that makes little room,
// the half that differ least.
func (c *comparer) forget() {
	c.forgotten = true
	var changed []uint64
	for k, p := range c.clients {
		if p.changed == 0 {
			delete(c.clients, k)
		} else {
			changed = append(changed, p.changed)
		}
	}
	if len(c.clients) <= c.max/4*3 {
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
	r := &Comparison{A: a, B: b, Requests: c.requests, Readers: c.readers, Changes: []Change{}, Clients: []ClientDiff{}, Approximate: c.forgotten}
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
			Client: name, Agent: p.agent, Request: p.request, RuleA: p.ruleA, RuleB: p.ruleB, Changed: p.changed, A: actionMap(&ca), B: actionMap(&cb),
		})
	}
	r.Total = len(r.Clients)
	slices.SortFunc(r.Clients, func(x, y ClientDiff) int {
		return cmp.Or(cmp.Compare(y.Changed, x.Changed), cmp.Compare(x.Client, y.Client))
	})
	r.Clients = r.Clients[:min(n, len(r.Clients))]
	return r
}

// text writes the comparison for a terminal.
func (c *Comparison) text(b *strings.Builder) {
	tw := tabwriter.NewWriter(b, 0, 4, 2, ' ', 0)
	fmt.Fprintf(tw, "\n%s compared with %s\n", c.B, c.A)
	fmt.Fprintf(tw, "  %s of %s requests (%s) get another verdict; %s treated differently\n", number(c.Changed), number(c.Requests), percent(c.Changed, c.Requests), plural(uint64(c.Total), "client is", "clients are"))
	fmt.Fprintf(tw, "  requests that look like readers and are stopped: %s before, %s after\n", number(c.Readers.StoppedA), number(c.Readers.StoppedB))
	for _, k := range c.Changes {
		fmt.Fprintf(tw, "  %s → %s\t%s\n", k.A, k.B, number(k.Requests))
	}
	tw.Flush()
	for _, k := range c.Clients {
		fmt.Fprintf(b, "  %s: %s changed; %s → %s\n", k.Client, number(k.Changed), actionsText(k.A), actionsText(k.B))
		fmt.Fprintf(b, "      %s  %q  by %s, then %s\n", k.Request, k.Agent, cmp.Or(k.RuleA, "nothing"), cmp.Or(k.RuleB, "nothing"))
	}
	if c.Approximate {
		b.WriteString("  The log has more clients than are kept in memory: these numbers of clients are not exact.\n")
	}
}

// actionList writes counts by action, the mildest first: "allow 3", "deny 1".
func actionList(m map[string]uint64) []string {
	var parts []string
	for a := defense.Allow; a <= defense.Deny; a++ {
		if n := m[a.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", a, number(n)))
		}
	}
	return parts
}

func actionsText(m map[string]uint64) string { return strings.Join(actionList(m), ", ") }
