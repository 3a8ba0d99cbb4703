package escalation

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// metrics are an engine's own; the Engine is their prometheus.Collector.
type metrics struct {
	judgements, proposals, failures *prometheus.CounterVec
	repeated                        prometheus.Counter
	durations                       *prometheus.HistogramVec
}

func newMetrics(stages []string) *metrics {
	m := &metrics{
		judgements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quickthorn_escalation_judgements_total", Help: "Cases judged, by kind and outcome.",
		}, []string{"kind", "outcome"}),
		proposals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quickthorn_escalation_proposals_total", Help: "Decisions proposed, by scope and action.",
		}, []string{"scope", "action"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quickthorn_escalation_stage_failures_total", Help: "Judgements that a stage had no say in because it failed.",
		}, []string{"stage"}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quickthorn_escalation_repeated_total", Help: "Cases asked about again and answered from memory.",
		}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quickthorn_escalation_stage_seconds", Help: "Time that a stage took, in seconds.",
			Buckets: []float64{.0001, .001, .01, .1, .5, 1, 2.5, 5, 10, 30},
		}, []string{"stage"}),
	}
	for _, s := range stages {
		m.failures.WithLabelValues(s)
	}
	return m
}

func (m *metrics) took(stage string, d time.Duration) {
	m.durations.WithLabelValues(stage).Observe(d.Seconds())
}

func (m *metrics) failed(stage string) { m.failures.WithLabelValues(stage).Inc() }

func (m *metrics) judged(j *defense.Judgement, kind defense.CaseKind) {
	m.judgements.WithLabelValues(string(kind), string(j.Outcome)).Inc()
	for _, p := range j.Proposals {
		m.proposals.WithLabelValues(p.Scope.String(), p.Action.String()).Inc()
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.judgements, m.proposals, m.failures, m.repeated, m.durations}
}

// Describe implements prometheus.Collector.
func (e *Engine) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range e.metrics.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (e *Engine) Collect(ch chan<- prometheus.Metric) {
	for _, c := range e.metrics.all() {
		c.Collect(ch)
	}
}
