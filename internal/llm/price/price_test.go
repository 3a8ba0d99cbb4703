package price_test

import (
	"testing"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/price"
)

func TestModelsHaveThePriceOfTheirName(t *testing.T) {
	t.Parallel()
	p, err := price.New(price.Override{Model: "house-model", Input: price.Dollar, Output: 2 * price.Dollar})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		model string
		want  string // of a million tokens of the prompt, and as many of the answer, in dollars; "": no price
	}{
		{"gpt-5-mini", "2.25"},
		{"gpt-5-mini-2025-08-07", "2.25"},
		{"models/Gemini-3.5-flash", "10.5"},
		{"claude-haiku-4-5-20251001", "6"},
		{"claude-sonnet-4-latest", "18"},
		{"house-model", "3"},
		{"house-model-large", ""}, // another one: it may cost more
		{"gpt-5-mini-turbo", ""},
		{"gpt-9", ""},
		{"", ""},
	}
	for _, tt := range tests {
		one, ok := p.Of(tt.model)
		got := ""
		if ok {
			one.Above = 0
			got = one.Cost(&chat.Usage{PromptTokens: 1e6, CompletionTokens: 1e6}).String()
		}
		if got != tt.want {
			t.Errorf("%q: %q, want %q", tt.model, got, tt.want)
		}
	}
}

func TestCachedTokensAndLongPromptsHaveTheirPrice(t *testing.T) {
	t.Parallel()
	p, err := price.New()
	if err != nil {
		t.Fatal(err)
	}
	one, _ := p.Of("gpt-5.4")
	for _, tt := range []struct {
		usage chat.Usage
		want  string
	}{
		{chat.Usage{PromptTokens: 1000, CompletionTokens: 100}, "0.004"},
		{chat.Usage{PromptTokens: 1000, CompletionTokens: 100, PromptDetails: &chat.PromptDetails{CachedTokens: 1000}}, "0.00175"},
		{chat.Usage{PromptTokens: 1000, PromptDetails: &chat.PromptDetails{CachedTokens: 5000}}, "0.00025"}, // no more than there are
		{chat.Usage{PromptTokens: 300_000, CompletionTokens: 1000}, "1.5225"},
		{chat.Usage{PromptTokens: -5, CompletionTokens: -5}, "0"},
		{chat.Usage{PromptTokens: 1}, "0.0000025"},
		{chat.Usage{PromptTokens: 10, CompletionTokens: 1, TotalTokens: 300}, "0.004375"}, // reasoning that is in the total alone
	} {
		if got := one.Cost(&tt.usage).String(); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.usage, got, tt.want)
		}
	}
	if one.Source == "" || one.Date == "" {
		t.Errorf("%+v does not say where it comes from", one)
	}
}

func TestAmountsAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"5": "5", "0.25": "0.25", "1e-3": "0.001", "1000000": "1000000"} {
		if m, err := price.ParseMoney(text); err != nil || m.String() != want {
			t.Errorf("%q: %s, %v", text, m, err)
		}
	}
	for _, text := range []string{"", "five", "-1", "NaN", "Inf", "1000001", "0x10", "$5"} {
		if m, err := price.ParseMoney(text); err == nil {
			t.Errorf("%q is taken for %s", text, m)
		}
	}
}
