package tarpit

import (
	"net/http"
	"strconv"
	"time"

	"github.com/quickthorn/quickthorn/internal/drip"
	"github.com/quickthorn/quickthorn/internal/maze"
	"github.com/quickthorn/quickthorn/internal/tarpit/entry"
)

// stream answers with a page that has no end. It returns false if there is no place for one, and then nothing was written.
func (t *Tarpit) stream(w http.ResponseWriter, r *http.Request, v *stay) bool {
	begin := time.Now()
	page, first := v.m.Endless(nil, v.request(r))
	v.spend(begin)
	s := drip.Stream{
		First: first, Max: t.o.Limits.StreamMax, Seed: page.Seed() ^ uint64(v.start.UnixNano()),
		Next: func(dst []byte, n int) []byte {
			begin := time.Now()
			dst = page.Next(dst, n)
			v.spend(begin)
			return dst
		},
		Done: func(e drip.Stay) { v.end(maze.KindStream, http.StatusOK, e.Bytes, e.Bytes) },
	}
	if r.ProtoMajor == 1 {
		s.Chunked = r.ProtoAtLeast(1, 1)
		s.Head = head(s.Chunked, relayed(w.Header()), v.depth)
		return t.o.Streams.Hijack(w, s)
	}
	h := w.Header()
	header(h, v.depth)
	h.Set("Content-Type", htmlType)
	_, taken := t.o.Streams.Serve(r.Context(), w, s)
	return taken
}

const htmlType = "text/html; charset=utf-8"

// relayed reports whether the answer goes to an edge in another process, which is told of the stay.
func relayed(h http.Header) bool { _, ok := h[entry.HeaderStay]; return ok }

// head is the header of an answer whose connection was taken over from the server.
func head(chunked, relayed bool, depth int) []byte {
	b := []byte("HTTP/1.1 200 OK\r\nContent-Type: " + htmlType + "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n" +
		"X-Robots-Tag: " + robots + "\r\nConnection: close\r\n")
	if relayed {
		b = append(b, entry.HeaderStay+": depth="...)
		b = strconv.AppendInt(b, int64(depth), 10)
		b = append(b, "\r\n"...)
	}
	if chunked {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return append(b, "\r\n"...)
}
