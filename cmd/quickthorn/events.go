package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/run"
	"github.com/quickthorn/quickthorn/internal/store/sqlite"
)

// eventFlags are the parameters of GET /v1/events, as flags.
var eventFlags = [][2]string{
	{"since", "from this time, or as long ago as 24h"}, {"until", "up to this time"}, {"id", "with this event or request `id`"}, {"site", "of this site"},
	{"client", "of this address or range"}, {"action", "with this action"}, {"intended", "with what mode enforce would have done"},
	{"event", "of this kind: request, challenge, tarpit"}, {"kind", "for this kind of request"}, {"host", "for this host"}, {"path", "with this part of the path"},
	{"agent", "with this part of the User-Agent"}, {"rule", "decided by this rule"}, {"crawler", "claimed to be this crawler"},
}

// openArchive opens the archive of an install that is not running; done closes it. The state's lock is
// held meanwhile, so that no program starts on the directory with another form of the archive.
func (env *environment) openArchive(ctx context.Context, cfg *config.Config) (a *sqlite.Archive, done func() error, err error) {
	db, _, err := env.offline(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(cfg.Data.Directory, sqlite.FileName)
	if _, err = os.Stat(path); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("no events have been kept: %w", err), db.Close())
	}
	privacy, err := run.ArchivePrivacy(cfg)
	if err == nil {
		a, err = sqlite.Open(ctx, path, sqlite.Options{Privacy: privacy, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	}
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return a, func() error { return errors.Join(a.Close(), db.Close()) }, nil
}

func eventsCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use: "events", Short: "List recorded requests with their verdicts, the newest first", Args: command.NoArgs,
		Long: "List recorded requests with their verdicts, the newest first. In brackets stands what mode enforce would have done.\nWhen nothing runs, the archive in the data directory is read.",
		Example: `  quickthorn events --intended deny --since 1h
  quickthorn events --client 203.0.113.0/24 --json`,
	}
	values := map[string]*string{}
	for _, f := range eventFlags {
		values[f[0]] = c.Flags().String(f[0], "", "only those "+f[1])
	}
	limit := c.Flags().Int("limit", 50, "how many; 0 for all")
	asJSON := c.Flags().Bool("json", false, "print NDJSON")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		q := url.Values{}
		for name, v := range values {
			if *v != "" {
				q.Set(name, *v)
			}
		}
		if *limit > 0 {
			q.Set("limit", fmt.Sprint(*limit))
		}
		filter, err := record.ParseFilter(q, time.Now())
		if err != nil {
			return command.Usagef("events: --%v", err)
		}
		show := func(r io.Reader) error { return writeEvents(env.Stdout, r) }
		if *asJSON {
			show = func(r io.Reader) error {
				_, err := io.Copy(env.Stdout, r)
				return err
			}
		}
		cfg, a, err := env.connect(cmd.Context())
		if err != nil {
			return err
		}
		if a != nil {
			body, err := a.stream(cmd.Context(), http.MethodGet, "/v1/events?"+q.Encode(), "application/x-ndjson", nil)
			if err != nil {
				return unkept(err)
			}
			defer body.Close()
			return show(body)
		}
		archive, done, err := env.openArchive(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		r, w := io.Pipe()
		exported := make(chan struct{})
		go func() {
			defer close(exported)
			w.CloseWithError(record.Export(cmd.Context(), archive, filter, w))
		}()
		err = show(r)
		r.Close()
		<-exported
		return errors.Join(err, done())
	}
	return c
}

// unkept words the error of an install that answers but has no archive.
func unkept(err error) error {
	if e := (*apiError)(nil); errors.As(err, &e) && e.status == http.StatusNotFound {
		return errors.New("the running install keeps no events: events.enabled is false, or its log says why the archive cannot be opened")
	}
	return err
}

// writeEvents writes the events of an NDJSON stream as a table.
func writeEvents(out io.Writer, in io.Reader) error {
	tw := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	d := json.NewDecoder(in)
	for {
		var e defense.Event
		if err := d.Decode(&e); err == io.EOF {
			return tw.Flush()
		} else if err != nil {
			return errors.Join(fmt.Errorf("read events: %w", err), tw.Flush())
		}
		what := e.Verdict.Action.String()
		if e.Verdict.Intended != e.Verdict.Action {
			what += " (" + e.Verdict.Intended.String() + ")"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", e.Time.Local().Format("01-02 15:04:05"), shown(e.Client.Address, 60), what, e.Response.Status,
			shown(e.Request.Method+" "+e.Request.Host+e.Request.Path, 80), shown(e.Request.Agent, 60), shown(e.Verdict.Rule, 60))
	}
}

// activity is the answer of GET /v1/report.
type activity struct {
	Summary record.Summary `json:"summary"`
	Harm    record.Harm    `json:"harm"`
}

func reportCommand(env *environment) *cobra.Command {
	var since string
	var asJSON bool
	c := &cobra.Command{
		Use: "report", Short: "Sum up what was done, and whom it hurt or would have hurt", Args: command.NoArgs,
		Long: "Sum up what was done, and which readers it stopped or in mode enforce would have stopped.\nWhen nothing runs, the archive in the data directory is read.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			q := url.Values{"since": {since}}
			period, err := record.ParseFilter(q, now)
			if err == nil && (period.Since.IsZero() || !period.Since.Before(now)) {
				err = errors.New("since: name a time that has passed, or an age such as 24h")
			}
			if err != nil {
				return command.Usagef("report: --%v", err)
			}
			cfg, a, err := env.connect(cmd.Context())
			if err != nil {
				return err
			}
			var r activity
			if a != nil {
				err = unkept(a.call(cmd.Context(), http.MethodGet, "/v1/report?"+q.Encode(), nil, &r))
			} else {
				err = env.sumUp(cmd.Context(), cfg, period.Since, now, &r)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(env.Stdout, &r)
			}
			return writeReport(env.Stdout, &r.Summary, &r.Harm)
		},
	}
	c.Flags().StringVar(&since, "since", "24h", "from this time, or as long ago as 24h or 7d")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// sumUp reads the report from the archive of an install that is not running.
func (env *environment) sumUp(ctx context.Context, cfg *config.Config, since, until time.Time, r *activity) error {
	archive, done, err := env.openArchive(ctx, cfg)
	if err != nil {
		return err
	}
	if r.Summary, err = archive.Summary(ctx, since, until); err == nil {
		r.Harm, err = archive.Harm(ctx, since, until)
	}
	return errors.Join(err, done())
}

// named is a name of a tally; requests that have none, such as those of a client without address, are counted as well.
func named(name string) string {
	if name == "" {
		return "(none)"
	}
	return shown(name, 80)
}

func writeReport(out io.Writer, s *record.Summary, h *record.Harm) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintf(tw, "From %s to %s: %d requests\n", s.Since.Local().Format(time.DateTime), s.Until.Local().Format(time.DateTime), s.Requests)
	for _, c := range s.Totals {
		fmt.Fprintf(tw, "  %s\t%s\t%d", shown(c.Site, 40), c.Action, c.Count)
		if c.Intended != c.Action {
			fmt.Fprintf(tw, "\t(mode enforce: %s)", c.Intended)
		}
		fmt.Fprintln(tw)
	}
	tally := func(title string, list []record.Tally) {
		if len(list) == 0 {
			return
		}
		fmt.Fprintf(tw, "\n%s\tevents\tstopped\tmore in mode enforce\n", title)
		for _, t := range list[:min(10, len(list))] {
			fmt.Fprintf(tw, "  %s\t%d\t%d\t%d\n", named(t.Name), t.Events, t.Stopped, t.Held)
		}
	}
	tally("Rules", s.Rules)
	tally("Crawlers that were claimed", s.Crawlers)
	tally("Agents", s.Agents)
	tally("Prefixes", s.Prefixes)
	fmt.Fprintf(tw, "\nReaders that were, or in mode enforce would have been, stopped: %d requests of %d clients\n", h.Events, h.Clients)
	if h.Events == 0 {
		fmt.Fprintln(tw, "  none")
	}
	for _, g := range h.Groups[:min(20, len(h.Groups))] {
		fmt.Fprintf(tw, "  %s\t%s\t%s by %s\t%d stopped\t%d more in mode enforce\t%d clients\tscore %d\n", g.Prefix, g.LooksLike, g.Intended, g.Rule, g.Stopped, g.Held, g.Clients, g.Score)
		fmt.Fprintf(tw, "    e.g. %s  %s\n", shown(g.Example.Request.Method+" "+g.Example.Request.Path, 80), shown(g.Example.Request.Agent, 80))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(out, b.String())
	return err
}
