package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/gateway"
	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/router"
	"github.com/quickthorn/quickthorn/internal/llm/serve"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/llm/tokens"
)

func llmCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{
		Use: "llm", Short: "Look after the gateways of language models: keys, routes, prices, spending",
		Long: "Look after the gateways of language models, prompt-router and cloud-proxy: keys for programs that use them, the route that a call\ntakes, what models cost and what callers have spent.",
	})
	root.AddCommand(llmKey(env), llmRoute(env), llmPrices(env), llmSpending(env))
	return root
}

func llmKey(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: "key NAME", Short: "Make a key for a program that uses language models", Args: cobra.ExactArgs(1),
		Long:    "Make a key for a program that uses language models: the key on standard output, which is shown once and kept nowhere, and its entry for\nthe configuration on standard error. Bounds belong into that entry: models, requestsPerMinute, tokensPerDay, dollarsPerDay.",
		Example: "  quickthorn llm key blog-search",
		RunE: func(_ *cobra.Command, args []string) error {
			key := "qt-" + rand.Text()
			sum := sha256.Sum256([]byte(key))
			entry := fmt.Sprintf("gateway:\n  keys:\n    - name: %s\n      hash: %s%s\n", args[0], config.HashPrefix, hex.EncodeToString(sum[:]))
			if _, err := config.Load(config.LoadOptions{File: "entry", Required: true, ReadFile: func(string) ([]byte, error) { return []byte(entry), nil }}); err != nil {
				return command.Usagef("%q: use at most 56 letters, digits, - and _, and none of prompt-router, escalation-engine and operator", args[0])
			}
			_, err := fmt.Fprintln(env.Stdout, key)
			return errors.Join(err, func() error { _, err := fmt.Fprint(env.Stderr, entry); return err }())
		},
	}
}

func llmRoute(env *environment) *cobra.Command {
	var caller, model string
	var local bool
	c := &cobra.Command{
		Use: "route [FILE]", Short: "Tell where prompt-router would send a call, and why", Args: cobra.MaximumNArgs(1),
		Long: "Tell where prompt-router would send a call, and why, by the configuration alone: no server is asked, and all count as there. FILE is a call in\nJSON as POST /v1/chat/completions takes it, - is the standard input; without one it is a short question to --model.",
		Example: `  quickthorn llm route call.json
  quickthorn llm route --model auto --local-only`,
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := env.Load()
			if err != nil {
				return err
			}
			r, err := readCall(env, args, model)
			if err != nil {
				return err
			}
			routes, err := router.Configured(cfg, nil, nil, slog.New(slog.DiscardHandler), &tokens.Counter{})
			if err != nil {
				return fmt.Errorf("promptRouter: %w", err)
			}
			h := http.Header{}
			if local {
				h.Set(gateway.PrivacyHeader, gateway.LocalOnly)
			}
			call := routes.Describe(caller, h, r)
			d, none := routes.Decide(call)
			var b bytes.Buffer
			fmt.Fprintf(&b, "model: %s\n", shown(call.Model, 80))
			if call.Tokens > 0 {
				fmt.Fprintf(&b, "tokens: %d\n", call.Tokens)
			}
			if none == nil {
				fmt.Fprintf(&b, "route: %s\n", d.Route.Name)
				for i, to := range d.Route.Candidates {
					label := "goes to"
					if i > 0 {
						label = "  then"
					}
					fmt.Fprintf(&b, "%s: %s, as %s\n", label, to.Backend.Name(), shown(to.Model, 80))
				}
				fmt.Fprintf(&b, "why: %s\n", d.Route.Why)
			}
			for _, p := range d.Passed {
				fmt.Fprintf(&b, "passed over: %s\n", p)
			}
			if _, err := env.Stdout.Write(b.Bytes()); err != nil {
				return err
			}
			if none != nil {
				return errors.New(none.Message)
			}
			return nil
		},
	}
	c.Flags().StringVar(&caller, "caller", auth.EscalationEngine, "who calls: escalation-engine, operator or key:`NAME`")
	c.Flags().StringVar(&model, "model", "", "the `model` that the call names")
	c.Flags().BoolVar(&local, "local-only", false, "the call is to stay on your own servers")
	return c
}

// maxCall bounds a call that is read, in bytes.
const maxCall = 64 << 20

func readCall(env *environment, args []string, model string) (*chat.Request, error) {
	if len(args) == 0 {
		if model == "" {
			return nil, command.Usagef("name a file with a call, or --model")
		}
		return &chat.Request{Model: model, Messages: []chat.Message{{Role: chat.RoleUser, Content: chat.Text("Hello?")}}}, nil
	}
	in, name := env.Stdin, "standard input"
	if args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, name = f, args[0]
	}
	b, err := io.ReadAll(io.LimitReader(in, maxCall))
	if err != nil {
		return nil, err
	}
	r, err := chat.ParseRequest(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if model != "" {
		r.Model, r.Raw = model, nil
	}
	return r, nil
}

func llmPrices(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: "prices [MODEL...]", Short: "Show what models cost, and where that is known from",
		Long: "Show what models cost in US dollars for a million tokens, and where that is known from: the table that comes with the program, with\ngateway.prices above it. A model without a price cannot be used by a key with a budget in money.",
		RunE: func(_ *cobra.Command, models []string) error {
			cfg, err := env.Load()
			if err != nil {
				return err
			}
			prices, err := serve.Prices(&cfg.Gateway)
			if err != nil {
				return err
			}
			if len(models) == 0 {
				models = prices.Models()
			}
			w := tabwriter.NewWriter(env.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "MODEL\tINPUT\tCACHED\tOUTPUT\tFROM")
			var unknown []string
			for _, m := range models {
				p, ok := prices.Of(m)
				if !ok {
					unknown = append(unknown, m)
					continue
				}
				from := "gateway.prices"
				if p.Source != "" {
					from = p.Date + " " + p.Source
				}
				long := ""
				if p.Above > 0 {
					long = fmt.Sprintf(" (prompts of more than %d tokens: input × %g, output × %g)", p.Above, p.Times[0], p.Times[1])
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", shown(m, 80), p.Input, p.Cached, p.Output, from+long)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if len(unknown) > 0 {
				return fmt.Errorf("no price is known of %s: name it in gateway.prices", shown(strings.Join(unknown, ", "), 1000))
			}
			return nil
		},
	}
}

func llmSpending(env *environment) *cobra.Command {
	var date, at string
	c := &cobra.Command{
		Use: "spending", Short: "Show what the callers of a gateway have used on a day", Args: command.NoArgs,
		Long:    "Show what the callers of cloud-proxy, or of the gateway at --gateway, have used on a day by UTC: tokens and US dollars, what of them is only\nreserved for calls under way, and the budget. The gateway's key of the operator is private.key.",
		Example: "  quickthorn llm spending --day 2026-11-28\n  quickthorn llm spending --gateway http://prompt-router:8009",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := env.Load()
			if err != nil {
				return err
			}
			if date == "" {
				date = spend.DateOf(time.Now()).String()
			} else if _, err := spend.ParseDate(date); err != nil {
				return command.Usagef("--day: %v", err)
			}
			if at == "" {
				at = cfg.CloudProxy.URL
			}
			if cfg.Private.Key == "" {
				return fmt.Errorf("the gateway asks for the operator's key: set %s or private.key, here and there", config.EnvName("private.key"))
			}
			e := *env
			e.server = at
			a, err := e.serverClient(cfg, cfg.Private.Key)
			if err != nil {
				return err
			}
			var answer struct{ Spending []gateway.Spending }
			if err := a.call(cmd.Context(), http.MethodGet, "/v1/spending?day="+date, nil, &answer); err != nil {
				return err
			}
			slices.SortStableFunc(answer.Spending, func(a, b gateway.Spending) int { return strings.Compare(a.Account, b.Account) })
			w := tabwriter.NewWriter(env.Stdout, 0, 4, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintln(w, "CALLER\tCALLS\tTOKENS\tDOLLARS\tRESERVED\tDOLLARS\tBUDGET\t")
			for _, s := range answer.Spending {
				fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%d\t%s\t%s\t\n", shown(s.Account, 80), s.Sums.Used.Calls, s.Sums.Used.Tokens, cents(s.Sums.Used.Cost), s.Sums.Reserved.Tokens, cents(s.Sums.Reserved.Cost), budgetText(s.Limit))
			}
			return w.Flush()
		},
	}
	c.Flags().StringVar(&date, "day", "", "the `day`, such as 2026-11-28 (default: today)")
	c.Flags().StringVar(&at, "gateway", "", "`address` of the gateway (default: cloudProxy.url)")
	return c
}

func cents(m price.Money) string { return fmt.Sprintf("%.4f", m.Dollars()) }

func budgetText(l *gateway.DayLimit) string {
	var parts []string
	if l != nil && l.Calls > 0 {
		parts = append(parts, fmt.Sprintf("%d calls", l.Calls))
	}
	if l != nil && l.Tokens > 0 {
		parts = append(parts, fmt.Sprintf("%d tokens", l.Tokens))
	}
	if l != nil && l.Dollars > 0 {
		parts = append(parts, l.Dollars.String()+" dollars")
	}
	if parts == nil {
		return "-"
	}
	return strings.Join(parts, ", ")
}
