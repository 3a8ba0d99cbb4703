// Package replay judges the requests of access logs with the very engine that
// judges live ones, by the log's own clock, and reports what would have happened.
//
// Use it before a policy touches a reader. What a log does not tell (most
// headers, TLS) is unobserved, so fewer signals fire than live: the report lists those that
// could not run.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quickthorn/quickthorn/internal/accesslog"
	"github.com/quickthorn/quickthorn/internal/budget"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/engine"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/profile"
)

// Options say how to replay.
type Options struct {
	Profiler *profile.Profiler
	Policy   *policy.Policy
	// Compare is a second policy to set beside the first; nil for none.
	Compare *policy.Policy
	Mode    defense.Mode
	Posture defense.Posture
	Format  *accesslog.Format // nil: found out for each file
	Site    string            // the site that budgets count for
	Stdin   io.Reader         // for the name "-"
	// Buckets is how many budget buckets are kept.
	Buckets int
	// maxKeys bounds the clients, prefixes, agents and paths that are counted; 0 for the default.
	maxKeys int
	// Progress is called now and then from one goroutine, while reading, with how far the
	// current file is read; of is 0 when that is not known. May be nil.
	Progress func(file string, done, of int64, requests uint64)
}

// judge is an engine with nothing but the policy and the log's clock.
type judge struct {
	engine  *engine.Engine
	scratch engine.Scratch
	verdict defense.Verdict
}

func newJudge(o *Options, p *policy.Policy) *judge {
	return &judge{engine: engine.New(engine.Options{
		Decisions: decision.NewSet(nil), Budgets: budget.New(o.Buckets),
		Policy: func() *policy.Policy { return p }, Mode: func() defense.Mode { return o.Mode }, Posture: func() defense.Posture { return o.Posture },
	})}
}

// item is a request on its way from the reader to the judge.
type item struct {
	profile  defense.Profile
	bytes    int64
	duration time.Duration
	line     int
}

// Items travel in batches: handing them over one by one would cost more than reading them.
const batchSize = 256

type batch struct {
	items [batchSize]item
	n     int
}

// maxDisorder is how far a line may be older than one before it and still count as
// of the same time. Apache writes a line when the answer is out, with the time at which the request
// came, and several processes write into one log.
const maxDisorder = 10 * time.Minute

// clock is the time of a log, which does not run backwards. Budgets would take a clock that
// does for one that was set, and let everybody start anew: on a log whose lines are a
// little out of order no flood would ever be seen.
type clock struct{ now time.Time }

// at returns the time at which a line of time t is judged.
func (c *clock) at(t time.Time) time.Time {
	if back := c.now.Sub(t); back < 0 || back > maxDisorder {
		c.now = t
	}
	return c.now
}

// Run replays the files in the given order ("-" is standard input) and returns the
// report; its tables have at most top rows. A line that cannot be read is
// counted and passed over; a file that cannot be read is an error that names it.
func Run(ctx context.Context, files []string, top int, o Options) (*Report, error) {
	if len(files) == 0 {
		return nil, errors.New("no log file is named")
	}
	if o.maxKeys == 0 {
		o.maxKeys = maxKeys
	}
	collector := newCollector(o.maxKeys)
	var comparison *comparer
	if o.Compare != nil {
		comparison = newComparer(o.maxKeys)
	}
	inputs, seen, err := judgeAll(ctx, files, &o, func(line *observed, second *defense.Verdict) {
		collector.add(line)
		if second != nil {
			comparison.add(line, second)
		}
	}, func() uint64 { return collector.lines })
	if err != nil {
		return nil, err
	}
	r := collector.report(top)
	r.Policy, r.Mode, r.Posture, r.Inputs = o.Policy.Name(), o.Mode.String(), o.Posture.String(), inputs
	for _, in := range inputs {
		r.Broken += in.Broken
	}
	if r.Requests > 0 {
		for _, s := range profile.Unrunnable(seen) {
			r.Unrunnable = append(r.Unrunnable, s.Name)
		}
	}
	if comparison != nil {
		r.Comparison = comparison.report(o.Policy.Name(), o.Compare.Name(), top)
	}
	return r, nil
}

// judgeAll hands every line of the files with its verdict to each, and with the second
// policy's verdict if there is one. What each is given is valid during the call. seen is
// what the lines told of their requests.
func judgeAll(ctx context.Context, files []string, o *Options, each func(line *observed, second *defense.Verdict), requests func() uint64) (inputs []Input, seen profile.Part, err error) {
	first := newJudge(o, o.Policy)
	var second *judge
	var verdict *defense.Verdict
	if o.Compare != nil {
		second = newJudge(o, o.Compare)
		verdict = &second.verdict
	}
	for _, name := range files {
		var clock clock // the next file may begin earlier: another server's log of the same day
		in, err := replayFile(ctx, name, o, func(it *item) {
			p := &it.profile
			seen |= profile.Observed(p)
			written := p.Time
			p.Time = clock.at(written)
			first.engine.Judge(p, &first.scratch, &first.verdict, nil)
			if second != nil {
				second.engine.Judge(p, &second.scratch, &second.verdict, nil)
			}
			p.Time = written
			each(&observed{Profile: p, Verdict: &first.verdict, Bytes: it.bytes, Duration: it.duration.Seconds(), File: name, Line: it.line}, verdict)
		}, requests)
		if err != nil {
			return nil, 0, err
		}
		inputs = append(inputs, in)
	}
	return inputs, seen, nil
}

// replayFile reads one log in a goroutine of its own and judges what it reads in the caller's.
func replayFile(ctx context.Context, name string, o *Options, judge func(*item), requests func() uint64) (Input, error) {
	src, err := accesslog.Open(name, o.Stdin)
	if err != nil {
		return Input{}, err
	}
	defer src.Close()
	reader := accesslog.NewReader(src, o.Format)
	format, err := reader.Detect()
	if err != nil {
		return Input{}, fmt.Errorf("%s: %w", name, err)
	}
	full, empty := make(chan *batch, 4), make(chan *batch, 6)
	for range cap(empty) {
		empty <- new(batch)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(full)
		var e accesslog.Entry
		for {
			var b *batch
			select {
			case b = <-empty:
			case <-ctx.Done():
				return ctx.Err()
			}
			b.n = 0
			var err error
			for b.n < batchSize {
				if err = reader.Next(&e); err != nil {
					break
				}
				it := &b.items[b.n]
				if e.Header != nil {
					e.Header = cloneHeader(e.Header) // the reader uses it again
				}
				o.Profiler.FromLog(&it.profile, e.LogEntry)
				it.profile.Site = o.Site
				it.bytes, it.duration, it.line = e.Bytes, e.Duration, reader.Line()
				b.n++
			}
			select {
			case full <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err == io.EOF {
				return nil
			} else if err != nil {
				return fmt.Errorf("%s: line %d: %w", name, reader.Line(), err)
			}
		}
	})
	g.Go(func() error {
		n := 0
		for b := range full {
			for i := range b.n {
				judge(&b.items[i])
			}
			if n++; o.Progress != nil && n%64 == 0 {
				done, of := src.Progress()
				o.Progress(name, done, of, requests())
			}
			empty <- b // has room: there are no more batches than it holds
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return Input{}, err
	}
	return input(name, format, reader.Stats()), nil
}

func cloneHeader(h http.Header) http.Header {
	c := maps.Clone(h)
	for k, v := range c {
		c[k] = slices.Clone(v)
	}
	return c
}

func input(name string, f *accesslog.Format, s accesslog.Stats) Input {
	in := Input{Name: name, Format: f.Name(), Lines: uint64(s.Lines)}
	for _, b := range s.Broken {
		if b.Lines == 0 {
			continue
		}
		in.Broken += uint64(b.Lines)
		r := Reason{Text: b.Reason.Error(), Lines: uint64(b.Lines)}
		if len(b.Examples) > 0 {
			r.Example, r.At = b.Examples[0].Text, b.Examples[0].Line
		}
		in.Reasons = append(in.Reasons, r)
	}
	slices.SortStableFunc(in.Reasons, func(a, b Reason) int { return int(int64(b.Lines) - int64(a.Lines)) })
	return in
}
