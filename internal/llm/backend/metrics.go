package backend

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counters of all back ends of a service, by name. A nil Metrics counts nothing. It is a prometheus.Collector.
type Metrics struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight *prometheus.Desc
	up       *prometheus.Desc

	mu   sync.Mutex
	list []*Backend
}

// NewMetrics returns counters at nought.
func NewMetrics() *Metrics {
	return &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quickthorn_llm_backend_calls_total", Help: "Attempts at a server of language models, by what came of them: answered, caller, unable, refused, busy, broken or gone.",
		}, []string{"backend", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quickthorn_llm_backend_duration_seconds", Help: "Time from a call to the end of its answer.", Buckets: Seconds(),
		}, []string{"backend"}),
		inFlight: prometheus.NewDesc("quickthorn_llm_backend_in_flight", "Calls under way at a server of language models.", []string{"backend"}, nil),
		up:       prometheus.NewDesc("quickthorn_llm_backend_ready", "1 while calls of a server of language models have a chance, 0 while its circuit is broken or its keys rest.", []string{"backend"}, nil),
	}
}

// outcomes are the kinds of failures in metrics.
var outcomes = map[Kind]string{Caller: "caller", Unable: "unable", Refused: "refused", Busy: "busy", Broken: "broken", Gone: "gone"}

func (m *Metrics) add(b *Backend) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, b)
}

func (m *Metrics) ended(name string, f *Failure, d time.Duration) {
	if m == nil {
		return
	}
	outcome := "answered"
	if f != nil {
		outcome = outcomes[f.Kind]
	}
	m.calls.WithLabelValues(name, outcome).Inc()
	m.duration.WithLabelValues(name).Observe(d.Seconds())
}

func (m *Metrics) vectors() []prometheus.Collector {
	return []prometheus.Collector{m.calls, m.duration}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.vectors() {
		c.Describe(ch)
	}
	ch <- m.inFlight
	ch <- m.up
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.vectors() {
		c.Collect(ch)
	}
	m.mu.Lock()
	list := m.list
	m.mu.Unlock()
	for _, b := range list {
		ready := 1.0
		if b.Ready() != nil {
			ready = 0
		}
		ch <- prometheus.MustNewConstMetric(m.inFlight, prometheus.GaugeValue, float64(b.InFlight()), b.Name())
		ch <- prometheus.MustNewConstMetric(m.up, prometheus.GaugeValue, ready, b.Name())
	}
}

// String names a kind.
func (k Kind) String() string {
	if s, ok := outcomes[k]; ok {
		return s
	}
	return strconv.Itoa(int(k))
}

// Seconds are the buckets of histograms of answers' times.
func Seconds() []float64 {
	return []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
}
