package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/accesslog"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
)

// eventFlags are the parameters of GET /v1/events, as flags.
var eventFlags = [][2]string{
	{"since", "from this time, or as long ago as 24h"}, {"until", "up to this time"}, {"id", "this event or request `id`"}, {"site", "of this site"},
	{"client", "of this address or range"}, {"action", "with this action"}, {"intended", "with what mode enforce would have done"},
	{"event", "of this kind: request, challenge, tarpit"}, {"kind", "for this kind of request"}, {"host", "for this host"}, {"path", "with this part of the path"},
	{"agent", "with this part of the User-Agent"}, {"rule", "decided by this rule"}, {"crawler", "claimed to be this crawler"},
}

func eventsCommand(env *environment) *cobra.Command {
	c := &cobra.Command{Use: "events", Short: "List recorded requests with their verdicts, the newest first", Args: cobra.NoArgs}
	values := map[string]*string{}
	for _, f := range eventFlags {
		values[f[0]] = c.Flags().String(f[0], "", "only those "+f[1])
	}
	limit := c.Flags().Int("limit", 50, "how many; 0 for all")
	asJSON := c.Flags().Bool("json", false, "print NDJSON")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := env.running(cmd.Context())
		if err != nil {
			return err
		}
		q := url.Values{}
		for name, v := range values {
			if *v != "" {
				q.Set(name, *v)
			}
		}
		if *limit > 0 {
			q.Set("limit", fmt.Sprint(*limit))
		}
		body, err := a.stream(cmd.Context(), http.MethodGet, "/v1/events?"+q.Encode(), "application/x-ndjson", nil)
		if err != nil {
			return err
		}
		defer body.Close()
		if *asJSON {
			_, err := io.Copy(env.stdout, body)
			return err
		}
		tw := tabwriter.NewWriter(env.stdout, 0, 4, 2, ' ', 0)
		d := json.NewDecoder(body)
		for {
			var e defense.Event
			if err := d.Decode(&e); err == io.EOF {
				break
			} else if err != nil {
				return fmt.Errorf("read events: %w", err)
			}
			what := e.Verdict.Action.String()
			if e.Verdict.Intended != e.Verdict.Action {
				what += " (" + e.Verdict.Intended.String() + ")"
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", e.Time.Local().Format("01-02 15:04:05"), e.Client.Address, what, e.Response.Status,
				accesslog.Printable(e.Request.Method+" "+e.Request.Host+e.Request.Path, 80), accesslog.Printable(e.Request.Agent, 60), e.Verdict.Rule)
		}
		return tw.Flush()
	}
	return c
}

func reportCommand(env *environment) *cobra.Command {
	var since string
	var asJSON bool
	c := &cobra.Command{
		Use: "report", Short: "Sum up what was done, and whom it hurt or would have hurt", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := env.running(cmd.Context())
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := a.call(cmd.Context(), http.MethodGet, "/v1/report?since="+url.QueryEscape(since), nil, &raw); err != nil {
				return err
			}
			if asJSON {
				_, err := fmt.Fprintln(env.stdout, string(raw))
				return err
			}
			var r struct {
				Summary record.Summary
				Harm    record.Harm
			}
			if err := json.Unmarshal(raw, &r); err != nil {
				return fmt.Errorf("read the report: %w", err)
			}
			return writeReport(env.stdout, &r.Summary, &r.Harm)
		},
	}
	c.Flags().StringVar(&since, "since", "24h", "from this time, or as long ago as 24h or 7d")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func writeReport(out io.Writer, s *record.Summary, h *record.Harm) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintf(tw, "From %s to %s: %d requests\n", s.Since.Local().Format(time.DateTime), s.Until.Local().Format(time.DateTime), s.Requests)
	for _, c := range s.Totals {
		intended := ""
		if c.Intended != c.Action {
			intended = "mode enforce would: " + c.Intended.String()
		}
		fmt.Fprintf(tw, "  %s\t%s\t%d\t%s\n", c.Site, c.Action, c.Count, intended)
	}
	tally := func(title string, list []record.Tally) {
		if len(list) == 0 {
			return
		}
		fmt.Fprintf(tw, "\n%s\n", title)
		for _, t := range list[:min(10, len(list))] {
			fmt.Fprintf(tw, "  %s\t%d events\t%d stopped\t%d more in mode enforce\n", accesslog.Printable(t.Name, 80), t.Events, t.Stopped, t.Held)
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
		fmt.Fprintf(tw, "    e.g. %s  %s\n", accesslog.Printable(g.Example.Request.Method+" "+g.Example.Request.Path, 80), accesslog.Printable(g.Example.Request.Agent, 80))
	}
	tw.Flush()
	_, err := io.WriteString(out, b.String())
	return err
}
