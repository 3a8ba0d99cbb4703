package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/price"
)

// Metrics are the counters of an API. It is a prometheus.Collector.
type Metrics struct {
	requests        *prometheus.CounterVec
	duration, first *prometheus.HistogramVec
	tokens, cost    *prometheus.CounterVec
	cache           *prometheus.CounterVec
	inFlight        prometheus.Gauge
	queued          prometheus.Gauge
}

// NewMetrics returns counters at nought.
func NewMetrics() *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quickthorn_llm_requests_total", Help: "Calls of language models, by the route that they took (none: none was found) and the status of the answer. 499: the caller went away.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quickthorn_llm_request_duration_seconds", Help: "Time from a call to the end of its answer, further attempts and the queue included.", Buckets: backend.Seconds(),
		}, []string{"route"}),
		first: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quickthorn_llm_first_token_seconds", Help: "Time from a call to the first piece of its streamed answer.", Buckets: backend.Seconds(),
		}, []string{"route"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quickthorn_llm_tokens_total", Help: "Tokens of calls (direction prompt) and of answers (completion), as the server tells or, where it does not, as they are counted here.",
		}, []string{"route", "backend", "direction"}),
		cost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quickthorn_llm_cost_dollars_total", Help: "What the calls cost by the price table, in US dollars.",
		}, []string{"route", "backend"}),
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quickthorn_llm_cache_total", Help: "Calls whose answer may be one that was given before: hit, shared (another such call was under way) or miss.",
		}, []string{"result"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "quickthorn_llm_requests_in_flight", Help: "Calls of language models under way."}),
		queued:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "quickthorn_llm_requests_queued", Help: "Calls of language models that wait for their turn."}),
	}
	for _, result := range []string{"hit", "shared", "miss"} {
		m.cache.WithLabelValues(result)
	}
	return m
}

func (m *Metrics) used(route, server string, u *chat.Usage, cost price.Money) {
	if u == nil {
		return
	}
	m.tokens.WithLabelValues(route, server, "prompt").Add(float64(max(u.PromptTokens, 0)))
	m.tokens.WithLabelValues(route, server, "completion").Add(float64(u.Answer()))
	m.cost.WithLabelValues(route, server).Add(max(cost.Dollars(), 0))
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.duration, m.first, m.tokens, m.cost, m.cache, m.inFlight, m.queued}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}
