package training

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/model"
)

// Source gives samples to train on.
type Source interface {
	// Name is what the source's samples have as their origin.
	Name() string
	// Samples reads them all, in the same order each time.
	Samples(ctx context.Context) ([]model.Sample, error)
}

// Cases are the cases that a person has labelled.
type Cases struct {
	Store interface {
		Cases(ctx context.Context, f casebook.Filter) (casebook.Page, error)
	}
	// Weight of each, beside a client of a log, which has 1; default 4: a person looked.
	Weight float64
	Log    *slog.Logger // nil: slog.Default()
}

// Name returns "cases".
func (c *Cases) Name() string { return "cases" }

// Samples returns one sample a case, at most model.MaxSamples, the latest cases first. Cases that were measured by another list of
// features cannot be used: they are counted and said.
func (c *Cases) Samples(ctx context.Context) ([]model.Sample, error) {
	var out []model.Sample
	other := 0
	weight := c.Weight
	if weight == 0 {
		weight = 4
	}
	f := casebook.Filter{Labelled: true, Limit: casebook.MaxCases}
	for len(out) < model.MaxSamples {
		page, err := c.Store.Cases(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("read labelled cases: %w", err)
		}
		for i := range page.Cases {
			k := &page.Cases[i]
			if k.Label == defense.LabelNone {
				continue
			}
			if k.Features.Schema != behaviour.SchemaVersion {
				other++
				continue
			}
			out = append(out, model.Sample{
				Origin: c.Name(), Slice: string(k.Kind), Group: caseGroup(k), Label: k.Label, Weight: weight, Features: k.Features,
			})
		}
		if page.Next == "" || page.Next == f.Before {
			break
		}
		f.Before = page.Next
	}
	out = out[:min(len(out), model.MaxSamples)]
	if other > 0 {
		log := c.Log
		if log == nil {
			log = slog.Default()
		}
		log.Warn("labelled cases were measured by another list of features and are left out", "cases", other, "schema", behaviour.SchemaVersion)
	}
	return out, nil
}

// caseGroup keeps clients of one neighbourhood together: they may well be one.
func caseGroup(c *defense.Case) string {
	if c.Kind == defense.CaseClient {
		if p, err := netip.ParsePrefix(c.Key); err == nil {
			return neighbourhood(p.Addr())
		}
		if a, err := netip.ParseAddr(c.Key); err == nil {
			return neighbourhood(a)
		}
	}
	return "case " + c.Key
}

func neighbourhood(a netip.Addr) string { return defense.NewClient(a).Prefix.String() }
