package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/answer"
	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/keyfile"
	"github.com/quickthorn/quickthorn/internal/knowledge"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/proxy"
)

func checkCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "check [policy.yaml…]",
		Short: "Check policies, or the configuration and its policy",
		Long: `Check policies (files or presets). Without an argument the configuration is checked, the policy that
it names, and that the certificate and key files that it names can be used.

What is wrong is said with file and line and, where it can be guessed, with what was meant. The exit
status is 0 when quickthorn would start with it.`,
		Example: `  quickthorn check my-policy.yaml
  quickthorn check --config /etc/quickthorn/quickthorn.yaml`,
		ValidArgsFunction: completePolicies,
		RunE: func(_ *cobra.Command, args []string) error {
			_, options, err := knowledge.Judges()
			if err != nil {
				return err
			}
			failed := false
			if len(args) == 0 {
				cfg, err := env.Load()
				if err != nil {
					fmt.Fprintln(env.Stderr, err)
					return command.ErrReported
				}
				failed = !env.checkFiles(cfg)
				args = []string{cfg.Policy.Source}
			}
			for _, ref := range args {
				p, err := policy.Load(ref, options)
				if err != nil {
					fmt.Fprintln(env.Stderr, err)
					failed = true
					continue
				}
				for _, w := range p.Warnings() {
					fmt.Fprintln(env.Stderr, "warning:", w)
				}
				fmt.Fprintf(env.Stdout, "%s: ok, %d rules and thresholds\n", ref, len(p.Rules()))
			}
			if failed {
				return command.ErrReported
			}
			return nil
		},
	}
}

// checkFiles checks what the configuration alone does not show: that the files it names are of use.
func (env *environment) checkFiles(cfg *config.Config) (ok bool) {
	var problems []string
	bad := func(path string, err error) {
		place := path
		if o := cfg.Origin(path); o.Kind != config.FromDefault {
			place = o.String() + ": " + path
		}
		problems = append(problems, fmt.Sprintf("%s: %v", place, err))
	}
	if t := cfg.Edge.TLS; t.Listen != "" {
		if _, err := tls.LoadX509KeyPair(t.CertificateFile, t.KeyFile); err != nil {
			bad("edge.tls.certificateFile", err)
		}
	}
	if name := cfg.Challenge.KeyFile; name != "" {
		_, found, err := keyfile.Existing(name)
		if err == nil && !found { // it is made at the start, if its directory is there
			_, err = os.Stat(filepath.Dir(name))
		}
		if err != nil {
			bad("challenge.keyFile", err)
		}
	}
	if _, err := answer.Open(cfg.Challenge.Pages); err != nil {
		bad("challenge.pages", err)
	}
	if _, _, err := proxy.NewGate(cfg, &clearance.Signer{}, nil); err != nil {
		bad("challenge", err)
	}
	for _, p := range problems {
		fmt.Fprintln(env.Stderr, p)
	}
	if len(problems) > 0 {
		return false
	}
	if err := cfg.RequireUpstream(); err != nil {
		fmt.Fprintln(env.Stderr, "warning:", err)
	}
	name := cfg.File()
	if name == "" {
		name = "configuration (defaults, environment and flags; no file)"
	}
	fmt.Fprintf(env.Stdout, "%s: ok\n", name)
	return true
}

// completePresets completes the names of presets.
func completePresets(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, p := range policy.Presets() {
		names = append(names, p.Name+"\t"+p.Description)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completePolicies completes presets and YAML files.
func completePolicies(c *cobra.Command, args []string, to string) ([]string, cobra.ShellCompDirective) {
	names, _ := completePresets(c, args, to)
	return names, cobra.ShellCompDirectiveDefault
}

func policyCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{Use: "policy", Short: "Show presets, rules and the words that conditions may use"})
	list := &cobra.Command{
		Use: "list", Short: "List the presets", Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			tw := tabwriter.NewWriter(env.Stdout, 0, 4, 2, ' ', 0)
			for _, p := range policy.Presets() {
				fmt.Fprintf(tw, "%s\t%s\n", p.Name, p.Description)
			}
			return tw.Flush()
		},
	}
	show := &cobra.Command{
		Use: "show PRESET", Short: "Print a preset's source, comments included", Args: command.NeedArgs(1, 1, "a preset: policy list shows them"), ValidArgsFunction: completePresets,
		RunE: func(_ *cobra.Command, args []string) error {
			src, err := policy.PresetSource(args[0])
			if err != nil {
				return err
			}
			_, err = env.Stdout.Write(src)
			return err
		},
	}
	var asJSON bool
	rules := &cobra.Command{
		Use: "rules [policy.yaml|PRESET]", Short: "List the rules in the order in which they run",
		Long: "List the rules and thresholds in the order in which they run: the general ones, then those of each host's section,\nwhich for that host come before the general ones. Without an argument the configured policy is listed.",
		Args: command.NeedArgs(0, 1, "one preset or policy file"),
		RunE: func(_ *cobra.Command, args []string) error {
			_, options, err := knowledge.Judges()
			if err != nil {
				return err
			}
			var ref string
			if len(args) == 1 {
				ref = args[0]
			} else {
				cfg, err := env.Load()
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
				return writeJSON(env.Stdout, p.Rules())
			}
			tw := tabwriter.NewWriter(env.Stdout, 0, 4, 2, ' ', 0)
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
		Use: "words", Short: "List the variables and functions of conditions", Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			tw := tabwriter.NewWriter(env.Stdout, 0, 4, 2, ' ', 0)
			for _, v := range policy.Variables() {
				fmt.Fprintf(tw, "%s\t%s\t%s\n", v.Name, v.Type, v.Doc)
			}
			for _, f := range policy.Functions() {
				fmt.Fprintf(tw, "%s\tfunction\t%s\n", f.Usage, f.Doc)
			}
			return tw.Flush()
		},
	}
	root.AddCommand(list, show, rules, words)
	return root
}
