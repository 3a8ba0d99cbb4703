package tarpit

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quickthorn/quickthorn/internal/drip"
)

// Collector shows what the tarpit counts.
type Collector struct {
	tarpit                                                       *Tarpit
	on, connections, streams, answers, seconds, bytes, cpu, shed *prometheus.Desc
	ended, spent                                                 *prometheus.Desc
}

// NewCollector returns a collector for t. Every name begins with quickthorn_tarpit_.
func NewCollector(t *Tarpit) *Collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("quickthorn_tarpit_"+name, help, labels, nil)
	}
	return &Collector{
		tarpit:      t,
		on:          d("on", "1 while the tarpit takes clients in: it is switched on and the machine is not needed for readers."),
		connections: d("connections", "Clients in the maze now."),
		streams:     d("streams", "Of these, those held by a page that never ends."),
		answers:     d("answers_total", "Answers of the maze, by kind.", "kind"),
		seconds:     d("client_seconds_total", "What the maze cost the clients in it: their time, in seconds."),
		bytes:       d("bytes_total", "Bytes sent by the maze."),
		cpu:         d("cpu_seconds_total", "What the maze cost us: the processor's time for making its answers."),
		shed:        d("refused_total", "Clients that were not taken in, by reason.", "reason"),
		ended:       d("streams_ended_total", "Pages that never end which have ended all the same, by reason.", "reason"),
		spent:       d("spent_total", "Requests beyond the client's pages of the day."),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.on, c.connections, c.streams, c.answers, c.seconds, c.bytes, c.cpu, c.shed, c.ended, c.spent} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	put := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	t := c.tarpit
	on := 0.0
	if t.On() && !t.pressed.Load() {
		on = 1
	}
	all, streams := t.Total(), t.o.Streams.Stats()
	put(c.on, prometheus.GaugeValue, on)
	put(c.connections, prometheus.GaugeValue, float64(t.Held()))
	put(c.streams, prometheus.GaugeValue, float64(streams.Held))
	put(c.answers, prometheus.CounterValue, float64(all.Pages-all.Streams-all.Archives), "page")
	put(c.answers, prometheus.CounterValue, float64(all.Streams), "stream")
	put(c.answers, prometheus.CounterValue, float64(all.Archives), "archive")
	put(c.seconds, prometheus.CounterValue, all.Held.Seconds())
	put(c.bytes, prometheus.CounterValue, float64(all.Bytes))
	put(c.cpu, prometheus.CounterValue, all.Cost.Seconds())
	put(c.spent, prometheus.CounterValue, float64(all.Spent))
	for i := range t.shed {
		put(c.shed, prometheus.CounterValue, float64(t.shed[i].Load()), shedReason(i).String())
	}
	for i := range streams.Ended {
		put(c.ended, prometheus.CounterValue, float64(streams.Ended[i]), drip.Reason(i).String())
	}
}
