package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// tunnel relays a 101 and then both directions of the connection until both
// have ended.
func (x *exchange) tunnel() error {
	c := x.c
	client, brw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return &Error{Failure: FailureRequest, Err: fmt.Errorf("taking over the client's connection: %w", err)}
	}
	defer client.Close()
	x.res.Started, x.res.Upgraded = true, true
	stop := context.AfterFunc(x.ctx, func() { client.Close(); c.nc.Close() })
	defer stop()
	if err := client.SetDeadline(time.Time{}); err != nil {
		return fail(x.ctx, FailureClientGone, err)
	}
	c.disarm()

	header := x.w.Header()
	x.head.addTo(header)
	header["Connection"] = []string{"Upgrade"}
	header["Upgrade"] = []string{x.head.upgrade}
	if x.q.o.OnHeader != nil {
		x.q.o.OnHeader(http.StatusSwitchingProtocols, header)
	}
	// Errors stick to the writer; Flush reports them.
	_, _ = brw.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = header.Write(brw)
	_, _ = brw.WriteString("\r\n")
	// What either side sent along with its part of the handshake goes first.
	n, _ := brw.Write(c.buffered())
	c.r = c.w
	c.release()
	if err := brw.Flush(); err != nil {
		return fail(x.ctx, FailureClientGone, err)
	}
	x.res.Bytes = int64(n)
	if early, _ := brw.Peek(brw.Reader.Buffered()); len(early) > 0 {
		if _, err := c.nc.Write(early); err != nil {
			return fail(x.ctx, FailureResponse, err)
		}
	}

	t := &pair{linger: x.u.cfg.HalfCloseTimeout, client: client, upstream: c.nc}
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.copy(c.nc, client)
	}()
	x.res.Bytes += t.copy(client, c.nc)
	<-done
	if x.ctx.Err() != nil {
		return fail(x.ctx, FailureClientGone, nil)
	}
	return nil
}

// pair is the two connections of a tunnel.
type pair struct {
	client, upstream net.Conn
	linger           time.Duration
}

// copy copies one direction until src ends, and then ends dst's half. Whatever
// goes wrong ends both: neither side can go on without the other.
func (t *pair) copy(dst, src net.Conn) (total int64) {
	for {
		n, err := io.Copy(dst, src)
		total += n
		if err != nil && errors.Is(err, os.ErrDeadlineExceeded) && n > 0 {
			// The other direction has ended, but this one is alive.
			_ = src.SetReadDeadline(time.Now().Add(t.linger))
			continue
		}
		if err == nil {
			err = closeWrite(dst)
		}
		if err != nil {
			t.client.Close()
			t.upstream.Close()
			return total
		}
		_ = dst.SetReadDeadline(time.Now().Add(t.linger)) // of the other direction
		return total
	}
}

// closeWrite ends our half of a connection. One that has no halves is closed.
func closeWrite(c net.Conn) error {
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Close()
}
