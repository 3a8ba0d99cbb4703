package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/intake"
)

// errNothingRuns is the error of commands that need a running install.
var errNothingRuns = errors.New("no running install answers: start quickthorn, or name it with --server, --config or --set")

// running returns a client of the running install.
func (env *environment) running(ctx context.Context) (*apiClient, error) {
	_, a, err := env.connect(ctx)
	if err == nil && a == nil {
		err = errNothingRuns
	}
	return a, err
}

// caseFlags are the parameters of GET /v1/cases, as flags.
var caseFlags = [][2]string{
	{"kind", "of this kind: client or campaign"}, {"site", "of this site"}, {"key", "about this client, fingerprint or range"},
	{"outcome", "with this outcome: clear, watch or decided"}, {"label", "with this label: human, bot, crawler or any"},
	{"since", "seen from this time, or as long ago as 24h"}, {"until", "seen up to this time"}, {"minScore", "with at least this probability, 0 to 1"},
}

func casesCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{
		Use: "cases", Short: "See clients and campaigns that were judged, with the reasons",
		Long: "See clients and campaigns that were judged, with the reasons. A case is the grouped suspicious requests of one client, or of many\nclients that share something; the escalation engine judges it in stages, and each stage says why.",
	})
	list := &cobra.Command{Use: "list", Short: "List cases, the latest seen first", Args: command.NoArgs,
		Example: "  quickthorn cases list --kind campaign --since 24h\n  quickthorn cases list --outcome decided --json"}
	values := map[string]*string{}
	for _, f := range caseFlags {
		name := f[0]
		if name == "minScore" {
			name = "min-score"
		}
		values[f[0]] = list.Flags().String(name, "", "only those "+f[1])
	}
	limit := list.Flags().Int("limit", 50, "how many, up to 1000")
	asJSON := list.Flags().Bool("json", false, "print JSON")
	list.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := env.running(cmd.Context())
		if err != nil {
			return err
		}
		q := url.Values{"limit": {fmt.Sprint(*limit)}}
		for name, v := range values {
			if *v != "" {
				q.Set(name, *v)
			}
		}
		var page casebook.Page
		if err := a.call(cmd.Context(), http.MethodGet, "/v1/cases?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(env.Stdout, page)
		}
		return writeCases(env.Stdout, page.Cases)
	}

	show := &cobra.Command{Use: "show ID", Short: "Show one case: what was seen, what each stage found, what was decided", Args: command.NeedArgs(1, 1, "the case's id")}
	showJSON := show.Flags().Bool("json", false, "print JSON")
	show.RunE = func(cmd *cobra.Command, args []string) error {
		return env.oneCase(cmd.Context(), http.MethodGet, "/v1/cases/"+url.PathEscape(args[0]), *showJSON)
	}
	judge := &cobra.Command{Use: "judge ID", Short: "Have one case judged again, and carry out what comes of it", Args: command.NeedArgs(1, 1, "the case's id")}
	judgeJSON := judge.Flags().Bool("json", false, "print JSON")
	judge.RunE = func(cmd *cobra.Command, args []string) error {
		return env.oneCase(cmd.Context(), http.MethodPost, "/v1/cases/"+url.PathEscape(args[0])+"/judge", *judgeJSON)
	}
	label := &cobra.Command{
		Use: "label ID human|bot|crawler|none", Short: "Say what a case truly was: the truth that models are trained on", Args: command.NeedArgs(2, 2, "the case's id and a label"),
		ValidArgs: []string{"human", "bot", "crawler", "none"},
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := env.running(cmd.Context())
			if err != nil {
				return err
			}
			l := defense.CaseLabel(args[1])
			if l == "none" {
				l = defense.LabelNone
			}
			var out intake.Label
			if err := a.call(cmd.Context(), http.MethodPut, "/v1/cases/"+url.PathEscape(args[0])+"/label", intake.Label{Label: l}, &out); err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Stdout, "case %s: label %s\n", args[0], args[1])
			return err
		},
	}
	root.AddCommand(list, show, judge, label)
	return root
}

func (env *environment) oneCase(ctx context.Context, method, path string, asJSON bool) error {
	a, err := env.running(ctx)
	if err != nil {
		return err
	}
	var c defense.Case
	if err := a.call(ctx, method, path, nil, &c); err != nil {
		return err
	}
	if asJSON {
		return writeJSON(env.Stdout, &c)
	}
	return writeCase(env.Stdout, &c)
}

func writeCases(w io.Writer, cases []defense.Case) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tLAST SEEN\tKIND\tABOUT\tREQUESTS\tCLIENTS\tSCORE\tOUTCOME\tLABEL")
	for i := range cases {
		c := &cases[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%.2f\t%s\t%s\n", c.ID, c.LastSeen.Local().Format("2006-01-02 15:04:05"), c.Kind, shown(c.Key, 60),
			c.EventCount, max(1, c.Members.Count), c.Score, c.Outcome, c.Label)
	}
	return t.Flush()
}

func writeCase(w io.Writer, c *defense.Case) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			fmt.Fprintf(&b, "%-11s %s\n", name, text)
		}
	}
	line("case", "%s, revision %d", c.ID, c.Revision)
	line("about", "%s %s", c.Kind, shown(c.Key, 100))
	line("site", "%s", shown(c.Site, 100))
	line("seen", "%s to %s, %d requests", c.FirstSeen.Local().Format(time.DateTime), c.LastSeen.Local().Format(time.DateTime), c.EventCount)
	if c.Kind == defense.CaseCampaign {
		line("clients", "about %d; %d that share this behave like readers", c.Members.Count, c.Readers)
		line("such as", "%s", shown(strings.Join(c.Members.Sample[:min(len(c.Members.Sample), 5)], ", "), 300))
	}
	if c.Identity.Crawler != "" {
		line("crawler", "%s, %s", shown(c.Identity.Crawler, 100), c.Identity.Status)
	}
	for i, a := range c.Agents[:min(len(c.Agents), 3)] {
		line([]string{"agents", "", ""}[i], "%s", shown(a, 150))
	}
	for i, p := range c.Paths[:min(len(c.Paths), 5)] {
		line([]string{"paths", "", "", "", ""}[i], "%s", shown(p, 150))
	}
	line("outcome", "%s, probability %.2f of unwanted automation", c.Outcome, c.Score)
	line("label", "%s", c.Label)
	if len(c.DecisionIDs) > 0 {
		line("decisions", "%s", strings.Join(c.DecisionIDs[:min(len(c.DecisionIDs), 10)], " "))
	}
	for i := range c.Stages {
		s := &c.Stages[i]
		if s.Problem != "" {
			fmt.Fprintf(&b, "\n%s: %s\n", s.Name, shown(s.Problem, 500))
			continue
		}
		fmt.Fprintf(&b, "\n%s: %.2f, weight %.2g. %s\n", s.Name, s.Score, s.Weight, shown(s.Sentence, 1000))
		for _, p := range s.Contributions {
			fmt.Fprintf(&b, "  %+.2f  %s\n", p.LogOdds, shown(p.Sentence, 300))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func deadLettersCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{
		Use: "dead-letters", Short: "See batches of events that could not be read or archived, put them back or discard them",
	})
	list := &cobra.Command{Use: "list", Short: "List batches that were put aside, the oldest first", Args: command.NoArgs}
	asJSON := list.Flags().Bool("json", false, "print JSON")
	list.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := env.running(cmd.Context())
		if err != nil {
			return err
		}
		var all []intake.DeadLetter
		for after := ""; ; {
			var page intake.DeadLetters
			if err := a.call(cmd.Context(), http.MethodGet, "/v1/dead-letters?"+url.Values{"after": {after}}.Encode(), nil, &page); err != nil {
				return err
			}
			all = append(all, page.DeadLetters...)
			if after = page.Next; after == "" {
				break
			}
		}
		if *asJSON {
			return writeJSON(env.Stdout, intake.DeadLetters{DeadLetters: all})
		}
		t := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "ID\tFROM\tACCEPTED\tEVENTS\tBYTES\tREASON")
		for i := range all {
			d := &all[i]
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\n", d.ID, shown(d.Source, 40), d.At.Local().Format(time.DateTime), d.Events, d.Bytes, shown(d.Reason, 200))
		}
		return t.Flush()
	}
	move := func(use, short, past string, call func(ctx context.Context, a *apiClient, ids []string) (int, error)) *cobra.Command {
		all := false
		c := &cobra.Command{Use: use + " [ID…]", Short: short}
		c.Flags().BoolVar(&all, "all", false, "all of them")
		c.RunE = func(cmd *cobra.Command, ids []string) error {
			if all == (len(ids) > 0) {
				return command.Usagef("dead-letters %s: name ids, or --all", use)
			}
			a, err := env.running(cmd.Context())
			if err != nil {
				return err
			}
			n, err := call(cmd.Context(), a, ids)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Stdout, "%s: %d\n", past, n)
			return err
		}
		return c
	}
	root.AddCommand(list,
		move("replay", "Put batches back into the queue", "put back", func(ctx context.Context, a *apiClient, ids []string) (int, error) {
			var out intake.Moved
			err := a.call(ctx, http.MethodPost, "/v1/dead-letters/replay", map[string]any{"ids": ids}, &out)
			return out.Replayed, err
		}),
		move("discard", "Remove batches for good", "discarded", func(ctx context.Context, a *apiClient, ids []string) (int, error) {
			q := url.Values{"all": {"true"}}
			if len(ids) > 0 {
				q = url.Values{"ids": {strings.Join(ids, ",")}}
			}
			var out intake.Moved
			err := a.call(ctx, http.MethodDelete, "/v1/dead-letters?"+q.Encode(), nil, &out)
			return out.Discarded, err
		}))
	return root
}
