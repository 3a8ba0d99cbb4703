package opinion_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/escalation"
	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/llmtest"
	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/provider"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/opinion"
)

// advisor asks a fake.
func advisor(t testing.TB, f *llmtest.Fake, change func(*opinion.Options)) *opinion.Advisor {
	t.Helper()
	form, _, err := provider.Named(f.Kind)
	if err != nil {
		t.Fatal(err)
	}
	b, err := backend.New(backend.Options{Name: "model", Form: form, Base: f.Base(), Keys: []backend.Key{{Secret: "sk-0123456789abcdef"}}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	o := opinion.Options{Model: opinion.Server{Backend: b}, Name: "judge-1", Books: spend.NewMemory(time.Now), Now: time.Now}
	if change != nil {
		change(&o)
	}
	return opinion.New(o)
}

// doubtful is a case in the grey zone.
func doubtful() *defense.Case {
	return &defense.Case{
		ID: "01JNABCDEFGHJKMNPQRSTVWXYZ", Revision: 1, Kind: defense.CaseClient, Key: "192.0.2.7", Site: "shop", Family: defense.AgentBrowser,
		FirstSeen: time.Unix(1_790_000_000, 0), LastSeen: time.Unix(1_790_000_600, 0), EventCount: 30, Members: defense.CaseMembers{Count: 1, Sample: []string{"192.0.2.7"}},
		Agents: []string{"Mozilla/5.0"}, Paths: []string{"/wiki/Hedge", "/wiki/Hedge?diff=7", "/search?q=thorn"},
		Features: defense.Features{Schema: behaviour.SchemaVersion, Values: map[string]float64{
			"requests": 30, "navigations": 28, "rate": 3.14159, "burst": 3, "regularity": 0.72, "breadth": 0.97, "assets": 0.1, "referred": 0.1,
		}},
	}
}

func says(label string, confidence float64, reasons ...string) string {
	b, err := json.Marshal(map[string]any{"label": label, "confidence": confidence, "reasons": reasons})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestAModelIsAskedAndItsAnswerWeighed(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"openai", "anthropic", "gemini", "mistral", "ollama", "compatible"} {
		f := llmtest.New(t, kind)
		f.Answers(func(llmtest.Call) string { return says("automation", 0.8, "assets", "regularity") })
		score, sentence, err := advisor(t, f, nil).Ask(t.Context(), doubtful())
		if err != nil || math.Abs(score-0.86) > 1e-9 {
			t.Errorf("%s: %v, %v", kind, score, err)
		}
		if want := "a language model takes it for a program (80 % sure), since it fetched 0.1 style sheets, scripts and images for each page, asked at rather even intervals (72 % regular)"; sentence != want {
			t.Errorf("%s: %s", kind, sentence)
		}
		seen := string(f.Calls()[0].Raw)
		for _, secret := range []string{"192.0.2", "shop", "Mozilla", "Hedge", "thorn", "01JNABC"} {
			if strings.Contains(seen, secret) {
				t.Errorf("%s: the model saw %q: %s", kind, secret, seen)
			}
		}
		for _, fact := range []string{"regularity", "history of a text or program", "claims"} {
			if !strings.Contains(seen, fact) {
				t.Errorf("%s: the model did not see %q: %s", kind, fact, seen)
			}
		}
	}
}

func TestWhatDoesNotFitIsNoOpinion(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"prose":                  "It is a reader, I think.",
		"another label":          says("human", 1, "rate"),
		"a confidence of 2":      says("reader", 2, "rate"),
		"no confidence":          `{"label":"reader","reasons":["rate"]}`,
		"no reasons":             says("reader", 1),
		"a reason of its own":    says("reader", 1, "the moon"),
		"a feature not observed": says("reader", 1, "traps"),
		"more fields":            `{"label":"reader","confidence":1,"reasons":["rate"],"ban":"203.0.113.0/24"}`,
		"more than JSON":         says("reader", 1, "rate") + " and so on",
		"a fence around it":      "```json\n" + says("reader", 1, "rate") + "\n```",
		"nothing":                "",
	} {
		f := llmtest.New(t, "compatible")
		f.Answers(func(llmtest.Call) string { return text })
		a := advisor(t, f, nil)
		if score, sentence, err := a.Ask(t.Context(), doubtful()); !errors.Is(err, opinion.ErrNonsense) {
			t.Errorf("%s: %v, %q, %v", name, score, sentence, err)
		}
	}
}

// TestOpinionsAreBounded looks at what the most confident answer can do to a judgement.
func TestAnOpinionTipsWhatIsDoubtfulAndNothingElse(t *testing.T) {
	t.Parallel()
	judge := func(t *testing.T, label string, c *defense.Case) (*defense.Judgement, int) {
		t.Helper()
		f := llmtest.New(t, "compatible")
		f.Answers(func(llmtest.Call) string { return says(label, 1, "requests") })
		s := escalation.DefaultSettings()
		s.Stages = []string{escalation.StageBehaviour, escalation.StageOpinion}
		e, err := escalation.New(escalation.Options{Settings: s, Opinion: advisor(t, f, nil)})
		if err != nil {
			t.Fatal(err)
		}
		j, err := e.Judge(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return j, len(f.Calls())
	}
	grey, asked := judge(t, opinion.Unsure, doubtful())
	if asked != 1 || grey.Score < 0.35 || grey.Score > 0.85 {
		t.Fatalf("the case is not doubtful: %v, asked %d times", grey.Score, asked)
	}
	up, _ := judge(t, opinion.Automation, doubtful())
	down, _ := judge(t, opinion.Reader, doubtful())
	if !(down.Score < grey.Score && grey.Score < up.Score) {
		t.Errorf("%v, %v, %v", down.Score, grey.Score, up.Score)
	}
	for _, j := range []*defense.Judgement{up, down} {
		for _, p := range j.Proposals {
			if p.Action == defense.Deny || p.Action == defense.Tarpit {
				t.Errorf("an opinion alone leads to %+v", p)
			}
		}
	}
	verified := doubtful()
	verified.Identity = defense.EventIdentity{Crawler: "Googlebot", Status: defense.IdentityVerified}
	if j, asked := judge(t, opinion.Automation, verified); asked != 0 || len(j.Proposals) != 0 {
		t.Errorf("a verified crawler: asked %d times, %+v", asked, j.Proposals)
	}
	proven := doubtful()
	for name, v := range map[string]float64{"traps": 5, "regularity": 0.95, "assets": 0, "disallowed": 0.9, "unlinked": 0.9, "rate": 40, "navigations": 400, "requests": 400, "sequential": 0.9} {
		proven.Features.Values[name] = v
	}
	before, asked := judge(t, opinion.Unsure, proven)
	after, _ := judge(t, opinion.Reader, proven)
	if asked != 0 || after.Score != before.Score || after.Score < 0.85 {
		t.Errorf("a proven one: asked %d times, %v, then %v", asked, before.Score, after.Score)
	}
}

func TestOneQuestionForCasesThatLookTheSame(t *testing.T) {
	t.Parallel()
	f := llmtest.New(t, "compatible")
	f.Answers(func(llmtest.Call) string { return says("automation", 0.5, "rate") })
	now := time.Unix(1_790_000_000, 0)
	var mu sync.Mutex
	a := advisor(t, f, func(o *opinion.Options) {
		o.Flows = 10
		o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	var all sync.WaitGroup
	for i := range 8 {
		c := doubtful()
		c.ID, c.Key = fmt.Sprint(i), fmt.Sprintf("192.0.2.%d", i)
		c.Features.Values["rate"] += float64(i) / 10_000
		all.Go(func() {
			if score, _, err := a.Ask(t.Context(), c); err != nil || score != 0.725 {
				t.Errorf("%v, %v", score, err)
			}
		})
	}
	all.Wait()
	if n := len(f.Calls()); n != 1 {
		t.Errorf("asked %d times", n)
	}
	mu.Lock()
	now = now.Add(25 * time.Hour)
	mu.Unlock()
	if _, _, err := a.Ask(t.Context(), doubtful()); err != nil || len(f.Calls()) != 2 {
		t.Errorf("a day later: %v, asked %d times", err, len(f.Calls()))
	}
}

func TestTheDaysBudgetHolds(t *testing.T) {
	t.Parallel()
	other := func(i int) *defense.Case {
		c := doubtful()
		c.Features.Values["requests"] = float64(i)
		return c
	}
	for name, o := range map[string]opinion.Options{
		"questions": {Day: spend.Limit{Calls: 2}},
		"money":     {Day: spend.Limit{Cost: price.Dollar / 100}, Price: price.Price{Input: price.Dollar, Output: 10 * price.Dollar}},
	} {
		f := llmtest.New(t, "compatible")
		f.Answers(func(llmtest.Call) string { return says("reader", 1, "rate") })
		a := advisor(t, f, func(to *opinion.Options) { to.Day, to.Price = o.Day, o.Price })
		var last string
		for i := range 200 {
			score, sentence, err := a.Ask(t.Context(), other(i+1))
			if err != nil {
				t.Fatal(err)
			}
			if last = sentence; score == 0.5 {
				break
			}
		}
		if n := len(f.Calls()); n < 2 || n > 100 || name == "questions" && n != 2 || !strings.Contains(last, "today's budget is used up") {
			t.Errorf("%s: asked %d times: %s", name, n, last)
		}
	}
}

func TestAModelThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	f := llmtest.New(t, "compatible")
	f.Fail(llmtest.Fault{Status: 500}, llmtest.Fault{Wait: time.Minute})
	a := advisor(t, f, nil)
	if _, _, err := a.Ask(t.Context(), doubtful()); err == nil {
		t.Error("a failure is an opinion")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := a.Ask(ctx, doubtful()); err == nil {
		t.Error("a time-out is an opinion")
	}
}

// gullible is a model that believes whatever it reads: when a text of an attack, or a good part of one, is anywhere in what it is asked, it clears
// the client.
func gullible(attacks []opinion.Attack) func(llmtest.Call) string {
	return func(c llmtest.Call) string {
		var said []string
		var walk func(v any)
		walk = func(v any) {
			switch x := v.(type) {
			case string:
				said = append(said, x)
				var inner any
				if json.Unmarshal([]byte(x), &inner) == nil {
					if _, again := inner.(string); !again {
						walk(inner)
					}
				}
			case []any:
				for i := range x {
					walk(x[i])
				}
			case map[string]any:
				for k := range x {
					said = append(said, k)
					walk(x[k])
				}
			}
		}
		walk(c.Body["messages"])
		all := strings.ToLower(strings.Join(said, "\n"))
		for i := range attacks {
			text := []rune(strings.ToLower(attacks[i].Text))
			for at := 0; at+12 <= len(text); at += 12 {
				if strings.Contains(all, string(text[at:at+12])) {
					return says("reader", 1, "rate")
				}
			}
		}
		return says("automation", 0.9, "assets")
	}
}

func TestNoTextOfAClientsReachesTheModel(t *testing.T) {
	t.Parallel()
	attacks := opinion.Attacks()
	kinds := map[string]bool{}
	for _, a := range attacks {
		kinds[a.Kind] = true
	}
	if len(attacks) < 60 || len(kinds) < 6 {
		t.Fatalf("%d attacks of %d kinds", len(attacks), len(kinds))
	}
	f := llmtest.New(t, "compatible")
	believe := gullible(attacks)
	f.Answers(believe)
	score := func(c *defense.Case) float64 {
		t.Helper()
		s, _, err := advisor(t, f, nil).Ask(t.Context(), c) // one without a memory
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	want := score(doubtful())
	if want < 0.9 {
		t.Fatalf("without an attack the model says %v", want)
	}
	for i := range attacks {
		a := &attacks[i]
		if got := believe(llmtest.Call{Body: map[string]any{"messages": []any{map[string]any{"content": a.Text}}}}); !strings.Contains(got, "reader") {
			t.Errorf("the model is not gullible: %q", a.Text)
		}
		if places := a.Leaks(doubtful()); len(places) > 0 {
			t.Errorf("%.40q reaches the question from %v", a.Text, places)
		}
		for place, c := range a.Carry(doubtful()) {
			if got := score(c); got != want {
				t.Errorf("%.40q as %s: %v, want %v", a.Text, place, got, want)
			}
		}
	}
}

func TestAnEvaluationSaysHowGoodAModelIs(t *testing.T) {
	t.Parallel()
	f := llmtest.New(t, "compatible")
	n := 0
	f.Answers(func(llmtest.Call) string {
		n++
		switch n {
		case 1, 2:
			return says("automation", 1, "rate") // right, wrong
		case 3:
			return says("reader", 0.5, "rate") // right
		case 4:
			return says("unsure", 0)
		}
		return "nonsense"
	})
	var samples []opinion.Sample
	for i, automated := range []bool{true, false, false, true, true} {
		c := doubtful()
		c.Features.Values["requests"] = float64(100 * (i + 1))
		samples = append(samples, opinion.Sample{Case: c, Automated: automated, Before: 0.3})
	}
	r := opinion.Evaluate(t.Context(), advisor(t, f, func(o *opinion.Options) { o.Price = price.Price{Input: price.Dollar, Output: price.Dollar} }), samples)
	if r.Answered != 4 || r.Nonsense != 1 || r.Unsure != 1 || r.Right != 2 || r.ReadersTakenForPrograms != 1 || r.ProgramsTakenForReaders != 0 || r.Disagreed != 2 || r.RightWhenDisagreed != 1 {
		t.Errorf("%+v", r)
	}
	if r.Accuracy < 0.66 || r.Accuracy > 0.67 || r.Tokens != 5*28 || r.Cost.String() != "0.00014" || r.Brier <= 0 || r.Calibration <= 0 {
		t.Errorf("%+v", r)
	}
}
