package embedded

import (
	"context"
	"log/slog"
	"time"
)

// OpenQueue opens a queue's file by itself, without the state beside it, and makes it if there is none; its directory must
// exist. Errors are those of OpenState. Close it when done.
func OpenQueue(ctx context.Context, path string, o StateOptions) (*Queue, error) {
	if o.QueueBytes <= 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return openQueue(ctx, path, o.QueueBytes, o.Now, o.Log)
}

// Close waits for what is being written and closes the file of a queue that OpenQueue opened. One that belongs to a State is closed with it.
func (q *Queue) Close() error { return q.close() }
