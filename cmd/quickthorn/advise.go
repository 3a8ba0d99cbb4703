package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/advise"
	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/knowledge"
	"github.com/quickthorn/quickthorn/internal/record"
)

func adviseCommand(env *environment) *cobra.Command {
	var days, most int
	var asJSON bool
	c := &cobra.Command{
		Use: "advise", Short: "Propose rules for the policy, from what was recorded", Args: command.NoArgs,
		Long: `Propose rules for the policy, from what was recorded: what clients that were found to be unwanted have in common and readers have not. Each proposal is a rule in
YAML, why, and what it would have done in that time: whom it would have met, and what the policy in force does otherwise. Nothing is changed: the rules are in mode shadow, to be tried out
in a policy of your own that imports yours (docs/policy.md). Of allowed requests only a sample is recorded (events.sampleAllow), so the figures are of that.
When nothing runs, the archive in the data directory is read.`,
		Example: "  quickthorn advise --days 7 >proposals.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case days < 1 || days > 365:
				return command.Usagef("--days: want 1 to 365")
			case most < 1 || most > advise.MaxProposals:
				return command.Usagef("--max: want 1 to %d", advise.MaxProposals)
			}
			cfg, a, err := env.connect(cmd.Context())
			if err != nil {
				return err
			}
			var source advise.Source = remoteSource{a}
			if a == nil {
				archive, done, err := env.openArchive(cmd.Context(), cfg)
				if err != nil {
					return err
				}
				defer func() { _ = done() }() // it was only read
				source = archive
			}
			k, err := knowledge.Read()
			if err != nil {
				return err
			}
			ref := cfg.Policy.Source
			if strings.ContainsAny(ref, `/\.`) {
				if ref, err = filepath.Abs(ref); err != nil {
					return err
				}
			}
			r, err := advise.Find(cmd.Context(), advise.Options{
				Source: source, Period: time.Duration(days) * 24 * time.Hour, Now: time.Now(), Policy: ref, Policies: k.Policy, Profiler: k.Profiler, Max: most,
			})
			if err != nil {
				return unkept(err)
			}
			if asJSON {
				return writeJSON(env.Stdout, r)
			}
			return writeAdvice(env.Stdout, r)
		},
	}
	c.Flags().IntVar(&days, "days", 7, "look at so many `days`")
	c.Flags().IntVar(&most, "max", 5, "propose so many at most")
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

// remoteSource reads the archive of a running install.
type remoteSource struct{ a *apiClient }

// Events implements advise.Source.
func (s remoteSource) Events(ctx context.Context, f record.Filter) (p record.Page, err error) {
	q := url.Values{"since": {f.Since.Format(time.RFC3339)}, "until": {f.Until.Format(time.RFC3339)}, "event": {f.Event}, "limit": {fmt.Sprint(f.Limit)}}
	if f.Before != "" {
		q.Set("before", f.Before)
	}
	return p, s.a.call(ctx, http.MethodGet, "/v1/events?"+q.Encode(), nil, &p)
}

// Cases implements advise.Source.
func (s remoteSource) Cases(ctx context.Context, f casebook.Filter) (p casebook.Page, err error) {
	q := url.Values{"since": {f.Since.Format(time.RFC3339)}, "until": {f.Until.Format(time.RFC3339)}, "limit": {fmt.Sprint(f.Limit)}}
	if f.Before != "" {
		q.Set("before", f.Before)
	}
	return p, s.a.call(ctx, http.MethodGet, "/v1/cases?"+q.Encode(), nil, &p)
}

func writeAdvice(out io.Writer, r *advise.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Looked at %d recorded requests of %d clients since %s: %d were found to be unwanted, %d read like people.\n", r.Events, r.Clients, r.Since.Local().Format("2006-01-02 15:04"), r.Unwanted, r.Readers)
	if r.Truncated {
		b.WriteString("There are more; only the latest were looked at.\n")
	}
	if len(r.Proposals) == 0 {
		b.WriteString("Nothing to propose: what unwanted clients have in common the policy stops already, or readers have it as well.\n")
	}
	for i := range r.Proposals {
		p := &r.Proposals[i]
		e := &p.Evidence
		fmt.Fprintf(&b, "\n# %d. %s.\n", i+1, p.Reason)
		fmt.Fprintf(&b, "# It would have met %d requests of %d unwanted clients, of which %d reached the site; %d requests of %d readers; %d requests of %d others.\n",
			e.UnwantedRequests, e.UnwantedClients, e.Missed, e.ReaderRequests, e.ReaderClients, e.OtherRequests, e.OtherClients)
		fmt.Fprintf(&b, "# Tried on %d requests with the policy in force: %d are judged otherwise; of those that may be readers' %d more are stopped.\n", e.Replayed, e.Changed, e.ReadersStopped)
		b.WriteString(p.Rule)
	}
	if len(r.Proposals) > 0 {
		b.WriteString("\n# Nothing has been changed. Put a rule into a policy of your own, look at it in shadow for some days (quickthorn report), then take its mode out.\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}
