package record

import (
	"context"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Want is what a Recorder wants of a request.
type Want uint8

// The wants.
const (
	None      Want = iota // no event
	Keep                  // an event
	Transient             // an event with Event.Transient set
)

// Sink takes what a Recorder has collected: the intake, in this process or another, or an archive.
//
// An error that has a method RetryAfter() time.Duration, or wraps one that has, says how long to leave the sink alone.
type Sink interface {
	// Append takes the events, all or none; transient ones may be among them. Events that it had before, by id, are
	// counted as duplicates, so that a batch may be sent again.
	Append(ctx context.Context, events []*defense.Event) (duplicates int, err error)
	// AddCounters adds to the exact counters, all or none. After an error the same counters come again under the same
	// id, a ULID, and no others before them: a sink that cannot tell whether it took them asks the id.
	AddCounters(ctx context.Context, id string, counters []Counter) error
}

// Direct returns a sink that writes to an archive without an intake between them. Transient events, which nobody
// looks at there, are dropped.
func Direct(a Archive) Sink { return direct{a} }

type direct struct{ archive Archive }

func (d direct) Append(ctx context.Context, events []*defense.Event) (int, error) {
	keep := events
	for i, e := range events {
		if !e.Transient {
			continue
		}
		keep = append(make([]*defense.Event, 0, len(events)), events[:i]...) // the slice is the caller's
		for _, e := range events[i:] {
			if !e.Transient {
				keep = append(keep, e)
			}
		}
		break
	}
	if len(keep) == 0 {
		return 0, nil
	}
	return d.archive.Append(ctx, keep)
}

// AddCounters needs no id: an archive in this process says truly whether it took them.
func (d direct) AddCounters(ctx context.Context, _ string, counters []Counter) error {
	return d.archive.AddCounters(ctx, counters)
}
