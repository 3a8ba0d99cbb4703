package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/cloud"
	"github.com/quickthorn/quickthorn/internal/llm/gateway"
	"github.com/quickthorn/quickthorn/internal/llm/llmtest"
	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/llm/spend/spendfile"
	"github.com/quickthorn/quickthorn/internal/llm/spend/spendredis"
	"github.com/quickthorn/quickthorn/internal/llm/tokens"
	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

const (
	blogKey  = "blog-key-0123456789abcdef"
	otherKey = "other-key-0123456789abcdef"
)

// setup is a gateway of a test.
type setup struct {
	*httptest.Server
	books *gateway.Books
}

// serve is a gateway in front of a fake, whose callers are blog, with this account, and other, without any.
func serve(t testing.TB, f *llmtest.Fake, store spend.Store, a gateway.Account, change func(*gateway.Options)) *setup {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	list, err := cloud.New(cloud.Options{Providers: []cloud.Provider{{Name: f.Kind, Kind: f.Kind, URL: f.Base(), Keys: []backend.Key{{Secret: "sk-0123456789abcdef"}}}}, Log: log, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	prices, err := price.New(price.Override{Model: "dear", Input: 1000 * price.Dollar, Output: 2000 * price.Dollar})
	if err != nil {
		t.Fatal(err)
	}
	a.Name = "key:blog"
	books, err := gateway.NewBooks(gateway.BooksOptions{Store: store, Accounts: []gateway.Account{a}, Prices: prices, Answer: 100, Counter: &tokens.Counter{}, Log: log, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	o := gateway.Options{Chooser: list, Books: books, Prices: prices, Metrics: gateway.NewMetrics(), Log: log, Now: time.Now}
	if change != nil {
		change(&o)
	}
	callers, err := auth.New(auth.Key{Caller: "key:blog", Key: blogKey}, auth.Key{Caller: "key:other", Key: otherKey})
	if err != nil {
		t.Fatal(err)
	}
	s := &setup{httptest.NewServer(callers.Handler(auth.Group{API: gateway.New(o), Callers: []string{auth.AnyModelKey}})), books}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = books.Run(ctx) }) // its error is that the context has ended
	t.Cleanup(func() {
		s.Close()
		cancel()
		run.Wait()
		list.Close()
	})
	return s
}

func ownBooks(t testing.TB) spend.Store {
	t.Helper()
	s, err := spendfile.Open(filepath.Join(t.TempDir(), "spending.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// ask makes a call with a key.
func (s *setup) ask(t testing.TB, key, body string) (*http.Response, string) {
	t.Helper()
	return llmtest.Post(t, s.Client(), s.URL+"/v1/chat/completions", key, body)
}

func question(model, more string) string {
	return fmt.Sprintf(`{"model":%q,%s"messages":[{"role":"user","content":"hello"}]}`, model, more)
}

func code(t testing.TB, body string) string {
	t.Helper()
	var e struct{ Error struct{ Code string } }
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return e.Error.Code
}

// sums is what blog has used today.
func sums(t testing.TB, store spend.Store) spend.Sums {
	t.Helper()
	s, err := store.Sums(t.Context(), "key:blog", spend.DateOf(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestABudgetOfTokensHolds(t *testing.T) {
	t.Parallel()
	f, store := llmtest.New(t, "openai"), ownBooks(t)
	s := serve(t, f, store, gateway.Account{Day: spend.Limit{Tokens: 180}}, nil)
	// Each reserves 8 tokens of the prompt and 100 of the answer, and takes 28.
	for i := range 3 {
		if resp, body := s.ask(t, blogKey, question("m", "")); resp.StatusCode != 200 {
			t.Fatalf("%d: %d %s", i, resp.StatusCode, body)
		}
	}
	if got := sums(t, store); got.Used.Tokens != 84 || got.Reserved.Tokens != 0 {
		t.Errorf("%+v, want 84 used", got)
	}
	resp, body := s.ask(t, blogKey, question("m", ""))
	if resp.StatusCode != 429 || code(t, body) != gateway.CodeBudget || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "used 84 tokens") {
		t.Errorf("beyond the budget: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.ask(t, blogKey, question("m", `"max_completion_tokens":20,`)); resp.StatusCode != 200 {
		t.Errorf("a shorter answer is within it: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.ask(t, otherKey, question("m", "")); resp.StatusCode != 200 {
		t.Errorf("another caller: %d %s", resp.StatusCode, body)
	}
}

func TestABudgetOfMoneyHolds(t *testing.T) {
	t.Parallel()
	f, store := llmtest.New(t, "anthropic"), ownBooks(t)
	s := serve(t, f, store, gateway.Account{Day: spend.Limit{Cost: price.Dollar * 24 / 100}}, nil)
	if resp, body := s.ask(t, blogKey, question("dear", "")); resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if got, want := sums(t, store).Used.Cost.String(), "0.035"; got != want { // 21 tokens at a thousandth, 7 at two
		t.Errorf("it cost %s, want %s", got, want)
	}
	if resp, body := s.ask(t, blogKey, question("dear", "")); resp.StatusCode != 429 || code(t, body) != gateway.CodeBudget {
		t.Errorf("0.035 used and 0.208 to reserve, of 0.24: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.ask(t, blogKey, question("unheard-of", "")); resp.StatusCode != 403 || code(t, body) != gateway.CodeNoPrice {
		t.Errorf("a model whose price nobody knows: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.ask(t, otherKey, question("unheard-of", "")); resp.StatusCode != 200 {
		t.Errorf("a caller without a budget: %d %s", resp.StatusCode, body)
	}
}

func TestABudgetHoldsAcrossReplicas(t *testing.T) {
	t.Parallel()
	server := testserver.Redis(t)
	f := llmtest.New(t, "openai")
	var replicas []*setup
	var store spend.Store
	for range 2 {
		st, err := spendredis.Open(redisconn.Options{Addresses: []string{server.Address}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		store = st
		replicas = append(replicas, serve(t, f, st, gateway.Account{Day: spend.Limit{Tokens: 500}}, nil))
	}
	var served, refused int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			resp, body := replicas[i%2].ask(t, blogKey, question("m", ""))
			mu.Lock()
			defer mu.Unlock()
			switch resp.StatusCode {
			case 200:
				served++
			case 429:
				refused++
			default:
				t.Errorf("%d %s", resp.StatusCode, body)
			}
		})
	}
	all.Wait()
	got := sums(t, store)
	if got.Used.Tokens != int64(28*served) || got.Used.Tokens > 500 || got.Reserved.Tokens != 0 || refused == 0 || served == 0 {
		t.Errorf("%d served, %d refused, %+v", served, refused, got)
	}
	// With the books away, a caller with a budget waits; others go on.
	server.Stop()
	if resp, body := replicas[0].ask(t, blogKey, question("m", "")); resp.StatusCode != 503 || code(t, body) != gateway.CodeNoBooks {
		t.Errorf("without the books: %d %s", resp.StatusCode, body)
	}
	if resp, body := replicas[0].ask(t, otherKey, question("m", "")); resp.StatusCode != 200 {
		t.Errorf("without the books, a caller without a budget: %d %s", resp.StatusCode, body)
	}
	server.Start()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if resp, _ := replicas[0].ask(t, blogKey, question("m", `"max_completion_tokens":1,`)); resp.StatusCode == 200 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the books are back, and the caller is still refused")
		}
	}
}

func TestAKeyIsHeldToItsModelsAndItsRate(t *testing.T) {
	t.Parallel()
	f := llmtest.New(t, "openai")
	s := serve(t, f, ownBooks(t), gateway.Account{Models: []string{"gpt-*"}, PerMinute: 3}, nil)
	if resp, body := s.ask(t, blogKey, question("claude-1", "")); resp.StatusCode != 403 || code(t, body) != gateway.CodeModelNotAllowed {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	var statuses []int
	for range 4 {
		resp, _ := s.ask(t, blogKey, question("gpt-1", ""))
		statuses = append(statuses, resp.StatusCode)
	}
	if fmt.Sprint(statuses) != "[200 200 200 429]" {
		t.Errorf("%v", statuses)
	}
}

func TestAStreamIsChargedForWhatCame(t *testing.T) {
	t.Parallel()
	f, store := llmtest.New(t, "openai"), ownBooks(t)
	f.Answers(func(llmtest.Call) string { return strings.Repeat("word ", 60) })
	s := serve(t, f, store, gateway.Account{Day: spend.Limit{Tokens: 100_000}}, nil)
	if resp, body := s.ask(t, blogKey, question("m", `"stream":true,`)); resp.StatusCode != 200 || strings.Contains(body, `"usage"`) {
		t.Errorf("%d; the usage was not asked for: %s", resp.StatusCode, body)
	}
	llmtest.Eventually(t, "what the provider tells is charged", func() bool { return sums(t, store).Used.Tokens == 28 })
	f.Fail(llmtest.Fault{NoUsage: true})
	s.ask(t, blogKey, question("m", `"stream":true,`))
	llmtest.Eventually(t, "what was counted here is charged", func() bool { n := sums(t, store).Used.Tokens - 28; return n > 60 && n < 80 }) // 8 and about 61, as counted here

	// One that its caller leaves.
	before := sums(t, store).Used.Tokens
	hold := make(chan struct{}, 100)
	for range 11 {
		hold <- struct{}{}
	}
	f.Fail(llmtest.Fault{HoldEvents: hold})
	ctx, cancel := context.WithCancel(t.Context())
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(question("m", `"stream":true,`)))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", "Bearer "+blogKey)
	resp, err := s.Client().Do(q)
	if err != nil {
		t.Fatal(err)
	}
	seen := ""
	for buf := make([]byte, 4096); strings.Count(seen, "word") < 10; {
		n, err := resp.Body.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		seen += string(buf[:n])
	}
	// While it goes on, what came is noted each second.
	llmtest.Eventually(t, "what came is noted", func() bool { return sums(t, store).Reserved.Tokens > 0 })
	cancel()
	resp.Body.Close()
	llmtest.Eventually(t, "what came is charged", func() bool {
		got := sums(t, store)
		return got.Reserved.Tokens == 0 && got.Used.Tokens-before >= 8+10 && got.Used.Tokens-before < 8+16
	})
}

func TestACallThatNobodyAnswersCostsNothing(t *testing.T) {
	t.Parallel()
	f, store := llmtest.New(t, "openai"), ownBooks(t)
	s := serve(t, f, store, gateway.Account{Day: spend.Limit{Tokens: 1000}}, nil)
	for _, more := range []string{"", `"stream":true,`} {
		f.Fail(llmtest.Fault{Status: 500})
		if resp, body := s.ask(t, blogKey, question("m", more)); resp.StatusCode != 500 {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
	}
	if got := sums(t, store); got != (spend.Sums{}) {
		t.Errorf("%+v", got)
	}
}

func TestWhoHangsUpPaysForWhatMayHaveBeenAnswered(t *testing.T) {
	t.Parallel()
	f, store := llmtest.New(t, "openai"), ownBooks(t)
	s := serve(t, f, store, gateway.Account{Day: spend.Limit{Tokens: 1000}}, nil)
	for i, more := range []string{"", `"stream":true,`} {
		f.Fail(llmtest.Fault{Wait: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/chat/completions", strings.NewReader(question("m", more)))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", "application/json")
		q.Header.Set("Authorization", "Bearer "+blogKey)
		done := make(chan error, 1)
		go func() {
			resp, err := s.Client().Do(q)
			if err == nil {
				err = resp.Body.Close()
			}
			done <- err
		}()
		llmtest.Eventually(t, "the provider is asked", func() bool { return len(f.Calls()) == i+1 })
		cancel()
		<-done
		llmtest.Eventually(t, "what may have been answered is charged", func() bool {
			return sums(t, store) == (spend.Sums{Used: spend.Amount{Calls: int64(i + 1), Tokens: int64(108 * (i + 1))}})
		})
	}
}

func TestWhatCallersWithoutBoundsUseIsKeptAsWell(t *testing.T) {
	t.Parallel()
	f, store := llmtest.New(t, "openai"), ownBooks(t)
	s := serve(t, f, store, gateway.Account{}, nil)
	for range 3 {
		s.ask(t, otherKey, question("dear", ""))
	}
	llmtest.Eventually(t, "what the caller used is kept", func() bool {
		list, err := s.books.Spending(t.Context(), []string{"key:other"}, spend.DateOf(time.Now()))
		return err == nil && list[0].Sums.Used.Tokens == 84 && list[0].Sums.Used.Cost == 3*35*price.Dollar/1000
	})
}

func TestCallsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	f := llmtest.New(t, "openai")
	var m *gateway.Metrics
	s := serve(t, f, ownBooks(t), gateway.Account{}, func(o *gateway.Options) {
		m = o.Metrics
		o.Queue = gateway.NewQueue(1, 2, o.Metrics)
	})
	hold := make(chan struct{})
	f.Answers(func(llmtest.Call) string { <-hold; return "done" })
	status := make(chan int, 3)
	for i := range 3 {
		go func() {
			resp, _ := s.ask(t, otherKey, question("m", ""))
			status <- resp.StatusCode
		}()
		llmtest.Eventually(t, "the call waits", func() bool { return len(f.Calls()) == 1 && queued(t, m) == i })
	}
	resp, body := s.ask(t, otherKey, question("m", ""))
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || code(t, body) != backend.CodeBusy {
		t.Errorf("beyond the queue: %d %s", resp.StatusCode, body)
	}
	close(hold)
	for range 3 {
		if got := <-status; got != 200 {
			t.Errorf("%d", got)
		}
	}
	if queued(t, m) != 0 {
		t.Error("somebody still waits")
	}
}

// queued is how many calls wait.
func queued(t testing.TB, m *gateway.Metrics) int {
	t.Helper()
	want := func(n int) string {
		return fmt.Sprintf("# HELP quickthorn_llm_requests_queued Calls of language models that wait for their turn.\n# TYPE quickthorn_llm_requests_queued gauge\nquickthorn_llm_requests_queued %d\n", n)
	}
	for n := range 10 {
		if testutil.CollectAndCompare(m, strings.NewReader(want(n)), "quickthorn_llm_requests_queued") == nil {
			return n
		}
	}
	return -1
}
