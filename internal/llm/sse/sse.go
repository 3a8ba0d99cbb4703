// Package sse reads streams of server-sent events (WHATWG HTML, "Server-sent events"), as the providers of language models send them.
package sse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// MaxEvent is the size of the largest event, in bytes.
const MaxEvent = 4 << 20

// ErrLarge says that an event is larger than MaxEvent.
var ErrLarge = fmt.Errorf("an event has more than %d bytes", MaxEvent)

// Event is one event of a stream. Its fields are good until the next one is read.
type Event struct {
	Name string // of the field "event"; "" if it has none, which means "message"
	Data []byte // of the fields "data", with line feeds between them
}

// Reader reads events.
type Reader struct {
	in    *bufio.Reader
	begun bool
	cr    bool // the last line ended with CR
	line  []byte
	data  []byte
}

// NewReader returns a reader of the stream.
func NewReader(r io.Reader) *Reader { return &Reader{in: bufio.NewReaderSize(r, 4<<10)} }

// Next reads the next event that has data. At the end of the stream the error is io.EOF; an event that is not complete then is none, and the error is
// io.ErrUnexpectedEOF: a stream that breaks off must not pass for one that has ended.
func (r *Reader) Next() (Event, error) {
	var e Event
	r.data = r.data[:0]
	some, size := false, 0
	for {
		line, err := r.readLine(MaxEvent - size)
		if err != nil {
			if errors.Is(err, io.EOF) && (some || e.Name != "" || len(line) > 0) {
				err = io.ErrUnexpectedEOF
			}
			return Event{}, err
		}
		size += len(line)
		if len(line) == 0 {
			if some {
				e.Data = r.data
				return e, nil
			}
			e, size = Event{}, 0 // without data it is none
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) { // a line that begins with a colon is a comment
		case "event":
			e.Name = string(value)
		case "data":
			if some {
				r.data = append(r.data, '\n')
			}
			r.data, some = append(r.data, value...), true
		}
	}
}

// readLine returns the next line without its end: CR, LF or both. What is returned beside io.EOF is a line without an end.
func (r *Reader) readLine(most int) ([]byte, error) {
	r.line = r.line[:0]
	for {
		c, err := r.in.ReadByte()
		switch {
		case err != nil:
			return r.line, err
		case c == '\n' && r.cr: // the second half of an end of a line; to wait for it would keep an event back
			r.cr = false
			continue
		case c == '\n' || c == '\r':
			r.cr = c == '\r'
			return r.trimmed(), nil
		}
		r.cr = false
		if len(r.line) >= most {
			return nil, ErrLarge
		}
		r.line = append(r.line, c)
	}
}

// trimmed is the line without a byte order mark at the stream's beginning.
func (r *Reader) trimmed() []byte {
	if !r.begun {
		r.begun = true
		return bytes.TrimPrefix(r.line, []byte("\ufeff"))
	}
	return r.line
}
