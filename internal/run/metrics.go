package run

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quickthorn/quickthorn/internal/budget"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// unrecorded stands in for the recorder when events are off or the archive cannot be opened.
type unrecorded struct{ dropped atomic.Uint64 }

func (u *unrecorded) Count(*defense.Verdict, string) {}
func (u *unrecorded) Wants(*defense.Verdict) bool    { return false }
func (u *unrecorded) Record(*defense.Event)          { u.dropped.Add(1) }
func (u *unrecorded) Run(ctx context.Context) error  { <-ctx.Done(); return nil }
func (u *unrecorded) Stats() record.Stats            { return record.Stats{Dropped: u.dropped.Load()} }

// register shows what the parts count. Every name begins with quickthorn_.
func (p *Program) register(m *telemetry.Metrics, budgets *budget.Store) error {
	if err := m.Registry.Register(p.edge); err != nil {
		return err
	}
	if err := m.Registry.Register(&decisionCollector{p, prometheus.NewDesc("quickthorn_decisions", "Decisions in force.", []string{"origin", "action"}, nil)}); err != nil {
		return err
	}
	number := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	stat := func(f func(record.Stats) float64) func() float64 {
		return func() float64 { return f(p.recorder.Stats()) }
	}
	type metric struct {
		add        func(name, help string, value func() float64) error
		name, help string
		value      func() float64
	}
	for _, k := range []metric{
		{m.Gauge, "mode", "Mode: 0 certain, 1 enforce, 2 observe, 3 off.", func() float64 { return float64(p.mode.Mode()) }},
		{m.Gauge, "posture", "Posture: 0 calm, 1 guarded, 2 siege.", func() float64 { return float64(p.gauge.Current()) }},
		{m.Gauge, "policy_stale", "1 while the policy on disk is wrong and an older one stays in force.", func() float64 { return number(p.policy.Stale()) }},
		{m.Counter, "posture_changes_total", "Changes of posture.", func() float64 { return float64(p.gauge.Snapshot().Changes) }},
		{m.Gauge, "upstream_in_flight", "Requests that wait for the upstream's answer.", func() float64 { return float64(p.gauge.Snapshot().InFlight) }},
		{m.Gauge, "upstream_latency_seconds", "Mean time to the upstream's answer in the latest window.", func() float64 { return p.gauge.Snapshot().Window.MeanLatency.Seconds() }},
		{m.Gauge, "upstream_errors_ratio", "Share of requests that the upstream failed in the latest window.", func() float64 { return p.gauge.Snapshot().Window.ErrorShare }},
		{m.Gauge, "budget_buckets", "Budget buckets in use.", func() float64 { return float64(budgets.Stats().Entries) }},
		{m.Counter, "budget_evictions_total", "Budget buckets forgotten before they were full; if this grows, raise budgets.maxClients.", func() float64 { return float64(budgets.Stats().Evictions) }},
		{m.Gauge, "archive_up", "1 if events can be kept.", func() float64 {
			return number(p.archive != nil && p.recorder.Stats().Err == nil)
		}},
		{m.Gauge, "archive_bytes", "Size of the event archive on disk.", stat(func(s record.Stats) float64 { return float64(s.ArchiveBytes) })},
		{m.Gauge, "events_queued", "Events that wait to be written.", stat(func(s record.Stats) float64 { return float64(s.Queued) })},
		{m.Counter, "events_recorded_total", "Events written to the archive.", stat(func(s record.Stats) float64 { return float64(s.Recorded) })},
		{m.Counter, "events_dropped_total", "Events lost because the queue was full or the archive away.", stat(func(s record.Stats) float64 { return float64(s.Dropped) })},
		{m.Counter, "events_write_failures_total", "Writes to the archive that failed and were tried again.", stat(func(s record.Stats) float64 { return float64(s.Failed) })},
		{m.Counter, "events_pruned_total", "Events removed as too old or too many.", stat(func(s record.Stats) float64 { return float64(s.Pruned) })},
	} {
		if err := k.add(k.name, k.help, k.value); err != nil {
			return err
		}
	}
	return nil
}

// decisionCollector counts decisions by origin and action.
type decisionCollector struct {
	p    *Program
	desc *prometheus.Desc
}

func (c *decisionCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *decisionCollector) Collect(ch chan<- prometheus.Metric) {
	for _, n := range c.p.decisions.Set().Counts() {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n.N), n.Origin, n.Action.String())
	}
}
