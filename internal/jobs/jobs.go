// Package jobs runs what is due now and then: each job by itself, never twice at once, within a time, and again soon after a failure.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quickthorn/quickthorn/internal/telemetry"
	"github.com/quickthorn/quickthorn/internal/wait"
)

// Job is something to be done regularly.
type Job struct {
	Name  string        // as metrics, the log and the command line say it
	Every time.Duration // from the end of one run to the beginning of the next
	Limit time.Duration // a run that takes longer is ended; 0: 30 min
	Run   func(ctx context.Context) error
}

// retry is how soon a run that failed is repeated, unless the job is due earlier.
const retry = time.Minute

// defaultLimit bounds a run that has no limit of its own.
const defaultLimit = 30 * time.Minute

// Options are what a Runner needs. All fields are required.
type Options struct {
	Jobs []Job
	Now  func() time.Time
	Log  *slog.Logger
}

// Runner runs jobs. It is a prometheus.Collector of their outcomes.
type Runner struct {
	o    Options
	jobs []*job

	last, runs, duration *prometheus.Desc
}

// job is a job with what became of its runs.
type job struct {
	Job
	state *telemetry.State

	mu             sync.Mutex
	lastSuccess    time.Time
	passed, failed uint64
	took           time.Duration
}

// New returns a runner. The error is about the jobs.
func New(o Options) (*Runner, error) {
	r := &Runner{
		o:        o,
		last:     prometheus.NewDesc("quickthorn_sync_last_success_timestamp_seconds", "When a job last succeeded since the start; 0: not yet.", []string{"task"}, nil),
		runs:     prometheus.NewDesc("quickthorn_sync_runs_total", "Runs of a job.", []string{"task", "result"}, nil),
		duration: prometheus.NewDesc("quickthorn_sync_duration_seconds", "How long the latest run of a job took.", []string{"task"}, nil),
	}
	for _, j := range o.Jobs {
		if j.Name == "" || j.Every <= 0 || j.Run == nil {
			return nil, fmt.Errorf("job %q: needs a name, an interval and something to run", j.Name)
		}
		if r.find(j.Name) != nil {
			return nil, fmt.Errorf("job %q: there are two of that name", j.Name)
		}
		if j.Limit <= 0 {
			j.Limit = defaultLimit
		}
		r.jobs = append(r.jobs, &job{Job: j, state: telemetry.NewState(o.Log, "job "+j.Name+" fails; it is tried again", "job "+j.Name+" succeeds again", o.Now)})
	}
	return r, nil
}

func (r *Runner) find(name string) *job {
	for _, j := range r.jobs {
		if j.Name == name {
			return j
		}
	}
	return nil
}

// Once runs the job of that name now and returns its error.
func (r *Runner) Once(ctx context.Context, name string) error {
	j := r.find(name)
	if j == nil {
		var names []string
		for _, j := range r.jobs {
			names = append(names, j.Name)
		}
		return fmt.Errorf("no job %q: there is %s", name, strings.Join(names, ", "))
	}
	return r.run(ctx, j)
}

// Run runs every job at once and then when it is due, until ctx ends; it returns nil when the last run has ended.
func (r *Runner) Run(ctx context.Context) error {
	var g sync.WaitGroup
	for _, j := range r.jobs {
		g.Go(func() {
			for ctx.Err() == nil {
				err := r.run(ctx, j)
				if ctx.Err() != nil {
					return
				}
				j.state.Report(err)
				pause := j.Every
				if err != nil {
					pause = min(pause, retry)
				}
				wait.For(ctx, pause)
			}
		})
	}
	g.Wait()
	return nil
}

func (r *Runner) run(ctx context.Context, j *job) error {
	limited, cancel := context.WithTimeout(ctx, j.Limit)
	defer cancel()
	begin := r.o.Now()
	err := j.Run(limited)
	end := r.o.Now()
	if err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("took longer than %s: %w", j.Limit, err)
	}
	if ctx.Err() == nil {
		r.o.Log.Debug("job", "name", j.Name, "seconds", end.Sub(begin).Seconds(), "error", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.took = end.Sub(begin)
	switch {
	case err == nil:
		j.passed++
		j.lastSuccess = end
	case ctx.Err() == nil: // a run that was told to end has not failed
		j.failed++
	}
	return err
}

// Describe implements prometheus.Collector.
func (r *Runner) Describe(ch chan<- *prometheus.Desc) { ch <- r.last; ch <- r.runs; ch <- r.duration }

// Collect implements prometheus.Collector.
func (r *Runner) Collect(ch chan<- prometheus.Metric) {
	for _, j := range r.jobs {
		j.mu.Lock()
		last, passed, failed, took := 0.0, j.passed, j.failed, j.took
		if !j.lastSuccess.IsZero() {
			last = float64(j.lastSuccess.UnixMilli()) / 1000
		}
		j.mu.Unlock()
		ch <- prometheus.MustNewConstMetric(r.last, prometheus.GaugeValue, last, j.Name)
		ch <- prometheus.MustNewConstMetric(r.runs, prometheus.CounterValue, float64(passed), j.Name, "ok")
		ch <- prometheus.MustNewConstMetric(r.runs, prometheus.CounterValue, float64(failed), j.Name, "failed")
		ch <- prometheus.MustNewConstMetric(r.duration, prometheus.GaugeValue, took.Seconds(), j.Name)
	}
}
