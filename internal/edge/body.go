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
	err     error // the first of a read other than io.EOF; to be asked when Forward has returned
}

// Read sets the deadline anew and lifts it when the body has ended: what follows
// on the connection is not ours to time, and a deadline left behind would look
// to net/http like a client that went away. After any other end it stays, because
// net/http tries to read the rest.
func (b *idleBody) Read(p []byte) (int, error) {
	// A ResponseWriter without deadlines (a test's recorder) has no slow client either.
	_ = b.control.SetReadDeadline(time.Now().Add(b.idle))
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.control.SetReadDeadline(time.Time{})
	} else if err != nil && b.err == nil {
		b.err = err
	}
	return n, err
}
