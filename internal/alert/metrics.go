package alert

import "github.com/prometheus/client_golang/prometheus"

// descs are the metrics of a Dispatcher.
type descs struct{ raised, lost, messages, retries, up, queued, waiting *prometheus.Desc }

func newDescs() *descs {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("quickthorn_"+name, help, labels, nil)
	}
	return &descs{
		raised:   d("alerts_raised_total", "Alerts raised, by severity.", "severity"),
		lost:     d("alerts_unsent_total", "Alerts that were not to be sent (no rule, or a silent one: unrouted) or were raised after the end (late).", "reason"),
		messages: d("alert_messages_total", "Messages by channel and outcome: sent, failed (refused, or given up after an hour), abandoned (at the end).", "channel", "outcome"),
		retries:  d("alert_retries_total", "Further attempts to send a message, by channel.", "channel"),
		up:       d("alert_channel_up", "1 when the channel's last attempt succeeded or there was none, 0 when it failed.", "channel"),
		queued:   d("alert_messages_queued", "Messages that wait for their channel.", "channel"),
		waiting:  d("alerts_waiting", "Alerts that are gathered for messages to come, in quiet hours too.", "channel"),
	}
}

// Describe implements prometheus.Collector.
func (d *Dispatcher) Describe(ch chan<- *prometheus.Desc) {
	for _, x := range []*prometheus.Desc{d.descs.raised, d.descs.lost, d.descs.messages, d.descs.retries, d.descs.up, d.descs.queued, d.descs.waiting} {
		ch <- x
	}
}

// Collect implements prometheus.Collector.
func (d *Dispatcher) Collect(ch chan<- prometheus.Metric) {
	count := func(desc *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(desc *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v), labels...)
	}
	for s := range severities {
		count(d.descs.raised, d.raised[s].Load(), s.String())
	}
	count(d.descs.lost, d.unrouted.Load(), "unrouted")
	count(d.descs.lost, d.late.Load(), "late")
	for _, s := range d.Status() {
		count(d.descs.messages, s.Sent, s.Channel, "sent")
		count(d.descs.messages, s.Failed, s.Channel, "failed")
		count(d.descs.messages, s.Abandoned, s.Channel, "abandoned")
		count(d.descs.retries, s.Retries, s.Channel)
		up := 1
		if s.Problem != "" {
			up = 0
		}
		gauge(d.descs.up, up, s.Channel)
		gauge(d.descs.queued, s.Queued, s.Channel)
		gauge(d.descs.waiting, s.Waiting, s.Channel)
	}
}

// ChannelStatus is how one channel does.
type ChannelStatus struct {
	Channel   string `json:"channel"`
	Problem   string `json:"problem,omitempty"` // why the last attempt failed; "" when it did not
	Sent      uint64 `json:"sent"`              // messages, since the start, as the next three
	Failed    uint64 `json:"failed"`            // refused, or given up
	Abandoned uint64 `json:"abandoned"`         // unsent at the end
	Retries   uint64 `json:"retries"`           // further attempts
	Queued    int    `json:"queued"`            // messages that wait for the channel
	Waiting   int    `json:"waiting"`           // alerts gathered for messages to come
}

// Status returns how the channels do, in the order of Options.Channels.
func (d *Dispatcher) Status() []ChannelStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]ChannelStatus, 0, len(d.lanes))
	for _, l := range d.lanes {
		s := ChannelStatus{
			Channel: l.name, Sent: l.delivered.Load(), Failed: l.failed.Load(), Abandoned: l.abandoned.Load(), Retries: l.retries.Load(),
			Queued: len(l.queue), Waiting: l.waiting(),
		}
		if l.busy.Load() {
			s.Queued++
		}
		if err := l.state.Err(); err != nil {
			s.Problem = err.Error()
		}
		all = append(all, s)
	}
	return all
}
