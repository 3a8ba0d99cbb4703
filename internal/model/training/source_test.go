package training

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/model"
)

// pages is a store that has its cases in pages of two.
type pages struct {
	cases []defense.Case
	err   error
	asked []casebook.Filter
}

func (p *pages) Cases(_ context.Context, f casebook.Filter) (casebook.Page, error) {
	p.asked = append(p.asked, f)
	start := 0
	if f.Before != "" {
		start = len(f.Before)
	}
	end := min(start+2, len(p.cases))
	page := casebook.Page{Cases: p.cases[start:end]}
	if end < len(p.cases) {
		page.Next = strings.Repeat("x", end)
	}
	return page, p.err
}

func TestLabelledCasesBecomeSamples(t *testing.T) {
	f := defense.Features{Schema: behaviour.SchemaVersion, Values: map[string]float64{"rate": 3}}
	old := defense.Features{Schema: behaviour.SchemaVersion + 1, Values: map[string]float64{"rate": 3}}
	store := &pages{cases: []defense.Case{
		{Kind: defense.CaseClient, Key: "192.0.2.7", Label: defense.LabelBot, Features: f},
		{Kind: defense.CaseClient, Key: "192.0.2.9/32", Label: defense.LabelHuman, Features: f},
		{Kind: defense.CaseClient, Key: "2001:db8:1:2::/64", Label: defense.LabelCrawler, Features: f},
		{Kind: defense.CaseClient, Key: "192.0.2.8", Label: defense.LabelNone, Features: f},
		{Kind: defense.CaseCampaign, Key: "program:9f2c41d07b3ea865", Label: defense.LabelBot, Features: f},
		{Kind: defense.CaseClient, Key: "192.0.2.10", Label: defense.LabelBot, Features: old},
	}}
	var said bytes.Buffer
	got, err := (&Cases{Store: store, Log: slog.New(slog.NewTextHandler(&said, nil))}).Samples(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []model.Sample{
		{Origin: "cases", Slice: "client", Group: "192.0.2.0/24", Label: defense.LabelBot, Weight: 4, Features: f},
		{Origin: "cases", Slice: "client", Group: "192.0.2.0/24", Label: defense.LabelHuman, Weight: 4, Features: f},
		{Origin: "cases", Slice: "client", Group: "2001:db8:1::/48", Label: defense.LabelCrawler, Weight: 4, Features: f},
		{Origin: "cases", Slice: "campaign", Group: "case program:9f2c41d07b3ea865", Label: defense.LabelBot, Weight: 4, Features: f},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(store.asked) != 3 || !store.asked[0].Labelled {
		t.Errorf("asked for %+v", store.asked)
	}
	if !strings.Contains(said.String(), "cases=1") {
		t.Errorf("the case of another schema is not mentioned: %q", said.String())
	}
	store.err = errors.New("disk on fire")
	if _, err := (&Cases{Store: store}).Samples(t.Context()); !errors.Is(err, store.err) {
		t.Errorf("the store's error becomes %v", err)
	}
}
