package alert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Channel is one way to reach the owner. It must be safe for concurrent use.
type Channel interface {
	// Name is what rules, logs and metrics call the channel.
	Name() string
	// Send sends a message and returns nil once it has been taken. It ends when ctx does. An error that is or wraps a [*SendError] can say that another attempt
	// is useless, or when to make it. Errors hold no secrets: they are logged.
	Send(ctx context.Context, m *Message) error
}

// SendError says what to do about a message that was not sent.
type SendError struct {
	Err error
	// Permanent says that the message will be refused again, however often it is sent.
	Permanent bool
	// After is how long to wait before the next attempt, at least; 0: as the dispatcher sees fit.
	After time.Duration
}

// Error implements error.
func (e *SendError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *SendError) Unwrap() error { return e.Err }

// permanent returns an error after which no attempt is made.
func permanent(format string, args ...any) error {
	return &SendError{Err: fmt.Errorf(format, args...), Permanent: true}
}

// checkName says whether a name can stand in rules, in metrics and in a log.
func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("alert channel %q: a name has 1 to %d characters", line(name, maxName), maxName)
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' {
			return fmt.Errorf("alert channel %q: a name has letters, digits, hyphens, underscores and dots", line(name, maxName))
		}
	}
	return nil
}

// redacted returns err's words without the secrets and without what acts on a terminal; others have
// had a part in them (a server's answer, for one).
func redacted(err error, secrets []string) error {
	text := err.Error()
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[secret]")
		}
	}
	return errors.New(line(text, 500))
}
