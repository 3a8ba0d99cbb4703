package proxy

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/ship"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// unrecorded stands in for the recorder when events are off or the archive cannot be opened.
type unrecorded struct{ dropped atomic.Uint64 }

func (u *unrecorded) Count(*defense.Verdict, string) {}
func (u *unrecorded) Wants(*defense.Verdict) record.Want {
	return record.None
}
func (u *unrecorded) Record(*defense.Event)         { u.dropped.Add(1) }
func (u *unrecorded) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (u *unrecorded) Stats() record.Stats           { return record.Stats{Dropped: u.dropped.Load()} }

// register shows what the edge counts. Every name begins with quickthorn_.
func (e *Part) register() error {
	m := e.s.Metrics
	if err := m.Registry.Register(e.edge); err != nil {
		return err
	}
	stat := func(f func(record.Stats) float64) func() float64 {
		return func() float64 { return f(e.recorder.Stats()) }
	}
	return errors.Join(
		m.Gauge("mode", "Mode: 0 certain, 1 enforce, 2 observe, 3 off.", func() float64 { return float64(e.inForce()) }),
		m.Gauge("posture", "Posture: 0 calm, 1 guarded, 2 siege.", func() float64 { return float64(e.gauge.Current()) }),
		m.Gauge("policy_stale", "1 while the policy on disk is wrong and an older one stays in force.", func() float64 { return telemetry.Bool(e.policy.Stale()) }),
		m.Counter("posture_changes_total", "Changes of posture.", func() float64 { return float64(e.gauge.Snapshot().Changes) }),
		m.Gauge("upstream_in_flight", "Requests that wait for the upstream's answer.", func() float64 { return float64(e.gauge.Snapshot().InFlight) }),
		m.Gauge("upstream_latency_seconds", "Mean time to the upstream's answer in the latest window.", func() float64 { return e.gauge.Snapshot().Window.MeanLatency.Seconds() }),
		m.Gauge("upstream_errors_ratio", "Share of requests that the upstream failed in the latest window.", func() float64 { return e.gauge.Snapshot().Window.ErrorShare }),
		m.Gauge("budget_buckets", "Budget buckets in use.", func() float64 { return float64(e.budgets.Stats().Entries) }),
		m.Counter("budget_evictions_total", "Budget buckets forgotten before they were full; if this grows, raise budgets.maxClients.", func() float64 { return float64(e.budgets.Stats().Evictions) }),
		m.Gauge("events_queued", "Events of the edge that wait to be handed over.", stat(func(s record.Stats) float64 { return float64(s.Queued) })),
		m.Counter("events_recorded_total", "Events handed over to the intake or the archive.", stat(func(s record.Stats) float64 { return float64(s.Recorded) })),
		m.Counter("events_observed_total", "Plainly allowed requests that the intake was shown and the archive does not keep.", stat(func(s record.Stats) float64 { return float64(s.Observed) })),
		m.Counter("events_unobserved_total", "Plainly allowed requests that nobody looked at, for want of room.", stat(func(s record.Stats) float64 { return float64(s.Unobserved) })),
		m.Counter("events_dropped_total", "Events lost because the queue was full or the intake away.", stat(func(s record.Stats) float64 { return float64(s.Dropped) })),
		m.Counter("events_write_failures_total", "Attempts to hand events over that failed and were made again.", stat(func(s record.Stats) float64 { return float64(s.Failed) })),
	)
}

// registerRemote shows how well an edge is in step with ai-service.
func (p *Proxy) registerRemote(set *decision.Set, sink *ship.Client) error {
	m := p.Metrics
	if err := RegisterDecisions(m, set); err != nil {
		return err
	}
	stat := func(f func(decision.FollowerStats) float64) func() float64 {
		return func() float64 { return f(p.follower.Stats()) }
	}
	return errors.Join(
		m.Counter("events_rejected_total", "Events that ai-service does not take, and are lost.", func() float64 { return float64(sink.Stats().Rejected) }),
		m.Counter("counters_rejected_total", "Sets of counters that ai-service does not take, and are lost.", func() float64 { return float64(sink.Stats().RejectedSets) }),
		m.Gauge("decisions_connected", "1 while the decision log answers.", stat(func(s decision.FollowerStats) float64 { return telemetry.Bool(s.Connected) })),
		m.Gauge("decisions_sequence", "Sequence of the decision log up to which this edge is in step.", stat(func(s decision.FollowerStats) float64 { return float64(s.Last) })),
		m.Gauge("decisions_lag_seconds", "Since when changes of decisions may have been missed; 0 while connected.", stat(func(s decision.FollowerStats) float64 { return s.Lag.Seconds() })),
		m.Counter("decisions_repaired_total", "Decisions that a comparison with the whole log found here only.", stat(func(s decision.FollowerStats) float64 { return float64(s.Repaired) })),
	)
}

// RegisterDecisions shows the decisions in force.
func RegisterDecisions(m *telemetry.Metrics, set *decision.Set) error {
	return m.Registry.Register(&decisionCollector{set, prometheus.NewDesc("quickthorn_decisions", "Decisions in force.", []string{"origin", "action"}, nil)})
}

// decisionCollector counts decisions by origin and action.
type decisionCollector struct {
	set  *decision.Set
	desc *prometheus.Desc
}

func (c *decisionCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *decisionCollector) Collect(ch chan<- prometheus.Metric) {
	for _, n := range c.set.Counts() {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n.N), n.Origin, n.Action.String())
	}
}
