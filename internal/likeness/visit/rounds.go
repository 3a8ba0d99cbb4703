package visit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/likeness"
	"github.com/quickthorn/quickthorn/internal/wait"
)

const (
	// settle is how long after the start a site is first visited: it may be starting, too.
	settle = 20 * time.Second
	// again is how long it is until a visit that failed is tried again; it doubles up to last.
	again = time.Minute
	last  = time.Hour
)

// Rounds visits sites regularly and keeps what they look like. All fields are required but Settle.
type Rounds struct {
	Sites   []string
	Visit   func(ctx context.Context, site string) (*likeness.Likeness, error)
	Library artifact.Library
	Every   time.Duration // how old what is kept may become
	Settle  time.Duration // until the first visit; 0: 20 s
	Log     *slog.Logger
}

// Run visits the sites until ctx ends. What another process has kept meanwhile counts.
func (r *Rounds) Run(ctx context.Context) error {
	due, pause := map[string]time.Time{}, map[string]time.Duration{}
	first := r.Settle
	if first == 0 {
		first = settle
	}
	for _, site := range r.Sites {
		due[site], pause[site] = time.Now().Add(first), again
	}
	for ctx.Err() == nil {
		next := time.Now().Add(last)
		for _, site := range r.Sites {
			if now := time.Now(); !now.Before(due[site]) {
				at, err := r.look(ctx, site)
				switch {
				case ctx.Err() != nil:
					return nil
				case err == nil:
					due[site], pause[site] = at.Add(r.Every), again
				default:
					r.Log.Info("what the site looks like could not be learnt yet", "site", site, "again", pause[site], "error", err)
					due[site], pause[site] = now.Add(pause[site]), min(2*pause[site], last)
				}
			}
			if due[site].Before(next) {
				next = due[site]
			}
		}
		wait.For(ctx, time.Until(next))
	}
	return nil
}

// look visits the site unless what is kept of it is young enough, and returns how old that is now.
func (r *Rounds) look(ctx context.Context, site string) (time.Time, error) {
	list, err := r.Library.List(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if kept, err := artifact.Latest(list, artifact.Likeness, site); err == nil && time.Since(kept.At) < r.Every {
		return kept.At, nil
	}
	like, err := r.Visit(ctx, site)
	if err != nil {
		return time.Time{}, err
	}
	b, err := json.Marshal(like)
	if err != nil {
		return time.Time{}, fmt.Errorf("likeness: %w", err)
	}
	if _, err := r.Library.Put(ctx, artifact.Likeness, site, "", b); err != nil {
		return time.Time{}, err
	}
	return time.Now(), nil
}
