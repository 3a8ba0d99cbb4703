// Package price knows what calls of language models cost, from a table of list prices with their sources and dates.
package price

import (
	_ "embed" // the table
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

//go:embed prices.yaml
var table []byte

// Money is an amount in billionths of a US dollar.
type Money int64

// Dollar is one US dollar.
const Dollar Money = 1e9

// maxDollars is the largest amount that is read.
const maxDollars = 1e6

// ParseMoney reads an amount in dollars, such as 5 or 0.25, up to a million.
func ParseMoney(s string) (Money, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || strings.ContainsAny(s, "xXpP_") {
		return 0, fmt.Errorf("%q is no amount in dollars such as 5 or 0.25", s)
	}
	if f < 0 || f > maxDollars {
		return 0, fmt.Errorf("%q: want 0 to %d dollars", s, int(maxDollars))
	}
	return Dollars(f), nil
}

// UnmarshalText reads an amount in dollars.
func (m *Money) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMoney(string(b))
	return err
}

// MarshalText writes the amount in dollars.
func (m Money) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// String is the amount in dollars, without zeros at its end.
func (m Money) String() string { return strconv.FormatFloat(m.Dollars(), 'f', -1, 64) }

// Dollars is the amount in dollars.
func (m Money) Dollars() float64 { return float64(m) / float64(Dollar) }

// Price is what a model costs, for a million tokens each.
type Price struct {
	Input, Cached, Output Money
	Above                 int // tokens of the prompt from which on all is multiplied; 0: never
	Times                 [2]float64
	Source, Date          string // "": the configuration's
}

// Prices are the prices of models. They are immutable.
type Prices struct {
	models map[string]Price
}

// Override is a price of the owner's.
type Override struct {
	Model                 string
	Input, Cached, Output Money // for a million tokens; Cached 0: as Input
}

// New returns the table, with the owner's prices above it.
func New(overrides ...Override) (*Prices, error) {
	var sources []struct {
		Source, Date string
		Models       map[string]struct {
			Input, Output float64
			Cached        *float64
			Above         int
			Times         []float64
		}
	}
	if err := yaml.UnmarshalWithOptions(table, &sources, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("the table of prices: %w", err)
	}
	p := &Prices{models: map[string]Price{}}
	for _, s := range sources {
		for name, m := range s.Models {
			cached := m.Input
			if m.Cached != nil {
				cached = *m.Cached
			}
			one := Price{Input: Dollars(m.Input), Cached: Dollars(cached), Output: Dollars(m.Output), Above: m.Above, Source: s.Source, Date: s.Date}
			if m.Above > 0 {
				if len(m.Times) != 2 {
					return nil, fmt.Errorf("the table of prices: %s: want two multipliers", name)
				}
				one.Times = [2]float64(m.Times)
			}
			p.models[name] = one
		}
	}
	for _, o := range overrides {
		if o.Model == "" {
			return nil, errors.New("a price without a model")
		}
		if o.Cached == 0 {
			o.Cached = o.Input
		}
		p.models[o.Model] = Price{Input: o.Input, Cached: o.Cached, Output: o.Output}
	}
	return p, nil
}

// Dollars is an amount in US dollars, to a billionth.
func Dollars(f float64) Money { return Money(math.Round(f * float64(Dollar))) }

// Models are the models whose prices are known, in the order of their names.
func (p *Prices) Models() []string { return slices.Sorted(maps.Keys(p.models)) }

// Of returns the price of a model: that of its name, or of the longest name that it continues by a date, a version or "latest", as in
// gpt-5-mini-2025-08-07. ok is false if none is known.
func (p *Prices) Of(model string) (_ Price, ok bool) {
	model = strings.ToLower(strings.TrimPrefix(model, "models/"))
	for name := model; ; {
		if one, ok := p.models[name]; ok {
			return one, true
		}
		i := strings.LastIndexAny(name, "-@:")
		if i < 1 || !release(name[i+1:]) {
			return Price{}, false
		}
		name = name[:i]
	}
}

// release reports whether a part of a name says which release of a model it is, so that the price is that of the model.
func release(part string) bool {
	if part == "latest" || part == "preview" {
		return true
	}
	n, err := strconv.Atoi(part)
	return err == nil && len(part) >= 2 && n >= 0
}

// Cost is what a call costs by its usage. A prompt's cached tokens are among its tokens.
func (p *Price) Cost(u *chat.Usage) Money {
	if u == nil {
		return 0
	}
	prompt, cached := max(u.PromptTokens, 0), 0
	if u.PromptDetails != nil {
		cached = min(max(u.PromptDetails.CachedTokens, 0), prompt)
	}
	in, out := 1.0, 1.0
	if p.Above > 0 && prompt > p.Above {
		in, out = p.Times[0], p.Times[1]
	}
	cost := in*(float64(prompt-cached)*float64(p.Input)+float64(cached)*float64(p.Cached)) + out*float64(u.Answer())*float64(p.Output)
	return Money(math.Ceil(cost / 1e6))
}
