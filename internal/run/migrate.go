package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/store/postgres"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// ErrStoreAway means that a store did not answer in time. What must not wait for it may begin all the same.
var ErrStoreAway = errors.New("a store was away for too long")

// Migrate waits until the stores that the configuration names answer, at most for limit, and brings the archive's tables up to date. The
// error is ErrStoreAway if one does not answer, and another if waiting longer would not help.
func Migrate(ctx context.Context, o service.Options, limit time.Duration) (err error) {
	c := o.Config
	s := service.New(o)
	defer func() { err = errors.Join(err, s.Close()) }()
	type step struct {
		name string
		do   func(ctx context.Context) error
	}
	var steps []step
	if c.State.Store == "redis" {
		st, err := openRedis(c, o.Log)
		if err != nil {
			return err
		}
		s.OnClose(st.Close)
		steps = append(steps, step{"Redis", st.Ping})
	}
	if c.Archive.Store == "postgres" && c.Events.Enabled {
		a, err := openArchive(ctx, s, false)
		if err != nil {
			return err
		}
		steps = append(steps, step{"PostgreSQL", a.Ping}) // the first call brings the tables up to date
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, step := range steps {
		if err := until(ctx, step.do); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		o.Log.Info(step.name + " is ready")
	}
	return nil
}

// until calls do until it succeeds or ctx ends. An error that time does not mend is returned at once.
func until(ctx context.Context, do func(ctx context.Context) error) error {
	for {
		err := do(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, postgres.ErrForeign), errors.Is(err, postgres.ErrNewer):
			return err
		}
		wait.For(ctx, time.Second)
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ErrStoreAway, err)
		}
	}
}
