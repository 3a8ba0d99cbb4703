package behaviour

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/quickthorn/quickthorn/internal/defense"
)

var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"

// seen is what most sites' sources show.
var seen = Context{Assets: true, Referrers: true}

// page returns a successful navigation of a browser.
func page(at time.Duration, path string, changes ...func(*defense.Event)) *defense.Event {
	e := &defense.Event{
		Schema: defense.EventSchema, Kind: "request", Time: start.Add(at), Site: "wiki",
		Client: defense.EventClient{Address: "192.0.2.7", Prefix: "192.0.2.0/24"},
		Request: defense.EventRequest{
			Method: "GET", Host: "wiki.example", Path: path, Kind: defense.KindNavigation, Agent: chrome, Family: defense.AgentBrowser,
			Headers: defense.EventHeaders{Shape: "9f2c41d07b3ea865", AcceptLanguage: "en"},
		},
		Response: defense.EventResponse{Status: 200, Bytes: 10240, Duration: 0.1},
	}
	for _, c := range changes {
		c(e)
	}
	return e
}

func asset(at time.Duration, changes ...func(*defense.Event)) *defense.Event {
	return page(at, "/style.css", append([]func(*defense.Event){func(e *defense.Event) { e.Request.Kind = defense.KindAsset }}, changes...)...)
}

func from(path string) func(*defense.Event) {
	return func(e *defense.Event) { e.Request.Referrer = "https://wiki.example" + path }
}

func query(q string) func(*defense.Event) { return func(e *defense.Event) { e.Request.Query = q } }

func status(s int) func(*defense.Event) { return func(e *defense.Event) { e.Response.Status = s } }

func by(address string) func(*defense.Event) {
	return func(e *defense.Event) {
		e.Client.Address, e.Client.Prefix = address, defense.NewClient(netip.MustParseAddr(address)).Prefix.String()
	}
}

// fromLog makes the event one of an access log, which shows no headers.
func fromLog(e *defense.Event) { e.Request.Headers = defense.EventHeaders{} }

func challenged(outcome string) func(*defense.Event) {
	return func(e *defense.Event) {
		e.Kind, e.Challenge = "challenge", &defense.EventOutcome{Kind: "refresh", Outcome: outcome}
		if outcome == "issued" {
			e.Verdict.Action, e.Response.Status = defense.Challenge, 429
		}
	}
}

func watch(ctx Context, events ...*defense.Event) *Client {
	c := new(Client)
	for _, e := range events {
		c.Observe(e, ctx)
	}
	return c
}

// pages returns n navigations to different pages, one every interval.
func pages(n int, interval time.Duration, changes ...func(*defense.Event)) (out []*defense.Event) {
	for i := range n {
		out = append(out, page(time.Duration(i)*interval, fmt.Sprintf("/wiki/Page_%c%d", 'a'+i%26, i), changes...))
	}
	return out
}

func TestSizesAreAsDocumented(t *testing.T) {
	if n := unsafe.Sizeof(Client{}); n > 208 {
		t.Errorf("a small client takes %d bytes, documented are 200", n)
	}
	if n := unsafe.Sizeof(detail{}); n > 896 {
		t.Errorf("a large client takes %d bytes more, documented are 900", n)
	}
	if n := unsafe.Sizeof(target{}); n > 128 {
		t.Errorf("a target of links takes %d bytes; beyond 128 a map keeps each on the heap by itself", n)
	}
}

func TestTheIndexesAreInTheSchemasOrder(t *testing.T) {
	schema := Schema()
	if len(schema) != allFeatures {
		t.Fatalf("%d features, %d indexes", len(schema), allFeatures)
	}
	for name, i := range map[string]int{"requests": iRequests, "assets": iAssets, "hours": iHours, "bytes": iBytes, "clients": iClients, "readers": iReaders, "sequential": iSequential, "onset": iOnset} {
		if schema[i].Name != name {
			t.Errorf("index %d is %q, not %q", i, schema[i].Name, name)
		}
	}
	for i, f := range schema {
		if f.Campaign != (i >= clientFeatures) {
			t.Errorf("%q: Campaign is %v", f.Name, f.Campaign)
		}
	}
}
