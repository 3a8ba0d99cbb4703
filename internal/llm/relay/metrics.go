package relay

import "github.com/prometheus/client_golang/prometheus"

// metrics are a relay's own; the Relay is their prometheus.Collector. All have the label target, so that several relays fit into one registry.
type metrics struct {
	requests                    *prometheus.CounterVec
	requestBytes, responseBytes prometheus.Counter
	inFlight                    prometheus.Gauge
}

func newMetrics(t Target) *metrics {
	target := prometheus.Labels{"target": string(t)}
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quickthorn_llm_requests_total", ConstLabels: target,
			Help: "Calls of a language model, by the status they were answered with; 499: the caller went away; 502 or 504 also when an answer broke off or paused.",
		}, []string{"code"}),
		requestBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quickthorn_llm_request_bytes_total", Help: "Bytes of calls that were sent on.", ConstLabels: target,
		}),
		responseBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quickthorn_llm_response_bytes_total", Help: "Bytes of answers that were passed on.", ConstLabels: target,
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quickthorn_llm_requests_in_flight", Help: "Calls under way.", ConstLabels: target,
		}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.requestBytes, m.responseBytes, m.inFlight}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}
