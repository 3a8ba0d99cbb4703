package telemetry

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Namespace begins the name of every metric of ours: quickthorn_requests_total.
const Namespace = "quickthorn"

// Metrics is a private registry with what every service shows: Go's and the
// process's own metrics and which build runs. Packages register their collectors
// on Registry, or functions by [Metrics.Counter] and [Metrics.Gauge].
type Metrics struct {
	Registry *prometheus.Registry
}

// NewMetrics returns metrics that tell the version and the revision of the build.
func NewMetrics(version, revision string) *Metrics {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: Namespace, Name: "build_info", Help: "Always 1; the labels say which build runs.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	})
	info.Set(1)
	r.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Metrics{r}
}

// Counter shows a number that only grows. The name, without "quickthorn_", ends in
// "_total"; value must be safe for concurrent use and must not block.
func (m *Metrics) Counter(name, help string, value func() float64) error {
	if !strings.HasSuffix(name, "_total") {
		return fmt.Errorf("register metric %s: a counter's name ends in _total", name)
	}
	return m.register(name, help, prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: Namespace, Name: name, Help: help}, value))
}

// Gauge shows a number that goes up and down. The name, without "quickthorn_", ends
// in its unit where it has one (_seconds, _bytes, _ratio); value as for [Metrics.Counter].
func (m *Metrics) Gauge(name, help string, value func() float64) error {
	if strings.HasSuffix(name, "_total") {
		return fmt.Errorf("register metric %s: only a counter's name ends in _total", name)
	}
	return m.register(name, help, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: Namespace, Name: name, Help: help}, value))
}

func (m *Metrics) register(name, help string, c prometheus.Collector) error {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || name == "" {
		return fmt.Errorf("register metric %q: a name has lower-case letters, digits and underscores", name)
	}
	if help == "" {
		return fmt.Errorf("register metric %s: it needs a help text", name)
	}
	if err := m.Registry.Register(c); err != nil {
		return fmt.Errorf("register metric %s: %w", name, err)
	}
	return nil
}

// Handler serves the metrics in Prometheus's formats, to at most four readers at
// once and within ten seconds. A collector that fails is logged; the others are shown.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
		EnableOpenMetrics:   true,
	})
}
