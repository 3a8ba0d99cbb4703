package behaviour

import (
	"fmt"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// reader reads from one page on to the other and fetches assets.
func reader(g *LinkGraph, address, a, b string) {
	watch(Context{Assets: true, Referrers: true, Links: g}, page(0, a, by(address)), asset(time.Second, by(address)), page(time.Minute, b, from(a), by(address)))
}

func unlinked(g *LinkGraph, visited []string, to string) (float64, bool) {
	var events []*defense.Event
	for i, p := range visited {
		events = append(events, page(time.Duration(i)*time.Second, p, by("203.0.113.9")))
	}
	events = append(events, page(time.Minute, to, by("203.0.113.9")))
	v, ok := watch(Context{Links: g}, events...).Features(start.Add(time.Hour / 4)).Values["unlinked"]
	return v, ok
}

func TestReadersTeachTheLinks(t *testing.T) {
	g := NewLinkGraph(0)
	if _, known := unlinked(g, []string{"/x"}, "/b"); known {
		t.Error("something is known of links before anybody has shown one")
	}
	for i := range 3 {
		reader(g, fmt.Sprintf("192.0.%d.1", i), "/a", "/b")
	}
	if _, known := unlinked(g, []string{"/x"}, "/b"); known {
		t.Error("three arrivals are taken for enough")
	}
	reader(g, "192.0.9.1", "/a", "/b")
	if v, known := unlinked(g, []string{"/x"}, "/b"); !known || v != 1 {
		t.Errorf("a page that nothing visited leads to: %v, known %v", v, known)
	}
	if v, known := unlinked(g, []string{"/a"}, "/b"); !known || v != 0 {
		t.Errorf("a page that a visited one leads to: %v, known %v", v, known)
	}
	if v, known := unlinked(g, []string{"/b", "/x"}, "/b"); !known || v != 0 {
		t.Errorf("a page that is read again: %v, known %v", v, known)
	}
}

func TestAScraperAloneTeachesNothing(t *testing.T) {
	g := NewLinkGraph(0)
	for i := range 100 {
		reader(g, fmt.Sprintf("192.0.2.%d", i), "/a", "/b") // of one neighbourhood
	}
	if _, known := unlinked(g, []string{"/x"}, "/b"); known {
		t.Error("one neighbourhood was believed")
	}
	for i := range 100 { // of many, but they fetch no assets
		address := fmt.Sprintf("198.51.%d.1", i)
		watch(Context{Assets: true, Referrers: true, Links: g}, page(0, "/c", by(address)), page(time.Minute, "/d", from("/c"), by(address)))
	}
	if _, known := unlinked(g, []string{"/x"}, "/d"); known {
		t.Error("clients that do not behave like readers were believed")
	}
	for i := range 100 { // a referrer that they did not visit
		address := fmt.Sprintf("198.51.%d.1", i)
		watch(Context{Assets: true, Referrers: true, Links: g}, asset(0, by(address)), page(1, "/z", by(address)), page(time.Minute, "/f", from("/e"), by(address)))
	}
	if _, known := unlinked(g, []string{"/x"}, "/f"); known {
		t.Error("referrers that were not visited were believed")
	}
}

func TestAPageThatEverythingLeadsToIsNeverUnlinked(t *testing.T) {
	g := NewLinkGraph(0)
	for i := range 20 {
		reader(g, fmt.Sprintf("192.0.%d.1", i), fmt.Sprintf("/wiki/Page%d", i), "/login")
	}
	if v, known := unlinked(g, []string{"/never"}, "/login"); !known || v != 0 {
		t.Errorf("unlinked %v, known %v", v, known)
	}
}

func TestLinksOfAQueryFallBackToThePath(t *testing.T) {
	g := NewLinkGraph(0)
	for i := range 4 {
		address := fmt.Sprintf("192.0.%d.1", i)
		watch(Context{Assets: true, Referrers: true, Links: g}, page(0, "/list", by(address)), asset(1, by(address)), page(time.Minute, "/item", from("/list"), by(address), query(fmt.Sprintf("id=%d", i))))
	}
	events := []*defense.Event{page(0, "/x"), page(1, "/item", query("id=99"))}
	if v := watch(Context{Links: g}, events...).Features(start.Add(time.Minute)).Values["unlinked"]; v != 1 {
		t.Errorf("unlinked %v, want 1: readers came to /item from /list only", v)
	}
}

func TestAReferrerThatDoesNotLinkThereIsOdd(t *testing.T) {
	g := NewLinkGraph(0)
	for i := range 4 {
		reader(g, fmt.Sprintf("192.0.%d.1", i), "/a", "/b")
	}
	c := watch(Context{Links: g, Referrers: true}, page(0, "/x"), page(time.Second, "/b", from("/x")))
	if v := c.Features(start.Add(time.Minute)).Values["referrerOdd"]; v != 1 {
		t.Errorf("referrerOdd %v, want 1", v)
	}
}

func TestLinksAreBounded(t *testing.T) {
	g := NewLinkGraph(1000)
	for i := range 50_000 {
		g.Learn(PageOf("s", "/", ""), PageOf("s", fmt.Sprintf("/%d", i), "q=1"), uint32(i))
	}
	if n := g.Len(); n > 1000 {
		t.Errorf("%d pages are remembered, at most 1,000 may be", n)
	}
	if g.Forgotten == 0 {
		t.Error("it is not counted what was forgotten")
	}
}
