package record

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/telemetry"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// PrunerOptions are the settings of a Pruner. Now is required.
type PrunerOptions struct {
	MaxAge   time.Duration // events are kept for so long; 0: for ever
	MaxBytes int64         // the archive is kept below this; 0: no limit
	Every    time.Duration // time between the removals of old events; 0: 5 min
	Now      func() time.Time
}

// Pruner removes old events from an archive. Whoever owns the archive runs one.
type Pruner struct {
	o       PrunerOptions
	archive Archive
	pruned  atomic.Uint64
	state   *telemetry.State
}

// NewPruner returns a pruner of the archive; Run makes it work.
func NewPruner(o PrunerOptions, archive Archive, log *slog.Logger) *Pruner {
	setDefault(&o.Every, 5*time.Minute)
	return &Pruner{o: o, archive: archive, state: telemetry.NewState(log, "old events cannot be removed from the archive; it may grow beyond its limits",
		"old events are removed from the archive again", o.Now)}
}

// Run removes old events at once and then now and then, until ctx ends. It returns nil.
func (p *Pruner) Run(ctx context.Context) error {
	for p.limited() && ctx.Err() == nil {
		_ = p.Once(ctx) // what is wrong is said in the log and in Stats
		wait.For(ctx, p.o.Every)
	}
	return nil
}

// limited tells whether anything is ever removed.
func (p *Pruner) limited() bool { return p.o.MaxAge > 0 || p.o.MaxBytes > 0 }

// Once removes what is old now.
func (p *Pruner) Once(ctx context.Context) error {
	if !p.limited() {
		return nil
	}
	n, err := p.archive.Prune(ctx, p.o.MaxAge, p.o.MaxBytes, p.o.Now())
	p.pruned.Add(uint64(n))
	if ctx.Err() == nil {
		p.state.Report(err)
	}
	return err
}

// PrunerStats is the state of an archive, for metrics and the health page.
type PrunerStats struct {
	Pruned       uint64 // events removed as too old or too many, since the start
	ArchiveBytes int64  // size on disk; −1 if it cannot be told
	Err          error  // why events cannot be removed now; nil when all is well
}

// Stats returns the present state.
func (p *Pruner) Stats() PrunerStats {
	s := PrunerStats{Pruned: p.pruned.Load(), Err: p.state.Err()}
	var err error
	if s.ArchiveBytes, err = p.archive.Size(); err != nil {
		s.ArchiveBytes = -1
	}
	return s
}
