package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/llm/gateway"
	"github.com/quickthorn/quickthorn/internal/llm/llmtest"
	"github.com/quickthorn/quickthorn/internal/llm/serve"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
)

// ran runs a command line and returns its status and what it wrote.
func ran(t *testing.T, environ []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	t.Chdir(t.TempDir())
	var out, errs bytes.Buffer
	env := &command.Environment{Args: args, Environ: environ, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs}
	return env.Execute(t.Context(), commands(env)), out.String(), errs.String()
}

func TestAModelIsTriedOut(t *testing.T) {
	f := llmtest.New(t, "compatible")
	f.Answers(func(c llmtest.Call) string {
		if strings.Contains(string(c.Raw), "fetched no style sheet") {
			return `{"label":"automation","confidence":0.8,"reasons":["assets"]}`
		}
		return `{"label":"reader","confidence":0.6,"reasons":["requests"]}`
	})
	args := []string{"llm", "eval", "--samples", "60", "--set", "escalation.opinion.url=" + f.Base(), "--set", "escalation.opinion.model=gpt-5-mini"}
	status, out, errs := ran(t, nil, args...)
	if status != 0 || !strings.Contains(out, "60: ") || !strings.Contains(out, "right ") || !strings.Contains(out, "68 of 68 change nothing of the question") {
		t.Errorf("%d\n%s\n%s", status, out, errs)
	}
	status, out, _ = ran(t, nil, append(args, "--json")...)
	var r struct{ Report struct{ Accuracy float64 } }
	if err := json.Unmarshal([]byte(out), &r); status != 0 || err != nil || r.Report.Accuracy < 0.5 {
		t.Errorf("%d %v\n%s", status, err, out)
	}
	f.Answers(func(llmtest.Call) string { return "I cannot say." })
	if status, out, errs := ran(t, nil, args...); status != 1 || !strings.Contains(errs, "the model answered nothing that fits") || !strings.Contains(out, "60 nonsense") {
		t.Errorf("%d\n%s\n%s", status, out, errs)
	}
	if status, _, errs := ran(t, nil, "llm", "eval"); status != 1 || !strings.Contains(errs, "escalation.opinion.model: name a language model") {
		t.Errorf("%d %s", status, errs)
	}
}

func TestSpendingIsShown(t *testing.T) {
	const key = "operator-key-0123456789"
	now := func() time.Time { return time.Unix(1_790_000_000, 0) }
	books := spend.NewMemory(now)
	if err := books.Settle(t.Context(), spend.Entry{Account: "key:blog", Date: spend.DateOf(now()), ID: "a"}, spend.Amount{Calls: 2, Tokens: 1234, Cost: 56_700_000}, spend.Amount{}); err != nil {
		t.Fatal(err)
	}
	accounts := []gateway.Account{{Name: "key:blog", Day: spend.Limit{Tokens: 5000, Cost: 1_500_000_000}}}
	b, err := gateway.NewBooks(gateway.BooksOptions{Store: books, Accounts: accounts, Now: now, Log: nil})
	if err != nil {
		t.Fatal(err)
	}
	callers, err := auth.New(auth.Key{Caller: auth.Operator, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(callers.Handler(auth.Group{API: &serve.Spending{Books: b, Callers: []string{auth.PromptRouter}, Now: now}}))
	defer s.Close()
	status, out, errs := ran(t, []string{"QUICKTHORN_PRIVATE_KEY=" + key}, "llm", "spending", "--gateway", s.URL, "--day", "2026-09-21")
	if status != 0 || !strings.Contains(out, "key:blog") || !strings.Contains(out, "1234") || !strings.Contains(out, "0.0567") || !strings.Contains(out, "5000 tokens, 1.5 dollars") {
		t.Errorf("%d\n%s\n%s", status, out, errs)
	}
	status, _, errs = ran(t, []string{"QUICKTHORN_PRIVATE_KEY=another-key-0123456789"}, "llm", "spending", "--gateway", s.URL)
	if status != 1 || !strings.Contains(errs, http.StatusText(http.StatusUnauthorized)) && !strings.Contains(errs, "send the key") {
		t.Errorf("%d %s", status, errs)
	}
}
