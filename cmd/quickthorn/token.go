package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/atomicfile"
	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/keyfile"
	"github.com/quickthorn/quickthorn/internal/proxy"
)

func tokenCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{
		Use: "token", Short: "Give programs that you know a token in place of challenges",
		Long: "Give programs that you know a token in place of challenges: API clients, bots that have your consent.\nThey send it as the header " + clearance.Header + ". A request with a good token is not challenged, and its own budget counts\nin place of those per client; what a rule denies stays denied (a rule can look at clearance.name).",
	})
	root.AddCommand(issueToken(env), showToken(env), revokeToken(env), rotateKeys(env))
	return root
}

// signer reads the keys of an install that has run: none are made here.
func (env *environment) signer() (*config.Config, *clearance.Signer, error) {
	cfg, err := env.Load()
	if err != nil {
		return nil, nil, err
	}
	path := proxy.ClearanceKeyFile(cfg)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no key %s: quickthorn makes it at its first start", path)
	}
	s, err := proxy.OpenSigner(cfg)
	return cfg, s, err
}

// parseBudget reads "600/min", "100000/day" or both with a comma. What is left out follows from the other: a day has 1440 minutes.
func parseBudget(text string) (b clearance.Budget, err error) {
	bad := command.Usagef("--budget: %q is not of the form 600/min, 100000/day or 600/min,100000/day", text)
	for part := range strings.SplitSeq(text, ",") {
		number, span, _ := strings.Cut(strings.TrimSpace(part), "/")
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil || n == 0 {
			return b, bad
		}
		switch span {
		case "min", "minute":
			b.Minute = uint32(n)
		case "day":
			b.Day = uint32(n)
		default:
			return b, bad
		}
	}
	if b.Day == 0 {
		b.Day = uint32(min(uint64(b.Minute)*1440, 1<<31))
	}
	if b.Minute == 0 {
		b.Minute = b.Day
	}
	return b, nil
}

func issueToken(env *environment) *cobra.Command {
	var name, allowance, duration string
	c := &cobra.Command{
		Use: "issue --name NAME", Short: "Write a new token", Args: command.NoArgs,
		Long:    "Write a new token on standard output, and what it is good for on standard error. It is shown once and kept nowhere:\nnote its number, by which it can be revoked.",
		Example: "  quickthorn token issue --name partner-search --budget 600/min,100000/day --for 90d",
		RunE: func(*cobra.Command, []string) error {
			b, err := parseBudget(allowance)
			if err != nil {
				return err
			}
			now := time.Now()
			until, err := expiry(duration, now)
			if err != nil {
				return err
			}
			_, s, err := env.signer()
			if err != nil {
				return err
			}
			i := &clearance.Issued{ID: clearance.RandomID(), Name: name, Issued: now, Expires: until, Budget: b}
			text, err := s.IssueLong(i)
			if err != nil {
				return err
			}
			fmt.Fprintf(env.Stderr, "%s\n%s: ", describeToken(i), clearance.Header)
			_, err = fmt.Fprintln(env.Stdout, text)
			return err
		},
	}
	c.Flags().StringVar(&name, "name", "", "who has it: lower-case letters, digits and hyphens")
	c.Flags().StringVar(&allowance, "budget", "60/min", "requests: 600/min, 100000/day, or both with a comma")
	c.Flags().StringVar(&duration, "for", "365d", "how long it is good for, at most 10 years")
	return c
}

func describeToken(i *clearance.Issued) string {
	return fmt.Sprintf("token %s of %s: %d requests a minute, %d a day, until %s", defense.TokenID(i.ID), i.Name, i.Budget.Minute, i.Budget.Day, i.Expires.UTC().Format("2006-01-02 15:04:05"))
}

func showToken(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: "show TOKEN", Short: "Say what a token is good for, and whether it is good now", Args: command.NeedArgs(1, 1, "a token as token issue wrote it"),
		RunE: func(_ *cobra.Command, args []string) error {
			_, s, err := env.signer()
			if err != nil {
				return err
			}
			i, ok := s.ReadLong(args[0])
			switch {
			case !ok:
				return errors.New("this is no token of this install, or its key has been replaced")
			case !i.Good(time.Now()):
				return fmt.Errorf("it is not good now: %s", describeToken(&i))
			}
			_, err = fmt.Fprintln(env.Stdout, describeToken(&i))
			return err
		},
	}
}

func revokeToken(env *environment) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "revoke NUMBER|TOKEN", Short: "Refuse a token from now on, at every edge", Args: command.NeedArgs(1, 1, "a token's number, or the token itself"),
		Long: "Refuse a token from now on, at every edge: a decision to deny it, which decisions list shows and decisions delete takes back.",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := defense.ParseTokenID(args[0])
			d := defense.Decision{Scope: defense.ScopeToken, Action: defense.Deny, Origin: "operator", Reason: reason, Created: time.Now()}
			if err != nil {
				_, s, err := env.signer()
				if err != nil {
					return err
				}
				i, ok := s.ReadLong(args[0])
				if !ok {
					return command.Usagef("%q is neither a token's number of 16 hexadecimal digits nor a token of this install", args[0])
				}
				id, d.Expires = defense.TokenID(i.ID), i.Expires
			}
			d.Value = id.String()
			log, err := env.openDecisions(cmd.Context())
			if err != nil {
				return err
			}
			defer log.Close()
			added, err := log.Add(cmd.Context(), []defense.Decision{d}, decision.AddOptions{})
			if err != nil {
				return err
			}
			return printDecisions(env.Stdout, added)
		},
	}
	c.Flags().StringVar(&reason, "reason", "revoked", "why, for the record")
	return c
}

func rotateKeys(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: "rotate-key", Short: "Sign clearances and tokens with a new key, and accept those of the old one until the next time", Args: command.NoArgs,
		Long: `Sign clearances and tokens with a new key, and accept those of the old one until the next time.

The key that was stays in the file with .previous, and a key that lies ready in the file with .next becomes the new one. A running edge
sees it within ten seconds. Several edges share one key: lay the new one beside the old one as .next at all of them first, and
rotate when all have seen it.`,
		RunE: func(*cobra.Command, []string) error {
			cfg, _, err := env.signer()
			if err != nil {
				return err
			}
			path := proxy.ClearanceKeyFile(cfg)
			old, _, err := keyfile.Existing(path)
			if err != nil {
				return err
			}
			next, ready, err := keyfile.Existing(path + clearance.NextSuffix)
			if err != nil {
				return err
			}
			if !ready {
				next = keyfile.Random()
			}
			for _, f := range []struct {
				path string
				key  []byte
			}{{path + clearance.PreviousSuffix, old}, {path, next}} { // in this order: at no time is the old key nowhere
				if err := atomicfile.Replace(f.path, func(w io.Writer) error { _, err := w.Write(f.key); return err }); err != nil {
					return err
				}
			}
			if ready {
				if err := os.Remove(path + clearance.NextSuffix); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(env.Stdout, "%s signs from now on; what the key before it signed is good until the next rotation\n", path)
			return err
		},
	}
}
