package decision

import (
	"context"
	"log/slog"
	"time"

	"github.com/quickthorn/quickthorn/internal/telemetry"
)

// Ringer tells those who follow the log that there is something new.
type Ringer interface {
	Ring(ctx context.Context) error
}

// ringTime bounds one attempt to ring.
const ringTime = 5 * time.Second

// Announce rings the bell after changes of the log, until ctx ends, and returns nil then. also, which may be nil, is
// something else to be announced, such as API.ModeChanged. It stands beside
// the log rather than in it, so that a bell that hangs holds up no commit; several changes may be one ring. A ring
// that fails is repeated.
func (l *Log) Announce(ctx context.Context, bell Ringer, also func() <-chan struct{}, log *slog.Logger) error {
	state := telemetry.NewState(log, "changes of decisions cannot be announced; those who follow find them when they ask", "changes of decisions are announced again", l.now)
	if also == nil {
		also = func() <-chan struct{} { return nil }
	}
	changed, alsoChanged := l.Changed(), also()
	for {
		select {
		case <-changed:
		case <-alsoChanged:
		case <-ctx.Done():
			return nil
		}
		// Before the ring: what changes while it rings is rung for again.
		changed, alsoChanged = l.Changed(), also()
		for wait := minBackoff; ; wait = min(2*wait, maxBackoff) {
			attempt, cancel := context.WithTimeout(ctx, ringTime)
			err := bell.Ring(attempt)
			cancel()
			if ctx.Err() != nil {
				return nil
			}
			if state.Report(err); err == nil {
				break
			}
			pause(ctx, wait, nil)
		}
	}
}
