package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
)

// retryAfter is what a sender is told to wait when events cannot be taken, in seconds.
const retryAfter = "5"

// EventsAPI takes events from edges:
//
//	POST /v1/events    NDJSON of events (defense.Event), at most 8 MiB packed by zstd or gzip, 32 MiB and 10,000 events unpacked
//	POST /v1/counters  a CounterBatch
//
// The answer to events is 202 with a Receipt: what it counts as accepted is kept. 503 with Retry-After means that nothing was
// acknowledged: send the same again.
type EventsAPI struct{ Service *Service }

// Register adds the routes.
func (a *EventsAPI) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/events", a.events)
	mux.HandleFunc("POST /v1/counters", a.counters)
}

func (a *EventsAPI) events(w http.ResponseWriter, r *http.Request) {
	s := a.Service
	if !hasType(r, "application/x-ndjson", "application/json") {
		private.Problem(w, http.StatusUnsupportedMediaType, "send application/x-ndjson, one event a line")
		return
	}
	b, err := s.receive(w, r)
	if err != nil {
		s.bodyProblem(w, r, err)
		return
	}
	defer b.release()
	events, rejected, err := parseEvents(b.plain, maxLine, s.o.Now().Add(maxAhead))
	if err != nil {
		s.bodyProblem(w, r, err)
		return
	}
	packed := b.packed
	switch {
	case len(rejected) > 0:
		packed = nil
	case packed == nil && len(events) > 0:
		packed = s.codec.packPlain(b.plain)
	}
	receipt, err := s.accept(r.Context(), auth.Caller(r.Context()), events, packed)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.reject(&receipt, rejected)
	accepted(w, receipt)
}

// accepted answers 202.
func accepted(w http.ResponseWriter, r Receipt) {
	if r.Rejected == nil {
		r.Rejected = []Rejected{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(r) // an error means that the sender is gone; it will send again, and that is known by the ids
}

// fail answers why events or counters were not accepted.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, ErrBusy):
		s.busy(w, r, err)
	case errors.Is(err, errTooMuch):
		s.bodyProblem(w, r, err)
	default:
		s.o.Log.Error("taking events", "error", err)
		private.Problem(w, http.StatusInternalServerError, "Events cannot be taken. The log says why.")
	}
}

// busy answers that nothing was taken.
func (s *Service) busy(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the sender is gone
	}
	s.o.Log.Debug("events refused", "error", err)
	w.Header().Set("Retry-After", retryAfter)
	private.Problem(w, http.StatusServiceUnavailable, "Events cannot be kept now; send the same again later. The log says why.")
}

func hasType(r *http.Request, types ...string) bool {
	t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	t = strings.ToLower(strings.TrimSpace(t))
	for _, want := range types {
		if t == want {
			return true
		}
	}
	return false
}

func (a *EventsAPI) counters(w http.ResponseWriter, r *http.Request) {
	s := a.Service
	if !hasType(r, "application/json") {
		private.Problem(w, http.StatusUnsupportedMediaType, "send application/json")
		return
	}
	b, err := s.receive(w, r)
	if err != nil {
		s.bodyProblem(w, r, err)
		return
	}
	defer b.release()
	var in counterBody
	if err := strictJSON(b.plain, &in); err != nil {
		if !errors.Is(err, errTooMuch) {
			err = &statusError{http.StatusBadRequest, err.Error()}
		}
		s.bodyProblem(w, r, err)
		return
	}
	batch := CounterBatch{ID: in.ID, Edge: in.Edge, Counters: in.Counters}
	if err := batch.check(); err != nil {
		if !errors.Is(err, errTooMuch) {
			err = &statusError{http.StatusBadRequest, err.Error()}
		}
		s.bodyProblem(w, r, err)
		return
	}
	if err := s.AcceptCounters(r.Context(), batch); err != nil {
		s.fail(w, r, err)
		return
	}
	accepted(w, Receipt{Accepted: len(batch.Counters)})
}

// counterBody is a CounterBatch as it is read.
type counterBody struct {
	ID       string      `json:"id"`
	Edge     string      `json:"edge"`
	Counters counterList `json:"counters"`
}

// counterList stops reading where there are too many: empty ones take two bytes as text and sixty in memory.
type counterList []record.Counter

// UnmarshalJSON reads an array.
func (l *counterList) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	switch t, err := d.Token(); {
	case err != nil:
		return err
	case t == nil:
		return nil
	case t != json.Delim('['):
		return errors.New("counters: want an array")
	}
	for d.More() {
		if len(*l) == maxCounters {
			return fmt.Errorf("%w: at most %d counters", errTooMuch, maxCounters)
		}
		var c record.Counter
		if err := d.Decode(&c); err != nil {
			return fmt.Errorf("counters[%d]: %w", len(*l), err)
		}
		*l = append(*l, c)
	}
	return nil
}

// strictJSON reads one JSON value, and refuses unknown fields and whatever comes after it.
func strictJSON(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if len(bytes.TrimSpace(text[d.InputOffset():])) > 0 {
		return errors.New("more than one JSON value")
	}
	return nil
}

// QueueAPI shows the queue and its dead letters to the operator:
//
//	GET    /v1/queue                what waits
//	GET    /v1/dead-letters         batches that could not be read or archived; after=, limit=
//	POST   /v1/dead-letters/replay  {"ids": […]} puts them back, all without ids
//	DELETE /v1/dead-letters         discards them; ids=a,b, or all=true
type QueueAPI struct{ Service *Service }

// Register adds the routes.
func (a *QueueAPI) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/queue", a.depth)
	mux.HandleFunc("GET /v1/dead-letters", a.list)
	mux.HandleFunc("POST /v1/dead-letters/replay", a.replay)
	mux.HandleFunc("DELETE /v1/dead-letters", a.discard)
}

// queueTime bounds one look at the queue.
const queueTime = 10 * time.Second

// Depth is the answer of GET /v1/queue.
type Depth struct {
	Batches     int       `json:"batches"`
	Events      int       `json:"events"`
	Bytes       int64     `json:"bytes"`
	Oldest      time.Time `json:"oldest,omitzero"`
	DeadLetters int       `json:"deadLetters"`
}

func (a *QueueAPI) depth(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), queueTime)
	defer cancel()
	d, err := a.Service.o.Queue.Depth(ctx)
	if err != nil {
		a.fail(w, "", err)
		return
	}
	private.JSON(w, Depth{d.Batches, d.Events, d.Bytes, d.Oldest, d.Dead})
}

// DeadLetter is a batch that could not be read or archived, as it is shown.
type DeadLetter struct {
	ID       string    `json:"id"`
	Source   string    `json:"source"`
	At       time.Time `json:"at"`
	BuriedAt time.Time `json:"buriedAt"`
	Events   int       `json:"events"`
	Bytes    int       `json:"bytes"`
	Attempts int       `json:"attempts"`
	Reason   string    `json:"reason"`
	Begins   string    `json:"begins"` // the first bytes of its text, or of the body if that cannot be unpacked, as a Go string literal
}

// DeadLetters is the answer of GET /v1/dead-letters.
type DeadLetters struct {
	DeadLetters []DeadLetter `json:"deadLetters"`
	Next        string       `json:"next,omitempty"` // ask again with after= this
}

func (a *QueueAPI) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit := 100
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			private.Problem(w, http.StatusBadRequest, "limit: a number from 1 to 1000")
			return
		}
		limit = n
	}
	ctx, cancel := context.WithTimeout(r.Context(), queueTime)
	defer cancel()
	dead, err := a.Service.o.Queue.Dead(ctx, q.Get("after"), limit)
	if err != nil {
		a.fail(w, "after: there is no such dead letter", err)
		return
	}
	out := DeadLetters{DeadLetters: []DeadLetter{}}
	for i := range dead {
		d := &dead[i]
		out.DeadLetters = append(out.DeadLetters, DeadLetter{d.ID, d.Source, d.At, d.BuriedAt, d.Events, len(d.Body), d.Attempts, d.Reason, begins(d.Body)})
	}
	if n := len(dead); n > 0 {
		// A queue may return fewer than it was asked for, so that only asking shows whether that was all.
		switch more, err := a.Service.o.Queue.Dead(ctx, dead[n-1].ID, 1); {
		case err != nil && !errors.Is(err, queue.ErrUnknown): // it was just replayed or discarded
			a.fail(w, "", err)
			return
		case len(more) > 0:
			out.Next = dead[n-1].ID
		}
	}
	private.JSON(w, out)
}

// begins shows the beginning of a dead letter.
func begins(body []byte) string {
	const shown = 200
	if len(body) > 1 && body[0] == bodyEvents {
		if z, err := zstd.NewReader(bytes.NewReader(body[1:]), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(8<<20)); err == nil {
			text, _ := io.ReadAll(io.LimitReader(z, shown)) // of what is damaged there may be a beginning
			z.Close()
			if len(text) > 0 {
				return fmt.Sprintf("%q", text)
			}
		}
	}
	return fmt.Sprintf("%q", body[:min(len(body), shown)])
}

// Moved is how many dead letters were replayed or discarded.
type Moved struct {
	Replayed  int `json:"replayed,omitempty"`
	Discarded int `json:"discarded,omitempty"`
}

func (a *QueueAPI) replay(w http.ResponseWriter, r *http.Request) {
	var in struct {
		IDs []string `json:"ids"`
	}
	if err := private.ReadJSON(w, r, &in); err != nil {
		private.Problem(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), queueTime)
	defer cancel()
	n, err := a.Service.o.Queue.Replay(ctx, in.IDs...)
	if err != nil {
		a.fail(w, fmt.Sprintf("some of these are no dead letters; %d were put back", n), err)
		return
	}
	private.JSON(w, Moved{Replayed: n})
}

func (a *QueueAPI) discard(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var ids []string
	switch {
	case q.Get("ids") != "":
		ids = strings.Split(q.Get("ids"), ",")
	case q.Get("all") != "true":
		private.Problem(w, http.StatusBadRequest, "say which: ids=a,b or all=true")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), queueTime)
	defer cancel()
	n, err := a.Service.o.Queue.Discard(ctx, ids...)
	if err != nil {
		a.fail(w, fmt.Sprintf("some of these are no dead letters; %d were discarded", n), err)
		return
	}
	private.JSON(w, Moved{Discarded: n})
}

// fail answers an error of the queue; unknown is what to say when what was named is not there.
func (a *QueueAPI) fail(w http.ResponseWriter, unknown string, err error) {
	if errors.Is(err, queue.ErrUnknown) && unknown != "" {
		private.Problem(w, http.StatusNotFound, unknown)
		return
	}
	a.Service.o.Log.Error("reading the queue", "error", err)
	private.Problem(w, http.StatusServiceUnavailable, "The queue cannot be read now. The log says why.")
}
