package accesslog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxExamples bounds the examples kept of each reason.
const maxExamples = 3

// Example is a broken line.
type Example struct {
	Line int    // number in the log, from 1
	Text string // its beginning, escaped for a terminal
}

// Broken counts the lines that gave no entry for one reason.
type Broken struct {
	Reason   Reason
	Lines    int
	Examples []Example // the first few
}

// Stats is what a Reader has read so far.
type Stats struct {
	Lines   int // that are not empty
	Entries int
	Broken  []Broken // by reason, in the order of the reasons
}

// Reader reads the entries of one log. It is not safe for concurrent use.
type Reader struct {
	in     *bufio.Reader
	format *Format
	parser parser

	sample  [][]byte // lines read ahead to find out the format
	err     error    // after the sample
	number  int      // of the last line
	text    []byte   // of the last line
	entries int
	broken  [reasons]Broken
	lines   int
}

// NewReader returns a reader of a log that is not compressed. If the format is nil, it is
// found out from the first lines.
func NewReader(src io.Reader, f *Format) *Reader {
	r := &Reader{in: bufio.NewReaderSize(src, MaxLine+2), format: f}
	if f != nil {
		r.parser = f.new()
	}
	return r
}

// Detect reads ahead to find out the format, if it is not known, and returns it.
func (r *Reader) Detect() (*Format, error) {
	if r.format != nil {
		return r.format, nil
	}
	for len(r.sample) < SampleLines && r.err == nil {
		line, err := r.read()
		if err == nil || len(line) > 0 {
			r.sample = append(r.sample, bytes.Clone(line))
		}
		r.err = err
	}
	if r.err != nil && r.err != io.EOF && len(r.sample) == 0 {
		return nil, r.err
	}
	f, _, err := Detect(r.sample)
	if err != nil {
		return nil, err
	}
	r.format, r.parser = f, f.new()
	return f, nil
}

// Next sets e to the next entry. Broken lines are counted and passed over. At the end it
// returns io.EOF; another error says why the log cannot be read further.
func (r *Reader) Next(e *Entry) error {
	if _, err := r.Detect(); err != nil {
		return err
	}
	for {
		line, err := r.line()
		if line == nil && err != nil {
			return err
		}
		r.number++
		r.text = line
		if len(line) == 0 {
			continue
		}
		r.lines++
		*e = Entry{}
		reason := ReasonTooLong
		if len(line) <= MaxLine {
			if line[0] == '#' {
				reason = ReasonOther
			} else if err := r.parser.parse(string(line), e); err == nil {
				r.entries++
				return nil
			} else {
				reason = err.(Reason)
			}
		}
		b := &r.broken[reason]
		b.Lines++
		if len(b.Examples) < maxExamples {
			b.Examples = append(b.Examples, Example{r.number, Printable(string(line), 160)})
		}
	}
}

// line returns the next line of the sample or of the log, nil with an error at the end.
func (r *Reader) line() ([]byte, error) {
	if len(r.sample) > 0 {
		line := r.sample[0]
		r.sample = r.sample[1:]
		return line, nil
	}
	if r.err != nil {
		return nil, r.err
	}
	line, err := r.read()
	if err != nil {
		r.err = err
		if len(line) == 0 {
			return nil, err
		}
	}
	return line, nil
}

// read returns the next line without its end. A line that is too long is returned
// with more than MaxLine bytes, its remainder passed over.
func (r *Reader) read() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line = bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.in.ReadSlice('\n')
		}
		return line, wrapRead(err)
	}
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	if line == nil {
		line = []byte{}
	}
	return line, wrapRead(err)
}

func wrapRead(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return fmt.Errorf("read log: %w", err)
}

// Line returns the number of the line that Next last read, from 1.
func (r *Reader) Line() int { return r.number }

// Text returns the line that Next last read. It is valid until the next call, and
// holds whatever a client sent: see [Printable].
func (r *Reader) Text() []byte { return r.text }

// Stats returns what has been read so far.
func (r *Reader) Stats() Stats {
	s := Stats{Lines: r.lines, Entries: r.entries}
	for reason := range reasons {
		if b := r.broken[reason]; b.Lines > 0 {
			b.Reason = reason
			s.Broken = append(s.Broken, b)
		}
	}
	return s
}
