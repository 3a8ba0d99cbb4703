package alert

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// After a failed attempt the next one waits, first for minRetry and doubling up to maxRetry, each time
// between half and all of that, so that channels of one host do not call it in step.
const (
	minRetry = 2 * time.Second
	maxRetry = 5 * time.Minute
)

// work sends what is queued until the queue ends, or ctx does.
func (l *lane) work(ctx context.Context) {
	for m := range l.queue {
		l.busy.Store(true)
		l.deliver(ctx, m)
		l.busy.Store(false)
	}
}

// deliver tries to send m until it is sent, refused for good, or too old.
func (l *lane) deliver(ctx context.Context, m *Message) {
	deadline := m.At.Add(l.o.RetryFor)
	wait := minRetry
	closing := l.closing
	for {
		if ctx.Err() != nil {
			l.abandoned.Add(1)
			return
		}
		err := l.attempt(ctx, m)
		if err == nil {
			l.delivered.Add(1)
			l.state.Report(nil)
			return
		}
		if ctx.Err() != nil {
			l.abandoned.Add(1)
			return
		}
		l.state.Report(err)
		pause := wait/2 + time.Duration(l.o.Random()%uint64(wait/2))
		var e *SendError
		refused := false
		if errors.As(err, &e) {
			refused, pause = e.Permanent, max(pause, e.After)
		}
		if refused || l.o.RetryFor < 0 || l.o.Now().Add(pause).After(deadline) {
			l.failed.Add(1)
			l.o.Log.LogAttrs(ctx, slog.LevelWarn, "an alert message is given up", slog.String("channel", l.name),
				slog.String("id", m.ID), slog.String("subject", m.Subject()), slog.Int("alerts", m.Count), slog.Any("error", err))
			return
		}
		wait = min(2*wait, maxRetry)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-closing:
			timer.Stop()
			closing, wait = nil, minRetry
		case <-timer.C:
		}
		l.retries.Add(1)
	}
}

// attempt sends m once, within the limit of time.
func (l *lane) attempt(ctx context.Context, m *Message) error {
	ctx, cancel := context.WithTimeout(ctx, l.o.SendTimeout)
	defer cancel()
	return l.channel.Send(ctx, m)
}
