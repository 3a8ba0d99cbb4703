package edge

import (
	"io"
	"net/http"
	"time"
)

// idleBody ends an upload whose client stops sending: each read gets a deadline.
type idleBody struct {
	io.ReadCloser
	control *http.ResponseController
	idle    time.Duration
	now     func() time.Time
}

// Read sets the deadline anew and lifts it when the body has ended: what follows
// on the connection is not ours to time, and a deadline left behind would look
// to net/http like a client that went away.
func (b *idleBody) Read(p []byte) (int, error) {
	// A ResponseWriter without deadlines (a test's recorder) has no slow client either.
	_ = b.control.SetReadDeadline(b.now().Add(b.idle))
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
