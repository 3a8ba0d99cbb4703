package intake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"

	"github.com/quickthorn/quickthorn/internal/private"
)

// readTime bounds how long a sender may take for one body, and roomTime how long one waits for memory.
const (
	readTime = 30 * time.Second
	roomTime = 5 * time.Second
)

// Bounds of the bodies that are in memory at once, over all requests. Decoded events take about as much again as their text, twice.
const (
	sentBytes     = 48 << 20          // as they were sent
	unpackedBytes = 4 * MaxBatchPlain // unpacked
)

// bodies holds the room for bodies. Who waits for room for an unpacked body holds room for what was sent, and never the other way
// round, so that nobody waits for ever.
type bodies struct{ sent, unpacked *semaphore.Weighted }

func newBodies() bodies {
	return bodies{semaphore.NewWeighted(sentBytes), semaphore.NewWeighted(unpackedBytes)}
}

// body is one request's body in memory.
type body struct {
	plain  []byte
	packed []byte // as it was sent if that is zstd, after the byte that says so in a queue
	free   []func()
}

// release gives the memory back; plain must not be used any more.
func (b *body) release() {
	for _, f := range b.free {
		f()
	}
}

// statusError is what is wrong with a request's body.
type statusError struct {
	status int
	detail string
}

func (e *statusError) Error() string { return e.detail }

// receive reads a request's body and unpacks it. Release it when it is done. Errors are for bodyProblem.
func (s *Service) receive(w http.ResponseWriter, r *http.Request) (_ *body, err error) {
	encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding")))
	switch encoding {
	case "", "identity", "gzip", "zstd":
	default:
		return nil, &statusError{http.StatusUnsupportedMediaType, fmt.Sprintf("content encoding %q is not known: use zstd or gzip", shortened(encoding))}
	}
	b := &body{}
	defer func() {
		if err != nil {
			b.release()
		}
	}()
	raw, err := s.read(w, r, b)
	if err != nil {
		return nil, err
	}
	if encoding == "" || encoding == "identity" {
		b.plain = raw
		return b, nil
	}
	packed := raw
	buf := s.codec.buffer()
	b.free = append(b.free, func() { s.codec.free(buf) })
	room, err := s.take(r.Context(), b, s.bodies.unpacked, mayUnpackTo(encoding, packed))
	if err != nil {
		return nil, err
	}
	if encoding == "gzip" {
		err = s.codec.gunzip(buf, packed)
	} else if err = s.codec.unzstd(buf, packed); err == nil && len(packed) < MaxBatchBytes {
		b.packed = append(append(make([]byte, 0, len(packed)+1), bodyEvents), packed...)
	}
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	b.plain = buf.Bytes()
	room(int64(len(b.plain)))
	return b, nil
}

// read reads the body as it was sent.
func (s *Service) read(w http.ResponseWriter, r *http.Request, b *body) ([]byte, error) {
	expect := int64(MaxBatchBytes)
	switch n := r.ContentLength; {
	case n > MaxBatchBytes:
		return nil, errTooMuch // without reading it
	case n >= 0:
		expect = n
	}
	room, err := s.take(r.Context(), b, s.bodies.sent, expect)
	if err != nil {
		return nil, err
	}
	// A ResponseWriter without deadlines has no slow sender. What follows the body may take its time again: with
	// the deadline in place the server would take it for a sender that has gone.
	deadline := http.NewResponseController(w)
	_ = deadline.SetReadDeadline(time.Now().Add(readTime))
	buf := s.codec.buffer()
	b.free = append(b.free, func() { s.codec.free(buf) })
	if r.ContentLength > 0 {
		buf.Grow(int(min(expect, maxPooled)) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, MaxBatchBytes)); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	_ = deadline.SetReadDeadline(time.Time{})
	room(int64(buf.Len()))
	return buf.Bytes(), nil
}

// take reserves n bytes until the body is released; the returned function gives back what turns out not to be needed.
func (s *Service) take(ctx context.Context, b *body, from *semaphore.Weighted, n int64) (shrink func(to int64), err error) {
	waiting, cancel := context.WithTimeout(ctx, roomTime)
	defer cancel()
	if err := from.Acquire(waiting, n); err != nil {
		return nil, fmt.Errorf("%w: there are too many bodies in memory", ErrBusy)
	}
	b.free = append(b.free, func() { from.Release(n) })
	return func(to int64) {
		if to < n {
			from.Release(n - to)
			n = to
		}
	}, nil
}

// mayUnpackTo returns how large a packed body may be at most when it is unpacked.
func mayUnpackTo(encoding string, packed []byte) int64 {
	if encoding == "gzip" {
		const ratio = 1032 // that deflate reaches at best
		return min(MaxBatchPlain, int64(len(packed))*ratio)
	}
	var h zstd.Header
	if err := h.Decode(packed); err == nil && h.HasFCS && !h.Skippable && h.FrameContentSize < uint64(MaxBatchPlain) && oneFrame(&h, packed) {
		return int64(h.FrameContentSize)
	}
	return MaxBatchPlain
}

// oneFrame reports whether a zstd frame is all that there is: a second one would not be in what the first says of its size.
func oneFrame(h *zstd.Header, packed []byte) bool {
	for at := h.HeaderSize; len(packed)-at >= 3; { // RFC 8878, 3.1.1.2
		block := int(packed[at]) | int(packed[at+1])<<8 | int(packed[at+2])<<16
		last, kind, size := block&1 == 1, block>>1&3, block>>3
		if kind == 1 {
			size = 1 // one byte, repeated
		}
		at += 3 + size
		if last {
			if h.HasCheckSum {
				at += 4
			}
			return at == len(packed)
		}
	}
	return false
}

// bodyProblem answers what is wrong with a request's body.
func (s *Service) bodyProblem(w http.ResponseWriter, r *http.Request, err error) {
	var tooLarge *http.MaxBytesError
	var status *statusError
	switch {
	case errors.Is(err, ErrBusy):
		s.busy(w, r, err)
	case errors.As(err, &status):
		private.Problem(w, status.status, status.detail)
	case errors.As(err, &tooLarge), errors.Is(err, errTooMuch):
		private.Problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("at most %d bytes as sent, %d unpacked, %d events", MaxBatchBytes, MaxBatchPlain, MaxBatchEvents))
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		private.Problem(w, http.StatusRequestTimeout, fmt.Sprintf("the body did not arrive within %s", readTime))
	case errors.Is(err, io.ErrUnexpectedEOF), r.Context().Err() != nil:
		private.Problem(w, http.StatusBadRequest, "the body ends too early")
	default:
		private.Problem(w, http.StatusBadRequest, "the body cannot be read: "+err.Error())
	}
}
