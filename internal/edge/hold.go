package edge

import (
	"context"
	"time"
)

// holder keeps refused clients waiting for a while, but never many of them: a
// bounded number of places, and no wait at all when all are taken.
type holder struct {
	places chan struct{}
	delay  time.Duration
}

func newHolder(places int, delay time.Duration) *holder {
	return &holder{places: make(chan struct{}, places), delay: delay}
}

// hold waits for the delay, or less when the context ends, and returns how long it took.
// With no place free it returns at once.
func (h *holder) hold(ctx context.Context) time.Duration {
	select {
	case h.places <- struct{}{}:
	default:
		return 0
	}
	defer func() { <-h.places }()
	start := time.Now()
	timer := time.NewTimer(h.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return time.Since(start)
}

// held is the number of clients that wait now.
func (h *holder) held() int { return len(h.places) }
