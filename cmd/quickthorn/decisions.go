package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
)

// decisionLog is what the commands need of decisions: the running install's, or the
// data directory's when nothing runs.
type decisionLog interface {
	Add(ctx context.Context, ds []defense.Decision, o decision.AddOptions) ([]defense.Decision, error)
	List(ctx context.Context, f decision.Filter, limit int) ([]defense.Decision, error)
	Delete(ctx context.Context, id string) error
	DeleteWhere(ctx context.Context, f decision.Filter) (int, error)
	Import(ctx context.Context, r io.Reader, o decision.ImportOptions) (decision.Imported, error)
	Export(ctx context.Context, w io.Writer) error
	Close() error
}

// remoteDecisions are those of the running install.
type remoteDecisions struct{ *decision.Client }

func (r remoteDecisions) List(ctx context.Context, f decision.Filter, limit int) ([]defense.Decision, error) {
	l, err := r.Client.List(ctx, f, limit)
	return l.Decisions, err
}

func (r remoteDecisions) Close() error { return nil }

// localDecisions are those of a data directory that is not in use.
type localDecisions struct {
	*decision.Log
	db *embedded.DB
}

func (l localDecisions) List(_ context.Context, f decision.Filter, limit int) ([]defense.Decision, error) {
	return l.Set().List(f, time.Now(), limit), nil
}

func (l localDecisions) Delete(ctx context.Context, id string) error {
	n, err := l.Log.Delete(ctx, id)
	if err == nil && n == 0 {
		err = fmt.Errorf("no decision has the id %q", id)
	}
	return err
}

func (l localDecisions) Close() error { return l.db.Close() }

// openDecisions opens the decisions; close them when done.
func (env *environment) openDecisions(ctx context.Context) (decisionLog, error) {
	cfg, a, err := env.connect(ctx)
	if err != nil {
		return nil, err
	}
	if a != nil {
		return remoteDecisions{a.decisions()}, nil
	}
	db, local, err := env.offline(ctx, cfg)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(env.Stderr, "quickthorn: nothing runs; working on %s\n", cfg.Data.Directory)
	return localDecisions{local, db}, nil
}

func decisionsCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{
		Use: "decisions", Short: "Ban, slow, challenge or allow addresses, ranges and agents",
		Long: "Ban, slow, challenge or allow addresses, ranges and agents. Decisions come before every rule of the policy;\nan allow of yours beats every ban. They take effect at once and survive restarts. When nothing runs, the data directory is worked on.",
	})
	root.AddCommand(addDecision(env), deleteDecision(env), listDecisions(env), importDecisions(env), exportDecisions(env))
	return root
}

// expiry reads "24h", "7d"; "" is never.
func expiry(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	d, err := config.ParseDuration(s)
	if err != nil || d == 0 {
		return time.Time{}, fmt.Errorf("--for: %q is not a duration such as 24h or 7d", s)
	}
	return now.Add(d), nil
}

func addDecision(env *environment) *cobra.Command {
	var action, reason, site, duration string
	var agent, force bool
	c := &cobra.Command{
		Use: "add ADDRESS|RANGE|FINGERPRINT|TOKEN|AGENT…", Short: "Decide about addresses, ranges, fingerprints, tokens' numbers or, with --agent, User-Agents", Args: command.NeedArgs(1, 0, "an address, a range or, with --agent, a word of the User-Agent"),
		Example: "  quickthorn decisions add --action deny --for 24h --reason 'scrapes the search' 203.0.113.0/24\n  quickthorn decisions add --action allow 198.51.100.7",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := defense.ParseAction(action)
			if err != nil {
				return err
			}
			now := time.Now()
			until, err := expiry(duration, now)
			if err != nil {
				return err
			}
			var ds []defense.Decision
			for _, v := range args {
				d := defense.Decision{Value: v, Action: a, Origin: "operator", Reason: reason, Site: site, Created: now, Expires: until}
				if agent {
					d.Scope = defense.ScopeAgent
				} else if _, err := defense.ParseFingerprint(v); err == nil {
					d.Scope = defense.ScopeFingerprint
				} else if _, err := defense.ParseTokenID(v); err == nil {
					d.Scope = defense.ScopeToken
				} else if _, err := defense.ParseAddressOrPrefix(v); err != nil {
					return command.Usagef("%q is neither an address, a range, a fingerprint nor a token's number; to decide about a word of the User-Agent, add --agent", v)
				}
				ds = append(ds, d)
			}
			log, err := env.openDecisions(cmd.Context())
			if err != nil {
				return err
			}
			defer log.Close()
			added, err := log.Add(cmd.Context(), ds, decision.AddOptions{Force: force})
			if err != nil {
				return err
			}
			return printDecisions(env.Stdout, added)
		},
	}
	f := c.Flags()
	f.StringVar(&action, "action", "deny", "allow, throttle, challenge, tarpit or deny")
	f.StringVar(&duration, "for", "", "how long, as in 24h or 7d (default: until deleted)")
	f.StringVar(&reason, "reason", "", "why, for the record")
	f.StringVar(&site, "site", "", "for this site only")
	f.BoolVar(&agent, "agent", false, "the arguments are words of the User-Agent")
	f.BoolVar(&force, "force", false, "also very wide ranges and agents that browsers send")
	return c
}

func filterFlags(c *cobra.Command) func() (decision.Filter, error) {
	var client, value, action, origin string
	f := c.Flags()
	f.StringVar(&client, "client", "", "decisions on this address or a range around it")
	f.StringVar(&value, "value", "", "decisions on exactly this address, range or agent")
	f.StringVar(&action, "action", "", "decisions with this action")
	f.StringVar(&origin, "origin", "", "decisions of this origin, as in operator or list:NAME")
	return func() (decision.Filter, error) {
		out := decision.Filter{Value: value, Origin: origin}
		if client != "" {
			a, err := netip.ParseAddr(client)
			if err != nil {
				return out, fmt.Errorf("--client: %q is not an IP address", client)
			}
			out.Client = a.Unmap()
		}
		if action != "" {
			a, err := defense.ParseAction(action)
			if err != nil {
				return out, err
			}
			out.Action = &a
		}
		return out, nil
	}
}

func deleteDecision(env *environment) *cobra.Command {
	c := &cobra.Command{Use: "delete [ID…]", Short: "Delete decisions by id, or those that fit the flags"}
	filter := filterFlags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := filter()
		if err != nil {
			return err
		}
		if len(args) > 0 == !f.IsZero() {
			return command.Usagef("decisions delete: name either ids, or one of --client, --value, --action, --origin")
		}
		log, err := env.openDecisions(cmd.Context())
		if err != nil {
			return err
		}
		defer log.Close()
		n := len(args)
		for _, id := range args {
			if err := log.Delete(cmd.Context(), id); err != nil {
				return err
			}
		}
		if n == 0 {
			if n, err = log.DeleteWhere(cmd.Context(), f); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(env.Stdout, "%d deleted\n", n)
		return err
	}
	return c
}

func listDecisions(env *environment) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List decisions in force, the latest first", Args: command.NoArgs}
	filter := filterFlags(c)
	limit := c.Flags().Int("limit", 100, "how many")
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := filter()
		if err != nil {
			return err
		}
		log, err := env.openDecisions(cmd.Context())
		if err != nil {
			return err
		}
		defer log.Close()
		ds, err := log.List(cmd.Context(), f, *limit)
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(env.Stdout, ds)
		}
		return printDecisions(env.Stdout, ds)
	}
	return c
}

func printDecisions(w io.Writer, ds []defense.Decision) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, d := range ds {
		until := "until deleted"
		if !d.Expires.IsZero() {
			until = "until " + d.Expires.Local().Format("2006-01-02 15:04:05")
		}
		value := shown(d.Value, 80)
		if d.Scope == defense.ScopeAgent {
			value = "agent " + value
		}
		if d.Site != "" {
			value += " on " + shown(d.Site, 40)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", d.ID, d.Action, value, shown(d.Origin, 40), until, shown(d.Reason, 120))
	}
	return tw.Flush()
}

func importDecisions(env *environment) *cobra.Command {
	var o decision.ImportOptions
	var format, action, duration, name string
	c := &cobra.Command{
		Use: "import FILE|-", Short: "Import a list of addresses and ranges, CSV, or decisions as JSON", Args: command.NeedArgs(1, 1, "the file to read, or - for standard input"),
		Long: "Import a list of addresses and ranges, CSV, or decisions as JSON. Lines that are wrong are passed over and reported.\nWhat comes from a list (--list NAME) is challenged unless --action says otherwise.",
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Format, err = decision.ParseFormat(format); err != nil {
				return err
			}
			if name != "" {
				o.Origin = "list:" + name
			}
			if action != "" {
				a, err := defense.ParseAction(action)
				if err != nil {
					return err
				}
				o.Action = &a
			}
			if o.Expires, err = expiry(duration, time.Now()); err != nil {
				return err
			}
			in := env.Stdin
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			log, err := env.openDecisions(cmd.Context())
			if err != nil {
				return err
			}
			defer log.Close()
			n, err := log.Import(cmd.Context(), in, o)
			fmt.Fprintf(env.Stdout, "%d lines: %d added, %d updated, %d unchanged, %d already over, %d rejected\n", n.Lines, n.Added, n.Updated, n.Unchanged, n.Expired, n.Rejected)
			for _, p := range n.Problems {
				fmt.Fprintln(env.Stderr, p)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&format, "format", "", "list, csv, ndjson or json (default: found out)")
	f.StringVar(&name, "list", "", "name of the list: its decisions get the origin list:NAME")
	f.StringVar(&action, "action", "", "action of lines that name none")
	f.StringVar(&o.Reason, "reason", "", "reason of lines that name none")
	f.StringVar(&o.Site, "site", "", "for this site only")
	f.StringVar(&duration, "for", "", "how long, for lines that do not say")
	f.BoolVar(&o.Force, "force", false, "also very wide ranges")
	return c
}

func exportDecisions(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: "export", Short: "Write all decisions in force as NDJSON", Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := env.openDecisions(cmd.Context())
			if err != nil {
				return err
			}
			defer log.Close()
			return log.Export(cmd.Context(), env.Stdout)
		},
	}
}
