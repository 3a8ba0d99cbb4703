// Package wait waits, unless there is no more reason to.
package wait

import (
	"context"
	"time"
)

// For waits for d, or until ctx ends, and reports whether d has passed. It does not wait for a d of 0 or less.
func For(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
