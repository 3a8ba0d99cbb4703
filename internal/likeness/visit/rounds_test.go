package visit

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/likeness"
)

func TestSitesAreVisitedOnceInAnEpochAndAgainAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store := &artifact.Memory{}
		start := time.Now()
		var visits []time.Duration
		r := &Rounds{
			Sites: []string{"wiki"}, Every: 24 * time.Hour, Library: &artifact.Local{Store: store, Now: time.Now}, Log: slog.New(slog.DiscardHandler),
			Visit: func(_ context.Context, site string) (*likeness.Likeness, error) {
				visits = append(visits, time.Since(start))
				if len(visits) < 3 {
					return nil, errors.New("the site is starting")
				}
				return &likeness.Likeness{Language: "en", Latency: likeness.Quantiles{int64(len(visits))}}, nil
			},
		}
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(12 * time.Hour)
		// Another edge has been there meanwhile: it counts.
		if _, err := r.Library.Put(ctx, artifact.Likeness, "wiki", "", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		want := []time.Duration{20 * time.Second, 80 * time.Second, 200 * time.Second, 36 * time.Hour}
		if len(visits) != len(want) {
			t.Fatalf("visits after %v, want %v", visits, want)
		}
		for i := range want {
			if visits[i].Round(time.Second) != want[i] {
				t.Errorf("visits after %v, want %v", visits, want)
			}
		}
		list, _ := store.Artifacts(ctx)
		if a, err := artifact.Latest(list, artifact.Likeness, "wiki"); err != nil || a.Version != 3 {
			t.Errorf("%+v, %v", a, err)
		}
	})
}
