package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/jobs"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/store"
)

// Sync is the scheduled jobs as a service of its own.
type Sync struct {
	*service.Service
	runner  *jobs.Runner
	archive store.Archive
}

// openSync makes the jobs.
func openSync(ctx context.Context, o service.Options) (_ *Sync, err error) {
	c := o.Config
	p := &Sync{Service: service.New(o)}
	defer p.CloseOnError(&err)
	if c.Archive.Store != "postgres" {
		return nil, errors.New("archive.store: sync works on an archive in PostgreSQL: set archive.store=postgres and archive.postgres.url. " +
			"An archive in a file belongs to one process, which does this work itself")
	}
	if p.archive, err = openArchive(ctx, p.Service, false); err != nil {
		return nil, err
	}
	var list []jobs.Job
	if p.archive != nil {
		list = append(list, p.retention())
		if c.Tarpit.Enabled && len(c.Tarpit.Texts) > 0 {
			list = append(list, corpusJob(c, &artifact.Local{Store: p.archive, Now: time.Now}))
		}
	}
	if p.runner, err = jobs.New(jobs.Options{Jobs: list, Now: time.Now, Log: o.Log}); err != nil {
		return nil, err
	}
	return p, p.Metrics.Registry.Register(p.runner)
}

// retention removes events and cases that are older, or more, than the configuration says.
func (p *Sync) retention() jobs.Job {
	c := p.Config
	pruner := newPruner(p.Service, p.archive)
	return jobs.Job{Name: "retention", Every: c.Sync.RetentionEvery, Run: func(ctx context.Context) error {
		return errors.Join(pruner.Once(ctx), pruneCases(ctx, c, p.archive))
	}}
}

// OpenSync prepares the scheduler. It starts while PostgreSQL is away; jobs are tried again.
func OpenSync(ctx context.Context, o service.Options) (_ *Sync, err error) {
	p, err := openSync(ctx, o)
	if err != nil {
		return nil, err
	}
	defer p.CloseOnError(&err)
	if p.archive != nil {
		p.Require("archive", p.archive.Ping)
	}
	p.Background("jobs", p.runner.Run)
	return p, p.ServeHealth(ctx)
}

// RunJob runs one of sync's jobs now.
func RunJob(ctx context.Context, o service.Options, name string) error {
	p, err := openSync(ctx, o)
	if err != nil {
		return err
	}
	if err := errors.Join(p.runner.Once(ctx, name), p.Close()); err != nil {
		return fmt.Errorf("job %s: %w", name, err)
	}
	return nil
}
