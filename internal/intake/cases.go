package intake

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/record"
)

// CasesAPI shows cases to the operator:
//
//	GET  /v1/cases             latest seen first; kind=, site=, key=, outcome=, label=, since=, until=, minScore=, before=, limit=
//	GET  /v1/cases/{id}
//	POST /v1/cases/{id}/judge  has the case judged again, and what comes of it carried out
//	PUT  /v1/cases/{id}/label  {"label": "human"|"bot"|"crawler"|""}: what it truly was
//
// Cases that are still gathering evidence are shown as they were when they were last judged.
type CasesAPI struct{ Service *Service }

// Register adds the routes.
func (a *CasesAPI) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/cases", a.list)
	mux.HandleFunc("GET /v1/cases/{id}", a.show)
	mux.HandleFunc("POST /v1/cases/{id}/judge", a.judge)
	mux.HandleFunc("PUT /v1/cases/{id}/label", a.label)
}

// lookUpTime bounds one request to the store of cases.
const lookUpTime = 10 * time.Second

func (a *CasesAPI) list(w http.ResponseWriter, r *http.Request) {
	f, err := parseCaseFilter(r.URL.Query(), a.Service.o.Now())
	if err != nil {
		private.Problem(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookUpTime)
	defer cancel()
	page, err := a.Service.o.Cases.Cases(ctx, f)
	if err != nil {
		a.fail(w, err)
		return
	}
	if page.Cases == nil {
		page.Cases = []defense.Case{}
	}
	private.JSON(w, page)
}

// parseCaseFilter reads a filter's query parameters.
func parseCaseFilter(q url.Values, now time.Time) (casebook.Filter, error) {
	f := casebook.Filter{}
	for name, values := range q {
		if len(values) > 1 {
			return f, fmt.Errorf("%s: given more than once", name)
		}
		v, err := values[0], error(nil)
		switch name {
		case "kind":
			if f.Kind = defense.CaseKind(v); f.Kind != defense.CaseClient && f.Kind != defense.CaseCampaign {
				err = errors.New("use client or campaign")
			}
		case "site":
			f.Site = v
		case "key":
			f.Key = v
		case "outcome":
			switch f.Outcome = defense.CaseOutcome(v); f.Outcome {
			case defense.OutcomeClear, defense.OutcomeWatch, defense.OutcomeDecided:
			default:
				err = errors.New("use clear, watch or decided")
			}
		case "label":
			if v == "any" {
				f.Labelled = true
				break
			}
			f.Label, err = parseLabel(v)
		case "since":
			f.Since, err = parseMoment(v, now)
		case "until":
			f.Until, err = parseMoment(v, now)
		case "minScore":
			if f.MinScore, err = strconv.ParseFloat(v, 64); err != nil || !(f.MinScore >= 0 && f.MinScore <= 1) {
				err = errors.New("a number from 0 to 1")
			}
		case "before":
			f.Before = v
		case "limit":
			if f.Limit, err = strconv.Atoi(v); err != nil || f.Limit < 1 || f.Limit > casebook.MaxCases {
				err = fmt.Errorf("a number from 1 to %d", casebook.MaxCases)
			}
		default:
			err = errors.New("unknown parameter")
		}
		if err != nil {
			return f, fmt.Errorf("%s: %w", name, err)
		}
	}
	return f, nil
}

// parseMoment reads a time, or how long ago it was.
func parseMoment(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, errors.New("a time such as 2026-11-25T12:00:00Z, or how long ago, such as 24h")
	}
	return t, nil
}

func parseLabel(s string) (defense.CaseLabel, error) {
	switch l := defense.CaseLabel(s); l {
	case defense.LabelHuman, defense.LabelBot, defense.LabelCrawler:
		return l, nil
	}
	return "", errors.New("use human, bot or crawler")
}

func (a *CasesAPI) find(w http.ResponseWriter, r *http.Request) (defense.Case, bool) {
	ctx, cancel := context.WithTimeout(r.Context(), lookUpTime)
	defer cancel()
	c, err := a.Service.o.Cases.Case(ctx, r.PathValue("id"))
	if err != nil {
		a.fail(w, err)
		return c, false
	}
	return c, true
}

func (a *CasesAPI) show(w http.ResponseWriter, r *http.Request) {
	if c, ok := a.find(w, r); ok {
		private.JSON(w, c)
	}
}

// judge judges the case on what the casebook knows now, or, when it has forgotten the case, on what was kept.
func (a *CasesAPI) judge(w http.ResponseWriter, r *http.Request) {
	c, ok := a.find(w, r)
	if !ok {
		return
	}
	s := a.Service
	if err := a.with(r.Context(), func(b *casebook.Book) {
		if now, known := b.Case(c.ID); known {
			now.Label = c.Label
			c = now
		}
	}); err != nil {
		private.Problem(w, http.StatusServiceUnavailable, "The intake is not running.")
		return
	}
	v := s.judgeCase(r.Context(), c)
	if v.j == nil {
		private.Problem(w, http.StatusBadGateway, "The escalation engine did not answer. The log says why.")
		return
	}
	// The casebook may have moved on meanwhile; it then ignores an old revision. Nor does it matter to the answer if it has ended.
	_ = a.with(r.Context(), func(b *casebook.Book) { b.Judged(c.ID, c.Revision, v.j, v.decided, s.o.Now()) })
	private.JSON(w, v.c)
}

// with asks the casebook, which another process may own.
func (a *CasesAPI) with(ctx context.Context, fn func(*casebook.Book)) error {
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	return a.Service.With(ctx, fn)
}

// Label is the body of PUT /v1/cases/{id}/label.
type Label struct {
	Label defense.CaseLabel `json:"label"`
}

func (a *CasesAPI) label(w http.ResponseWriter, r *http.Request) {
	var in Label
	err := private.ReadJSON(w, r, &in)
	if err == nil && in.Label != defense.LabelNone {
		_, err = parseLabel(string(in.Label))
	}
	if err != nil {
		private.Problem(w, http.StatusBadRequest, "label: "+err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookUpTime)
	defer cancel()
	if err := a.Service.o.Cases.LabelCase(ctx, r.PathValue("id"), in.Label); err != nil {
		a.fail(w, err)
		return
	}
	private.JSON(w, in)
}

func (a *CasesAPI) fail(w http.ResponseWriter, err error) {
	if errors.Is(err, casebook.ErrNoCase) {
		private.Problem(w, http.StatusNotFound, "There is no such case.")
		return
	}
	if errors.Is(err, record.ErrBadFilter) {
		private.Problem(w, http.StatusBadRequest, err.Error())
		return
	}
	a.Service.o.Log.Error("reading cases", "error", err)
	private.Problem(w, http.StatusServiceUnavailable, "The archive cannot be read now. The log says why.")
}
