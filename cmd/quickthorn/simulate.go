package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/run"
	"github.com/quickthorn/quickthorn/internal/simulate"
)

func simulateCommand(env *environment) *cobra.Command {
	var (
		live        simulate.LiveOptions
		policyName  string
		mode        = "enforce"
		seed        uint64
		scale       float64
		asJSON      bool
		markdown    bool
		why         bool
		noSlow      bool
		pages, deep []string
	)
	c := &cobra.Command{
		Use: "simulate [SCENARIO…]", Short: "Play readers, crawlers and campaigns, and see whom your policy catches, misses and harms",
		Long: `Play readers, crawlers and campaigns, and see whom your policy catches, misses and harms.

Without --edge the scenario is played in virtual time against an edge, intake and escalation engine within this command, by your
configuration, in front of a made-up site with the capacity of a small server: minutes take seconds, nothing leaves the machine, and
the same --seed gives the same result. With --edge it is played over HTTP in real time against a running edge of your own, which must trust this
machine as a proxy (edge.trustedProxies), since every simulated client has its own address in X-Forwarded-For.

Scenarios:
` + scenarioList(),
		Example: `  quickthorn simulate campaign
  quickthorn simulate --policy my-policy.yaml mixed flash-crowd
  quickthorn simulate --edge http://127.0.0.1:8080 --scale 0.1 --duration 3m campaign`,
	}
	f := c.Flags()
	f.StringVar(&policyName, "policy", "", "a preset's name or a policy `file` (default: the configured one)")
	f.StringVar(&mode, "mode", mode, "the `mode` that is tried")
	f.Uint64Var(&seed, "seed", 1, "what is left to chance")
	f.Float64Var(&scale, "scale", 1, "multiplies the number of clients, up to 20")
	f.BoolVar(&noSlow, "edge-only", false, "without intake and escalation engine")
	f.BoolVar(&why, "why", false, "show the cases with their reasons, too")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&markdown, "markdown", false, "print Markdown")
	f.StringVar(&live.URL, "edge", "", "play in real time against the edge at this `address`")
	f.BoolVar(&live.AllowRemote, "allow-remote", false, "allow an edge that is not on this machine: your own, and no other")
	f.DurationVar(&live.Duration, "duration", 10*time.Minute, "longest time, with --edge")
	f.IntVar(&live.MaxRequests, "max-requests", 100_000, "most requests, with --edge")
	f.IntVar(&live.MaxConcurrency, "concurrency", 64, "most requests at once, with --edge")
	f.StringArrayVar(&pages, "page", nil, "a `target` (/path?query) of your site that readers begin with, with --edge; may be repeated")
	f.StringArrayVar(&deep, "deep", nil, "a `target` of your site that campaigns ask for, with --edge; may be repeated")
	c.RunE = func(cmd *cobra.Command, names []string) error {
		m, err := defense.ParseMode(mode)
		if err != nil {
			return command.Usagef("simulate: --mode: %v", err)
		}
		if len(names) == 0 {
			names = []string{"mixed"}
		}
		var scenarios []simulate.Scenario
		for _, name := range names {
			s, err := simulate.Find(name)
			if err != nil {
				return command.Usagef("simulate: %v", err)
			}
			scenarios = append(scenarios, s)
		}
		if live.URL == "" && (len(pages) > 0 || len(deep) > 0) {
			return command.Usagef("simulate: --page and --deep are of a site of yours: give its edge with --edge")
		}
		var sets []string
		if policyName != "" {
			sets = append(sets, "policy.source="+policyName)
		}
		if noSlow {
			sets = append(sets, "slowPath.enabled=false")
		}
		env.Sets = append(env.Sets, sets...)
		cfg, err := env.Load()
		if err != nil {
			return err
		}
		var results []*simulate.Result
		var rehearsed []*run.Rehearsed
		for _, s := range scenarios {
			if live.URL != "" {
				actors, err := s.Build(simulate.Options{Seed: seed, Scale: scale, Pages: pages, Deep: deep})
				if err != nil {
					return err
				}
				o := live
				o.Scenario, o.Seed = s.Name, seed
				r, err := simulate.Live(cmd.Context(), o, actors)
				if err != nil {
					return err
				}
				results = append(results, r)
				continue
			}
			r, err := (&run.Rehearsal{Config: cfg, Mode: m, Scenario: s, Seed: seed, Scale: scale}).Run(cmd.Context())
			if err != nil {
				return fmt.Errorf("scenario %s: %w", s.Name, err)
			}
			results, rehearsed = append(results, r.Result), append(rehearsed, r)
		}
		switch {
		case asJSON && live.URL == "":
			return writeJSON(env.Stdout, rehearsed)
		case asJSON:
			return simulate.WriteJSON(env.Stdout, results...)
		}
		format := simulate.Text
		if markdown {
			format = simulate.Markdown
		}
		if err := simulate.WriteTable(env.Stdout, format, results...); err != nil {
			return err
		}
		if why {
			for _, r := range rehearsed {
				if err := env.showWhy(r); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return c
}

func scenarioList() string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range simulate.Scenarios() {
		fmt.Fprintf(t, "  %s\t%s\n", s.Name, s.Doc)
	}
	t.Flush()
	return strings.TrimRight(b.String(), "\n")
}

// showWhy prints what the slow path did, with its reasons.
func (env *environment) showWhy(r *run.Rehearsed) error {
	fmt.Fprintf(env.Stdout, "\n%s: posture", r.Result.Scenario)
	for _, p := range r.Postures {
		fmt.Fprintf(env.Stdout, " %s from %.0f s", p.Posture, p.Second)
	}
	clients := 0
	for i := range r.Decisions {
		if p, err := netip.ParsePrefix(r.Decisions[i].Value); r.Decisions[i].Scope == defense.ScopeAddress || err == nil && p.Bits() >= 64 {
			clients++
		}
	}
	fmt.Fprintf(env.Stdout, "; %d cases; decisions at the end: %d on clients, %d on what many share\n", len(r.Cases), clients, len(r.Decisions)-clients)
	shownCases := slices.DeleteFunc(slices.Clone(r.Cases), func(c defense.Case) bool { return c.Outcome != defense.OutcomeDecided })
	for i := range shownCases[:min(5, len(shownCases))] {
		fmt.Fprintln(env.Stdout)
		if err := writeCase(env.Stdout, &shownCases[i]); err != nil {
			return err
		}
	}
	return nil
}
