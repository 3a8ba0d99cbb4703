package intake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
)

// Limits of what is taken at once.
const (
	MaxBatchBytes  = queue.MaxBody // of one request's body as it was sent
	MaxBatchPlain  = 32 << 20      // of the body when unpacked: what packs better is no list of events
	MaxBatchEvents = 10_000
	maxLine        = 64 << 10 // of one event
)

// Limits of what is queued. They leave room for what the text of an accepted event can grow by when it is written anew.
const (
	maxQueuedLine  = 1 << 20
	maxParcelPlain = 16 << 20 // of events that are packed together
)

// errTooMuch says that a body exceeds a limit.
var errTooMuch = errors.New("too much at once")

// Rejected says why one line of a batch was not taken.
type Rejected struct {
	Index   int    `json:"index"` // from 0, empty lines not counted
	Problem string `json:"problem"`
}

// maxRejected is how many rejected lines are told of; the rest is only counted.
const maxRejected = 100

// The first byte of a queued body says what it holds.
const (
	bodyEvents   = 'e' // zstd of NDJSON
	bodyCounters = 'c' // JSON of CounterBatch
)

// codec packs and unpacks. It is safe for concurrent use.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
	buf sync.Pool // *bytes.Buffer
	gz  sync.Pool // *gzip.Reader

	maxBody, maxPlain int // of a parcel, in bytes; queue.MaxBody and maxParcelPlain but in tests
}

// maxPooled is the size of the largest buffer that is kept for the next batch, in bytes.
const maxPooled = 4 << 20

func newCodec() (*codec, error) {
	cpus := min(4, runtime.GOMAXPROCS(0))
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(cpus), zstd.WithWindowSize(512<<10))
	if err != nil {
		return nil, fmt.Errorf("make the encoder: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(cpus), zstd.WithDecoderMaxMemory(MaxBatchPlain))
	if err != nil {
		return nil, fmt.Errorf("make the decoder: %w", err)
	}
	c := &codec{enc: enc, dec: dec, maxBody: queue.MaxBody, maxPlain: maxParcelPlain}
	c.buf.New = func() any { return new(bytes.Buffer) }
	c.gz.New = func() any { return new(gzip.Reader) }
	return c, nil
}

func (c *codec) buffer() *bytes.Buffer {
	b := c.buf.Get().(*bytes.Buffer)
	b.Reset()
	return b
}

func (c *codec) free(b *bytes.Buffer) {
	if b.Cap() <= maxPooled {
		c.buf.Put(b)
	}
}

// parcel is a queue's body and the events in it.
type parcel struct {
	body   []byte
	events []*defense.Event
}

// pack makes queue's bodies of events: one, unless they are too many for that.
func (c *codec) pack(events []*defense.Event) ([]parcel, error) {
	b := c.buffer()
	defer c.free(b)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	n := 0
	for n < len(events) && b.Len() < c.maxPlain {
		if err := enc.Encode(events[n]); err != nil {
			return nil, fmt.Errorf("event %s: %w", events[n].ID, err)
		}
		n++
	}
	var parcels []parcel
	if body := c.packPlain(b.Bytes()); body != nil {
		parcels = []parcel{{body, events[:n]}}
	} else if n < 2 {
		return nil, fmt.Errorf("event %s: larger than a queue takes", events[0].ID)
	} else { // it hardly packs
		for _, half := range [][]*defense.Event{events[:n/2], events[n/2 : n]} {
			more, err := c.pack(half)
			if err != nil {
				return nil, err
			}
			parcels = append(parcels, more...)
		}
	}
	if n == len(events) {
		return parcels, nil
	}
	rest, err := c.pack(events[n:])
	return append(parcels, rest...), err
}

// packPlain makes a queue's body of NDJSON, nil when it would be too large.
func (c *codec) packPlain(ndjson []byte) []byte {
	body := c.enc.EncodeAll(ndjson, append(make([]byte, 0, len(ndjson)/8+256), bodyEvents))
	if len(body) > c.maxBody {
		return nil
	}
	return body
}

// unpack reads the events of a queue's body. They were checked when they were accepted, so that an error
// means that the queue is damaged, or that another version wrote it; the events that could be read are returned with it.
func (c *codec) unpack(body []byte) ([]*defense.Event, error) {
	b := c.buffer()
	defer c.free(b)
	if err := c.unzstd(b, body[1:]); err != nil {
		return nil, fmt.Errorf("unpack events: %w", err)
	}
	events, rejected, err := parseEvents(b.Bytes(), maxQueuedLine, time.Time{})
	if err == nil && len(rejected) > 0 {
		err = fmt.Errorf("event %d: %s", rejected[0].Index, rejected[0].Problem)
	}
	return events, err
}

// unzstd unpacks into b, at most MaxBatchPlain.
func (c *codec) unzstd(b *bytes.Buffer, packed []byte) error {
	plain, err := c.dec.DecodeAll(packed, b.AvailableBuffer())
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || err == nil && len(plain) > MaxBatchPlain {
		return errTooMuch
	}
	if err == nil {
		*b = *bytes.NewBuffer(plain) // the same memory, or more of it
	}
	return err
}

// gunzip unpacks into b, at most MaxBatchPlain.
func (c *codec) gunzip(b *bytes.Buffer, packed []byte) error {
	z := c.gz.Get().(*gzip.Reader)
	defer c.gz.Put(z)
	if err := z.Reset(bytes.NewReader(packed)); err != nil {
		return err
	}
	n, err := b.ReadFrom(io.LimitReader(z, MaxBatchPlain+1))
	if err == nil && n > MaxBatchPlain {
		err = errTooMuch
	}
	return err
}

// parseEvents reads NDJSON with lines of at most longest bytes. What is wrong with a line is told in rejected; the error is about the
// whole. See checkEvent for latest.
func parseEvents(plain []byte, longest int, latest time.Time) (events []*defense.Event, rejected []Rejected, err error) {
	events = make([]*defense.Event, 0, min(len(plain)/400+1, MaxBatchEvents))
	i, d := -1, new(decoder)
	for line := range bytes.Lines(plain) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if i++; i >= MaxBatchEvents {
			return nil, nil, fmt.Errorf("%w: at most %d events", errTooMuch, MaxBatchEvents)
		}
		e, problem := parseEvent(d, line, longest, latest)
		if problem != "" {
			rejected = append(rejected, Rejected{i, problem})
			continue
		}
		events = append(events, e)
	}
	return events, rejected, nil
}

func parseEvent(d *decoder, line []byte, longest int, latest time.Time) (*defense.Event, string) {
	if len(line) > longest {
		return nil, fmt.Sprintf("larger than %d bytes", longest)
	}
	e, err := d.decode(line)
	if err != nil {
		return nil, "not an event: " + err.Error()
	}
	if problem := checkEvent(e); problem != "" {
		return nil, problem
	}
	if problem := checkAhead(e, latest); problem != "" {
		return nil, problem
	}
	record.Bound(e)
	trim(e, line)
	return e, ""
}

// trim gives up what lists and texts that were cut still hold. record.Bound has moved all texts but those of lists.
func trim(e *defense.Event, line []byte) {
	if cap(e.Signals) > 64 {
		e.Signals = append([]defense.Signal(nil), e.Signals...)
	}
	if cap(e.Verdict.Shadow) > 64 {
		e.Verdict.Shadow = append([]defense.ShadowHit(nil), e.Verdict.Shadow...)
	}
	if len(line) < 4<<10 {
		return // it is not worth it
	}
	for i := range e.Signals {
		s := &e.Signals[i]
		s.Name, s.Sentence = strings.Clone(s.Name), strings.Clone(s.Sentence)
	}
	for i := range e.Verdict.Shadow {
		e.Verdict.Shadow[i].Rule = strings.Clone(e.Verdict.Shadow[i].Rule)
	}
	if t := e.Request.TLS; t != nil {
		t.Version, t.JA4 = strings.Clone(t.Version), strings.Clone(t.JA4)
	}
	if c := e.Challenge; c != nil {
		c.ID, c.Kind, c.Outcome = strings.Clone(c.ID), strings.Clone(c.Kind), strings.Clone(c.Outcome)
	}
}

// maxAhead is how far an event's time may lie ahead of ours. The casebook takes what is ahead as of now; the archive would keep it, where
// it could not be told from an event that is yet to come, so that such a time cannot be corrected: the same event sent again must get the same.
const maxAhead = 24 * time.Hour

// checkAhead returns what is wrong with an event's time, "" if nothing is. It must not be after latest; zero: it may.
func checkAhead(e *defense.Event, latest time.Time) string {
	if !latest.IsZero() && e.Time.After(latest) {
		return "time: lies more than a day ahead; is the sender's clock right?"
	}
	return ""
}

// plausible reports whether a time can be that of an event.
func plausible(t time.Time) bool { return t.Year() >= 2000 && t.Year() <= 2200 }

// checkEvent returns what is wrong with an event, "" if nothing is. It writes the id as all others are written.
func checkEvent(e *defense.Event) string {
	if e.Schema != defense.EventSchema {
		return fmt.Sprintf("schema %d: this intake understands %d", e.Schema, defense.EventSchema)
	}
	switch e.Kind {
	case "request", "challenge", "tarpit", "trap", "appeal":
	default:
		return fmt.Sprintf("kind %q: use request, challenge, tarpit, trap or appeal", shortened(e.Kind))
	}
	id, err := ulid.ParseStrict(e.ID)
	if err != nil {
		return fmt.Sprintf("id %q is not a ULID", shortened(e.ID))
	}
	var text [ulid.EncodedSize]byte
	if id.MarshalTextTo(text[:]) == nil && string(text[:]) != e.ID {
		e.ID = string(text[:]) // small letters are allowed
	}
	if !plausible(e.Time) {
		return "time: lies before 2000 or after 2200"
	}
	// Who comes by a Unix socket has no address.
	if p, err := defense.ParseAddressOrPrefix(e.Client.Address); e.Client.Address != "" && (err != nil || !p.IsSingleIP()) {
		return fmt.Sprintf("client.address %q is not an IP address", shortened(e.Client.Address))
	}
	switch r := &e.Response; {
	case !finite(r.Duration) || !finite(r.UpstreamDuration) || e.Tarpit != nil && !finite(e.Tarpit.Held):
		return "response: a duration is not a number"
	case r.Status < 0 || r.Status > 999:
		return fmt.Sprintf("response.status: %d is not from 0 to 999", r.Status)
	case e.Verdict.Score < 0 || e.Verdict.Score > defense.MaxScore:
		return fmt.Sprintf("verdict.score: %d is not from 0 to %d", e.Verdict.Score, defense.MaxScore)
	}
	return ""
}

func finite(f float64) bool { return f-f == 0 }

// shortened cuts what is quoted in an answer.
func shortened(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
