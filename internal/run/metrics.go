package run

import (
	"errors"

	"github.com/quickthorn/quickthorn/internal/intake"
	"github.com/quickthorn/quickthorn/internal/proxy"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// register shows what the slow path counts.
func (p *slowPart) register() error {
	m := p.s.Metrics
	if err := proxy.RegisterDecisions(m, p.decisions.Set()); err != nil {
		return err
	}
	pruned := func(f func(record.PrunerStats) float64) func() float64 {
		return func() float64 {
			if p.pruner == nil {
				return 0
			}
			return f(p.pruner.Stats())
		}
	}
	errs := []error{
		m.Gauge("leading", "1 while this process owns the decisions.", func() float64 { return telemetry.Bool(p.leading.Load()) }),
		m.Gauge("archive_up", "1 if events can be kept.", func() float64 { return telemetry.Bool(p.archiveUp()) }),
		m.Gauge("archive_bytes", "Size of the archive; -1 if it cannot be told.", pruned(func(s record.PrunerStats) float64 { return float64(s.ArchiveBytes) })),
		m.Counter("events_pruned_total", "Events removed as too old or too many.", pruned(func(s record.PrunerStats) float64 { return float64(s.Pruned) })),
	}
	if p.intake != nil {
		stat := func(f func(intake.Stats) float64) func() float64 {
			return func() float64 { return f(p.intake.Stats()) }
		}
		depth := func(f func(*queue.Depth) float64) func() float64 {
			return func() float64 {
				if d := p.depth.Load(); d != nil {
					return f(d)
				}
				return 0
			}
		}
		errs = append(errs,
			m.Counter("intake_accepted_total", "Events acknowledged, and so kept.", stat(func(s intake.Stats) float64 { return float64(s.Accepted) })),
			m.Counter("intake_duplicate_total", "Events that had been acknowledged before.", stat(func(s intake.Stats) float64 { return float64(s.Duplicate) })),
			m.Counter("intake_rejected_total", "Events that are none.", stat(func(s intake.Stats) float64 { return float64(s.Rejected) })),
			m.Counter("intake_transient_total", "Events of this process that were looked at and forgotten.", stat(func(s intake.Stats) float64 { return float64(s.Transient) })),
			m.Counter("intake_unobserved_total", "Transient events that there was no time to look at.", stat(func(s intake.Stats) float64 { return float64(s.Unobserved) })),
			m.Counter("intake_archived_total", "Events moved from the queue to the archive.", stat(func(s intake.Stats) float64 { return float64(s.Archived) })),
			m.Counter("intake_dead_letters_total", "Batches put aside because they could not be read.", stat(func(s intake.Stats) float64 { return float64(s.Buried) })),
			m.Gauge("intake_lag_seconds", "From acceptance to the archive, of the latest batch.", stat(func(s intake.Stats) float64 { return s.Lag.Seconds() })),
			m.Counter("cases_judged_total", "Judgements of cases.", stat(func(s intake.Stats) float64 { return float64(s.Judged) })),
			m.Counter("engine_decisions_total", "Decisions that came of cases.", stat(func(s intake.Stats) float64 { return float64(s.Decided) })),
			m.Counter("engine_decisions_refused_total", "Proposals that must not or could not be carried out.", stat(func(s intake.Stats) float64 { return float64(s.Refused) })),
			m.Gauge("queue_batches", "Batches of events in the queue.", depth(func(d *queue.Depth) float64 { return float64(d.Batches) })),
			m.Gauge("queue_bytes", "Size of the queue.", depth(func(d *queue.Depth) float64 { return float64(d.Bytes) })),
			m.Gauge("queue_dead_letters", "Dead letters that wait for somebody to look at them.", depth(func(d *queue.Depth) float64 { return float64(d.Dead) })),
		)
	}
	return errors.Join(errs...)
}

func (p *slowPart) archiveUp() bool {
	return p.archive != nil && p.pruner.Stats().Err == nil && (p.intake == nil || !p.intake.ArchiveFailing())
}
