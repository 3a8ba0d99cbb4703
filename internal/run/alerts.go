package run

import (
	"fmt"
	"log/slog"
	randv2 "math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/quickthorn/quickthorn/internal/alert"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/private"
)

// Alerts makes the dispatcher that the configuration describes. Without a channel it counts and sends nothing.
func Alerts(c *config.Alerts, log *slog.Logger) (*alert.Dispatcher, error) {
	channels, err := alertChannels(c)
	if err != nil {
		return nil, err
	}
	severity, err := alert.ParseSeverity(c.Severity)
	if err != nil {
		return nil, fmt.Errorf("alerts.severity: %w", err)
	}
	rule := alert.Rule{Severity: severity, Kinds: c.Kinds}
	if c.QuietFrom != "" {
		if rule.Quiet, err = quietHours(c); err != nil {
			return nil, err
		}
	}
	return alert.New(alert.Options{
		Channels: channels, Rules: []alert.Rule{rule}, GroupWait: c.Wait, GroupInterval: c.Interval, MessagesPerHour: c.PerHour,
		Now: time.Now, Random: randv2.Uint64, Log: log,
	})
}

func quietHours(c *config.Alerts) (*alert.QuietHours, error) {
	from, err := alert.ParseClock(c.QuietFrom)
	if err != nil {
		return nil, fmt.Errorf("alerts.quietFrom: %w", err)
	}
	to, err := alert.ParseClock(c.QuietTo)
	if err != nil {
		return nil, fmt.Errorf("alerts.quietTo: %w", err)
	}
	zone, err := time.LoadLocation(c.QuietZone)
	if err != nil {
		return nil, fmt.Errorf("alerts.quietZone: %w", err)
	}
	return &alert.QuietHours{From: from, To: to, Location: zone, CriticalPasses: c.QuietCritical}, nil
}

// alertChannels makes the channels that are set up, each under the name of its section.
func alertChannels(c *config.Alerts) ([]alert.Channel, error) {
	var channels []alert.Channel
	add := func(section string, ch alert.Channel, err error) error {
		if err != nil {
			return fmt.Errorf("alerts.%s: %w", section, err)
		}
		channels = append(channels, ch)
		return nil
	}
	if len(c.Email.To) > 0 {
		o := alert.EmailOptions{
			Name: "email", Host: c.Email.Server, Encryption: alert.Encryption(c.Email.Security), Username: c.Email.Username,
			Password: c.Email.Password, From: c.Email.From, To: c.Email.To,
		}
		if host, port, err := net.SplitHostPort(c.Email.Server); err == nil {
			o.Host = host
			if o.Port, err = strconv.Atoi(port); err != nil {
				return nil, fmt.Errorf("alerts.email.server: port %q is no number", port)
			}
		}
		ch, err := alert.NewEmail(o)
		if err := add("email", ch, err); err != nil {
			return nil, err
		}
	}
	if c.Slack.URL != "" {
		ch, err := alert.NewSlack(alert.SlackOptions{Name: "slack", URL: c.Slack.URL, Now: time.Now})
		if err := add("slack", ch, err); err != nil {
			return nil, err
		}
	}
	if c.Webhook.URL != "" {
		ch, err := alert.NewWebhook(alert.WebhookOptions{Name: "webhook", URL: c.Webhook.URL, Secret: []byte(c.Webhook.Secret), Now: time.Now})
		if err := add("webhook", ch, err); err != nil {
			return nil, err
		}
	}
	if len(c.Command) > 0 {
		ch, err := alert.NewCommand(alert.CommandOptions{Name: "command", Program: c.Command[0], Args: c.Command[1:]})
		if err := add("command", ch, err); err != nil {
			return nil, err
		}
	}
	return channels, nil
}

// AlertsAPI serves POST /v1/alerts/test: a test alert by the channel that channel= names, or by all.
type AlertsAPI struct{ Dispatcher *alert.Dispatcher }

// AlertTest is the answer: what became of the test in each channel.
type AlertTest struct {
	Results []alert.Result `json:"results"`
}

// Register adds the route.
func (a *AlertsAPI) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/alerts/test", func(w http.ResponseWriter, r *http.Request) {
		results := a.Dispatcher.Test(r.Context(), r.URL.Query().Get("channel"))
		if results == nil {
			results = []alert.Result{}
		}
		private.JSON(w, AlertTest{results})
	})
}
