package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/run"
)

func checkCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "check [policy.yaml…]",
		Short: "Check policies, or the configuration and its policy",
		Long:  "Check policies (files or presets). Without an argument the configuration is checked, and the policy that it names.",
		RunE: func(_ *cobra.Command, args []string) error {
			_, options, err := run.Judges()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				cfg, err := env.load()
				if err != nil {
					fmt.Fprintln(env.stderr, err)
					return errReported
				}
				fmt.Fprintln(env.stdout, "configuration: ok")
				args = []string{cfg.Policy.Source}
			}
			failed := false
			for _, ref := range args {
				p, err := policy.Load(ref, options)
				if err != nil {
					fmt.Fprintln(env.stderr, err)
					failed = true
					continue
				}
				for _, w := range p.Warnings() {
					fmt.Fprintln(env.stderr, "warning:", w)
				}
				fmt.Fprintf(env.stdout, "%s: ok, %d rules and thresholds\n", ref, len(p.Rules()))
			}
			if failed {
				return errReported
			}
			return nil
		},
	}
}

func policyCommand(env *environment) *cobra.Command {
	root := &cobra.Command{Use: "policy", Short: "Show presets, rules and the words that conditions may use", Args: cobra.NoArgs}
	list := &cobra.Command{
		Use: "list", Short: "List the presets", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			tw := tabwriter.NewWriter(env.stdout, 0, 4, 2, ' ', 0)
			for _, p := range policy.Presets() {
				fmt.Fprintf(tw, "%s\t%s\n", p.Name, p.Description)
			}
			return tw.Flush()
		},
	}
	show := &cobra.Command{
		Use: "show PRESET", Short: "Print a preset's source, comments included", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			src, err := policy.PresetSource(args[0])
			if err != nil {
				return err
			}
			_, err = env.stdout.Write(src)
			return err
		},
	}
	var asJSON bool
	rules := &cobra.Command{
		Use: "rules [policy.yaml|PRESET]", Short: "List the rules in the order in which they run", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			_, options, err := run.Judges()
			if err != nil {
				return err
			}
			var ref string
			if len(args) == 1 {
				ref = args[0]
			} else {
				cfg, err := env.load()
				if err != nil {
					return err
				}
				ref = cfg.Policy.Source
			}
			p, err := policy.Load(ref, options)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(env.stdout)
				e.SetIndent("", "  ")
				return e.Encode(p.Rules())
			}
			tw := tabwriter.NewWriter(env.stdout, 0, 4, 2, ' ', 0)
			for _, r := range p.Rules() {
				var more []string
				if r.Host != "" {
					more = append(more, "host "+r.Host)
				}
				if r.Posture != "calm" {
					more = append(more, "from "+r.Posture)
				}
				if r.Mode != "enforce" {
					more = append(more, r.Mode)
				}
				fmt.Fprintf(tw, "%s\t%s\t%s\t%s:%d\n", r.Name, r.Effect, strings.Join(more, ", "), r.File, r.Line)
			}
			return tw.Flush()
		},
	}
	rules.Flags().BoolVar(&asJSON, "json", false, "print JSON, with conditions and reasons")
	words := &cobra.Command{
		Use: "words", Short: "List the variables and functions of conditions", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			tw := tabwriter.NewWriter(env.stdout, 0, 4, 2, ' ', 0)
			for _, v := range policy.Variables() {
				fmt.Fprintf(tw, "%s\t%s\t%s\n", v.Name, v.Type, v.Doc)
			}
			for _, f := range policy.Functions() {
				fmt.Fprintf(tw, "%s\tfunction\t%s\n", f.Usage, f.Doc)
			}
			return errors.Join(tw.Flush())
		},
	}
	root.AddCommand(list, show, rules, words)
	return root
}
