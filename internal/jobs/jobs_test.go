package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quickthorn/quickthorn/internal/jobs"
)

func newRunner(t *testing.T, list ...jobs.Job) *jobs.Runner {
	t.Helper()
	r, err := jobs.New(jobs.Options{Jobs: list, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestJobsRunAtOnceAndWhenDueAndSoonAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		begin := time.Now()
		r := newRunner(t, jobs.Job{Name: "retention", Every: 10 * time.Minute, Run: func(context.Context) error {
			at = append(at, time.Since(begin))
			if len(at) == 2 {
				return errors.New("the archive is away")
			}
			return nil
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		defer cancel()
		if err := r.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if want := []time.Duration{0, 10 * time.Minute, 11 * time.Minute}; len(at) != 3 || at[1] != want[1] || at[2] != want[2] {
			t.Errorf("ran at %v, want %v", at, want)
		}
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(r)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.Metric {
				name := f.GetName()
				for _, l := range m.Label {
					name += " " + l.GetValue()
				}
				got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		if got["quickthorn_sync_runs_total failed retention"] != 1 || got["quickthorn_sync_runs_total ok retention"] != 2 ||
			got["quickthorn_sync_last_success_timestamp_seconds retention"] != float64(begin.Add(11*time.Minute).Unix()) {
			t.Error(got)
		}
	})
}

func TestOneThatHangsIsEndedAndHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		others := 0
		r := newRunner(t,
			jobs.Job{Name: "hangs", Every: time.Hour, Limit: time.Minute, Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			jobs.Job{Name: "other", Every: time.Minute, Run: func(context.Context) error { others++; return nil }})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute+time.Second)
		defer cancel()
		if err := r.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if others != 6 {
			t.Errorf("the other ran %d times", others)
		}
	})
}

func TestOnce(t *testing.T) {
	wrong := errors.New("wrong")
	r := newRunner(t, jobs.Job{Name: "retention", Every: time.Hour, Run: func(context.Context) error { return wrong }})
	if err := r.Once(t.Context(), "retention"); !errors.Is(err, wrong) {
		t.Error(err)
	}
	if err := r.Once(t.Context(), "retentoin"); err == nil || !strings.Contains(err.Error(), "there is retention") {
		t.Error(err)
	}
}

func TestJobsThatAreNone(t *testing.T) {
	run := func(context.Context) error { return nil }
	for name, list := range map[string][]jobs.Job{
		"no name":     {{Every: 1, Run: run}},
		"no interval": {{Name: "a", Run: run}},
		"nothing":     {{Name: "a", Every: 1}},
		"twice":       {{Name: "a", Every: 1, Run: run}, {Name: "a", Every: 1, Run: run}},
	} {
		if _, err := jobs.New(jobs.Options{Jobs: list, Now: time.Now, Log: slog.New(slog.DiscardHandler)}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
