package drip

import "time"

// Stream is an answer that drips.
type Stream struct {
	// Head is written before the body: the status line and the header of HTTP/1.1, with the empty line. It may be shared by many streams
	// and must not be changed. Empty: it was written already. Serve ignores it: its header is that of the ResponseWriter.
	Head []byte
	// First is the beginning of the body, which is sent at once with Head.
	First []byte
	// Chunked says that Head promises "Transfer-Encoding: chunked". Otherwise the body ends with the connection, and Head should
	// say "Connection: close".
	Chunked bool
	// Next, which is required, appends at most n bytes of the body to dst; what is more is cut off. When it appends nothing the stream ends. It must not wait.
	// It is called by one goroutine at a time. What it keeps between calls is held as long as the stream is, so it should be small.
	Next func(dst []byte, n int) []byte
	// Max is how long the stream lasts at most; 0: DefaultMax.
	Max time.Duration
	// Seed decides the rate and the jitter of the stream.
	Seed uint64
	// Done is called once, when a stream that was taken has ended, by whichever goroutine ended it: the wheel's as a rule. It must not
	// wait. nil: nobody is told.
	Done func(Stay)
}

// DefaultMax is how long a stream lasts that sets no Max.
const DefaultMax = 15 * time.Minute

func (s *Stream) lasts() time.Duration {
	if s.Max <= 0 {
		return DefaultMax
	}
	return s.Max
}

// Stay is what became of a stream.
type Stay struct {
	Held   time.Duration
	Bytes  int64 // written: with header and framing but without TLS; of Serve, those of the body
	Reason Reason
}

// Reason is why a stream ended.
type Reason uint8

const (
	// Finished means that it lasted as long as it should, or that there is nothing more to send.
	Finished Reason = iota
	// Gone means that the client closed the connection or that it broke.
	Gone
	// Stalled means that the client did not read.
	Stalled
	// Ended means that the wheel was drained, switched off or stopped.
	Ended

	// Reasons is how many reasons there are.
	Reasons = iota
)

// String is the reason as in metrics.
func (r Reason) String() string {
	names := [Reasons]string{"finished", "gone", "stalled", "ended"}
	if int(r) < len(names) {
		return names[r]
	}
	return "unknown"
}
