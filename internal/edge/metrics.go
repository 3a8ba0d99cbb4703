package edge

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quickthorn/quickthorn/internal/challenge"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/upstream"
)

// descs are the edge's metrics; an Edge is their prometheus.Collector.
type descs struct {
	requests, failures, issued, checks, unknown, panics, held, open, refused *prometheus.Desc
	latency                                                                  prometheus.Histogram
}

func newDescs() *descs {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("quickthorn_"+name, help, labels, nil)
	}
	return &descs{
		requests: d("requests_total", "Requests by site, by what was done, and by what mode enforce would have done.", "site", "action", "intended"),
		failures: d("upstream_failures_total", "Requests that the upstream did not answer in full, by reason.", "reason"),
		issued:   d("challenges_issued_total", "Challenge pages shown, by kind.", "kind"),
		checks:   d("challenges_answered_total", "Visits to the pass address, by outcome.", "outcome"),
		unknown:  d("unknown_host_total", "Requests for a host that no site has."),
		panics:   d("panics_total", "Panics while serving a request; each is a bug."),
		held:     d("tarpit_held", "Clients with a tarpit verdict that are held or answered now."),
		open:     d("connections", "Client connections now."),
		refused:  d("connections_refused_total", "Connections closed because edge.limits.maxConnections was reached."),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quickthorn_upstream_answer_seconds", Help: "Time until the upstream's header, in seconds.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
	}
}

func (d *descs) list() []*prometheus.Desc {
	return []*prometheus.Desc{d.requests, d.failures, d.issued, d.checks, d.unknown, d.panics, d.held, d.open, d.refused, d.latency.Desc()}
}

// Describe implements prometheus.Collector.
func (e *Edge) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range e.descs.list() {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (e *Edge) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	for _, s := range e.sites.all {
		for a := range s.verdicts {
			for i := range s.verdicts[a] {
				if n := s.verdicts[a][i].Load(); n > 0 {
					count(e.descs.requests, n, s.Name, defense.Action(a).String(), defense.Action(i).String())
				}
			}
		}
	}
	for k := upstream.FailureNone + 1; k < upstream.FailureKinds; k++ {
		count(e.descs.failures, e.stats.upstreamFailures[k].Load(), k.String())
	}
	for _, k := range defense.ChallengeKinds() {
		count(e.descs.issued, e.stats.issued[k].Load(), k.String())
	}
	for o := range challenge.Outcomes {
		count(e.descs.checks, e.stats.challenges[o].Load(), challenge.Outcome(o).String())
	}
	count(e.descs.unknown, e.stats.unknownHost.Load())
	count(e.descs.panics, e.stats.panics.Load())
	held := e.holder.held()
	if e.Tarpit != nil {
		held += e.Tarpit.Held()
	}
	gauge(e.descs.held, float64(held))
	gauge(e.descs.open, float64(e.connections.open.Load()))
	count(e.descs.refused, e.connections.refused.Load())
	ch <- e.descs.latency
}

// observeUpstream records how long the upstream took to answer.
func (e *Edge) observeUpstream(d time.Duration) { e.descs.latency.Observe(d.Seconds()) }
