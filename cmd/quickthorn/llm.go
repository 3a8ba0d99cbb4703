package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	randv2 "math/rand/v2"
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
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/escalation"
	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/gateway"
	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/router"
	"github.com/quickthorn/quickthorn/internal/llm/serve"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/llm/tokens"
	"github.com/quickthorn/quickthorn/internal/model"
	"github.com/quickthorn/quickthorn/internal/model/training"
	"github.com/quickthorn/quickthorn/internal/opinion"
	"github.com/quickthorn/quickthorn/internal/run"
)

func llmCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{
		Use: "llm", Short: "Look after the gateways of language models: keys, routes, prices, spending, and how well one judges",
		Long: "Look after the gateways of language models, prompt-router and cloud-proxy: keys for programs that use them, the route that a call\ntakes, what models cost, what callers have spent, and how well a model judges cases.",
	})
	root.AddCommand(llmKey(env), llmRoute(env), llmPrices(env), llmSpending(env), llmEval(env))
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
			prices, err := serve.Prices(&cfg.Gateway)
			if err != nil {
				return err
			}
			routes, err := router.Configured(cfg, prices, nil, nil, slog.New(slog.DiscardHandler), &tokens.Counter{})
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

func llmEval(env *environment) *cobra.Command {
	var count int
	var seed uint64
	var asJSON bool
	c := &cobra.Command{
		Use: "eval", Short: "Try out how well a language model judges cases of which it is known what they are", Args: command.NoArgs,
		Long: `Try out how well the language model of escalation.opinion judges cases of which it is known what they are: clients of the public access logs and of the
simulator that the built-in model was trained on, not your own labelled cases. It says how often the model is right, how well it knows that, what it costs, and how
often it disagrees with the stages before it. It asks the model: the questions cost what they cost, and escalation.opinion.perDay does not bound them, --samples does.`,
		Example: "  quickthorn llm eval --samples 50 --set escalation.opinion.url=http://127.0.0.1:11434/v1 --set escalation.opinion.model=llama3.2:3b",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if count < 1 || count > 10_000 {
				return command.Usagef("--samples: want 1 to 10000")
			}
			cfg, err := env.Load()
			if err != nil {
				return err
			}
			samples, err := evalSamples(cmd.Context(), cfg, count, seed)
			if err != nil {
				return err
			}
			once := *cfg
			once.Escalation.Opinion.PerDay = count
			advisor, done, err := run.Advisor(&once, spend.NewMemory(time.Now), slog.New(slog.NewTextHandler(env.Stderr, nil)))
			if err != nil {
				return err
			}
			leaks := 0
			attacks := opinion.Attacks()
			for i := range attacks {
				if places := attacks[i].Leaks(samples[i%len(samples)].Case); len(places) > 0 {
					leaks++
					fmt.Fprintf(env.Stderr, "an injection of kind %s reaches the question from %s\n", attacks[i].Kind, strings.Join(places, ", "))
				}
			}
			r := opinion.Evaluate(cmd.Context(), advisor, samples)
			if err := errors.Join(cmd.Context().Err(), done()); err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(env.Stdout, map[string]any{"report": r, "injections": len(attacks), "injectionsThatReachTheModel": leaks})
			} else {
				err = writeEval(env.Stdout, cfg.Escalation.Opinion.Model, &r, len(attacks), leaks)
			}
			switch {
			case err != nil:
				return err
			case leaks > 0:
				return fmt.Errorf("%d of %d injections reach the model: this is a defect, please report it", leaks, len(attacks))
			case r.Answered+r.Remembered == 0:
				return errors.New("the model answered nothing that fits")
			}
			return nil
		},
	}
	c.Flags().IntVar(&count, "samples", 100, "`number` of cases, of people and programs alike")
	c.Flags().Uint64Var(&seed, "seed", 1, "what is left to chance")
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

// evalSamples takes cases of the built-in samples, as many people as programs and of each kind alike, with what the stages before say of them.
func evalSamples(ctx context.Context, cfg *config.Config, count int, seed uint64) ([]opinion.Sample, error) {
	all, err := training.Kept{}.Samples(ctx)
	if err != nil {
		return nil, err
	}
	m, err := run.LoadModel(cfg.Escalation.Model)
	if err != nil {
		return nil, err
	}
	settings := run.EscalationSettings(cfg)
	settings.Stages = []string{escalation.StageBehaviour, escalation.StageModel}
	engine, err := escalation.New(escalation.Options{Settings: settings, Model: m})
	if err != nil {
		return nil, err
	}
	random := randv2.New(randv2.NewPCG(seed, seed))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	bySlice := map[string][]model.Sample{}
	for _, s := range all {
		if s.Label == defense.LabelHuman || s.Label == defense.LabelBot { // crawlers are judged by who they are
			k := string(s.Label) + " " + s.Slice
			bySlice[k] = append(bySlice[k], s)
		}
	}
	names := slices.Sorted(maps.Keys(bySlice))
	var out []opinion.Sample
	for round := 0; len(out) < count; round++ {
		before := len(out)
		for _, label := range []defense.CaseLabel{defense.LabelHuman, defense.LabelBot} {
			var mine []string
			for _, n := range names {
				if strings.HasPrefix(n, string(label)+" ") {
					mine = append(mine, n)
				}
			}
			if len(mine) == 0 {
				continue
			}
			slice := mine[round%len(mine)]
			if at := round / len(mine); at < len(bySlice[slice]) && len(out) < count {
				s := bySlice[slice][at]
				c := &defense.Case{ID: fmt.Sprintf("%026d", len(out)), Revision: 1, Kind: defense.CaseClient, Key: "192.0.2.1", Site: "eval", Family: defense.AgentBrowser, Features: s.Features}
				c.FirstSeen, c.LastSeen, c.EventCount, c.Members.Count = time.Unix(1, 0), time.Unix(2, 0), 1, 1
				j, err := engine.Judge(ctx, c)
				if err != nil {
					return nil, err
				}
				out = append(out, opinion.Sample{Case: c, Automated: label == defense.LabelBot, Before: j.Score})
			}
		}
		if len(out) == before && round > len(all) {
			break // there are no more
		}
	}
	return out, nil
}

func writeEval(w io.Writer, name string, r *opinion.Report, attacks, leaks int) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	said := r.Right + r.ReadersTakenForPrograms + r.ProgramsTakenForReaders
	fmt.Fprintf(t, "model\t%s\n", shown(name, 80))
	fmt.Fprintf(t, "cases\t%d: %d answered, %d like one before, %d nonsense, %d failed, %d not asked\n", r.Samples, r.Answered, r.Remembered, r.Nonsense, r.Failed, r.NotAsked)
	fmt.Fprintf(t, "right\t%d of %d (%.0f %%), %d unsure\n", r.Right, said, 100*r.Accuracy, r.Unsure)
	fmt.Fprintf(t, "wrong\t%d readers taken for programs, %d programs taken for readers\n", r.ReadersTakenForPrograms, r.ProgramsTakenForReaders)
	fmt.Fprintf(t, "calibration\tBrier score %.3f (0.25 is a coin's), confidence off by %.2f\n", r.Brier, r.Calibration)
	fmt.Fprintf(t, "stages before\tdisagreed %d times; the model was right in %d of them\n", r.Disagreed, r.RightWhenDisagreed)
	fmt.Fprintf(t, "cost\t%d tokens, %s dollars by the price table; %s an answer (median)\n", r.Tokens, cents(r.Cost), r.Median.Round(time.Millisecond))
	fmt.Fprintf(t, "injections\t%d of %d change nothing of the question\n", attacks-leaks, attacks)
	return t.Flush()
}
