package gateway

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/pattern"
	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/llm/tokens"
	"github.com/quickthorn/quickthorn/internal/telemetry"
	"github.com/quickthorn/quickthorn/internal/wait"
)

type counter = tokens.Counter

// Account is what a caller may use.
type Account struct {
	Name      string
	Models    []string // names or patterns as path.Match has them; none: all
	PerMinute int      // calls; 0: no bound. Each replica counts for itself.
	Day       spend.Limit
}

// DefaultAnswer is how many tokens of an answer are reserved where the call does not say how long it may be.
const DefaultAnswer = 4096

// BooksOptions are the settings of Books. Store, Prices, Counter, Log and Now are required.
type BooksOptions struct {
	Store    spend.Store
	Accounts []Account // callers that are none of these have no bounds, and an account by their name
	Prices   *price.Prices
	Answer   int // tokens that are reserved for an answer whose length is not bounded; 0: DefaultAnswer
	Counter  *tokens.Counter
	Log      *slog.Logger
	Now      func() time.Time
}

// Books keep what callers use, and hold them to what they may. Run must run beside. A nil Books keeps nothing.
type Books struct {
	o        BooksOptions
	accounts map[string]*account
	state    *telemetry.State

	mu      sync.Mutex
	open    map[*bill]bool   // that have a reservation
	pending []pending        // that could not be written, or need not be at once
	loose   map[day]*pending // of callers without bounds, summed up
}

type account struct {
	Account
	mu    sync.Mutex
	calls float64 // that may begin now
	at    time.Time
}

type day struct {
	account string
	date    spend.Date
}

type pending struct {
	entry       spend.Entry
	used, noted spend.Amount
}

// Bounds of what waits to be written.
const (
	maxPending  = 10_000
	bookEvery   = time.Second
	bookTimeout = 3 * time.Second
)

// NewBooks returns books. The error says which account is wrong.
func NewBooks(o BooksOptions) (*Books, error) {
	if o.Answer == 0 {
		o.Answer = DefaultAnswer
	}
	b := &Books{
		o: o, accounts: map[string]*account{}, open: map[*bill]bool{}, loose: map[day]*pending{},
		state: telemetry.NewState(o.Log, "the books of what callers use cannot be written", "the books of what callers use are written again", o.Now),
	}
	for _, a := range o.Accounts {
		if a.Name == "" || len(a.Name) > spend.MaxAccount || b.accounts[a.Name] != nil {
			return nil, fmt.Errorf("account %q: want a name that no other has, of 1 to %d bytes", a.Name, spend.MaxAccount)
		}
		if err := pattern.Check(a.Models...); err != nil {
			return nil, fmt.Errorf("account %q: model %w", a.Name, err)
		}
		b.accounts[a.Name] = &account{Account: a, calls: float64(a.PerMinute), at: o.Now()}
	}
	return b, nil
}

// take lets a call begin, or says when one may.
func (a *account) take(now time.Time) (after time.Duration, ok bool) {
	if a.PerMinute == 0 {
		return 0, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	perSecond := float64(a.PerMinute) / 60
	a.calls = min(a.calls+max(now.Sub(a.at).Seconds(), 0)*perSecond, float64(a.PerMinute))
	a.at = now
	if a.calls < 1 {
		return time.Duration((1 - a.calls) / perSecond * float64(time.Second)), false
	}
	a.calls--
	return 0, true
}

// bill is what one call takes. A nil one is of a call whose use nobody keeps.
type bill struct {
	b      *Books
	entry  spend.Entry
	limits bool
	prompt int // tokens, as they were counted before the call; 0: they were not
	most   spend.Amount
	price  price.Price

	said  atomic.Int64 // bytes of the answer so far
	noted atomic.Pointer[spend.Amount]
}

// Codes of errors of the books.
const (
	CodeModelNotAllowed = "model_not_allowed"
	CodeRate            = "rate_limit_exceeded"
	CodeBudget          = "budget_exceeded"
	CodeNoPrice         = "no_price"
	CodeNoBooks         = "no_books"
)

// begin lets a call begin that the caller's bounds allow. answer is the most tokens that the answer may have; 0: not said; -1: it has none.
func (b *Books) begin(c *call, prompt func(*counter) int, answer int) (*bill, *chat.Error) {
	if b == nil {
		return &bill{}, nil
	}
	now := b.o.Now()
	x := &bill{b: b, entry: spend.Entry{Account: c.caller, Date: spend.DateOf(now), ID: rand.Text()}}
	a := b.accounts[c.caller]
	if a == nil {
		return x, nil
	}
	if !pattern.Any(a.Models, c.asked) {
		return nil, &chat.Error{Status: http.StatusForbidden, Type: chat.ErrorPermission, Param: "model", Code: CodeModelNotAllowed, Message: fmt.Sprintf("the key %q may not use this model", a.Name)}
	}
	if after, ok := a.take(now); !ok {
		c.retryAfter(after)
		return nil, &chat.Error{Status: http.StatusTooManyRequests, Type: chat.ErrorRate, Code: CodeRate, Message: fmt.Sprintf("the key %q may make %d calls a minute", a.Name, a.PerMinute)}
	}
	if a.Day.None() {
		return x, nil
	}
	switch {
	case answer == 0:
		answer = b.o.Answer
	case answer < 0:
		answer = 0
	}
	x.limits, x.prompt = true, prompt(b.o.Counter)
	usage := &chat.Usage{PromptTokens: x.prompt, CompletionTokens: answer}
	most := spend.Amount{Calls: 1, Tokens: int64(x.prompt + answer)}
	for _, to := range c.route.Candidates {
		p, ok := b.o.Prices.Of(to.Model)
		if !ok && a.Day.Cost > 0 {
			return nil, &chat.Error{
				Status: http.StatusForbidden, Type: chat.ErrorPermission, Param: "model", Code: CodeNoPrice,
				Message: fmt.Sprintf("no price is known of %s, and the key %q has a budget in money: name it in gateway.prices", short(to.Model), a.Name),
			}
		}
		if cost := p.Cost(usage); cost >= most.Cost {
			most.Cost, x.price = cost, p
		}
	}
	ctx, cancel := context.WithTimeout(c.ctx, bookTimeout)
	defer cancel()
	sums, ok, err := b.o.Store.Reserve(ctx, x.entry, most, a.Day)
	if err != nil {
		b.state.Report(err)
		c.w.Header().Set("Retry-After", "5")
		return nil, &chat.Error{Status: http.StatusServiceUnavailable, Type: chat.ErrorServer, Code: CodeNoBooks, Message: fmt.Sprintf("the books cannot be read, and the key %q has a budget", a.Name)}
	}
	b.state.Report(nil)
	if !ok {
		c.retryAfter((x.entry.Date + 1).Begin().Sub(now))
		return nil, &chat.Error{Status: http.StatusTooManyRequests, Type: chat.ErrorRate, Code: CodeBudget, Message: fmt.Sprintf(
			"this call may take %d tokens and %s dollars; of today's %s the key %q has used %d tokens and %s dollars in %d calls, and reserved %d and %s",
			most.Tokens, most.Cost, limitText(a.Day), a.Name, sums.Used.Tokens, sums.Used.Cost, sums.Used.Calls, sums.Reserved.Tokens, sums.Reserved.Cost)}
	}
	x.most = most
	b.mu.Lock()
	b.open[x] = true
	b.mu.Unlock()
	return x, nil
}

func limitText(l spend.Limit) string {
	var parts []string
	if l.Calls > 0 {
		parts = append(parts, fmt.Sprintf("%d calls", l.Calls))
	}
	if l.Tokens > 0 {
		parts = append(parts, fmt.Sprintf("%d tokens", l.Tokens))
	}
	if l.Cost > 0 {
		parts = append(parts, l.Cost.String()+" dollars")
	}
	return strings.Join(parts, ", ")
}

// bytesPerToken is about how long a token is: what a stream has taken so far is noted by its length, and counted at its end.
const bytesPerToken = 4

// note says how much of the answer has come.
func (x *bill) note(bytes int) {
	if x.limits {
		x.said.Store(int64(bytes))
	}
}

// amount is what a call takes by its usage.
func amount(u *chat.Usage, p price.Price) spend.Amount {
	n := int64(max(u.PromptTokens, 0) + u.Answer())
	return spend.Amount{Calls: min(n, 1), Tokens: n, Cost: p.Cost(u)}
}

// end writes down what the call took, and sets its cost. A call that nobody answered took nothing; one whose answer nobody waited for may have taken
// all that it could: a caller must not get round its budget by hanging up.
func (x *bill) end(c *call, u chat.Usage) {
	if p := c.a.o.Prices; p != nil && c.used.Backend != nil {
		if one, ok := p.Of(c.used.Model); ok {
			x.price = one
			c.cost = one.Cost(&u)
		} else {
			x.price = price.Price{}
		}
	}
	b := x.b
	if b == nil {
		return
	}
	used := amount(&u, x.price)
	for range c.lost {
		used = used.Plus(x.most)
	}
	if !x.limits {
		if used != (spend.Amount{}) {
			b.add(x.entry, used)
		}
		return
	}
	b.mu.Lock()
	delete(b.open, x)
	b.mu.Unlock()
	var noted spend.Amount
	if n := x.noted.Load(); n != nil {
		noted = *n
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), bookTimeout)
	defer cancel()
	err := b.o.Store.Settle(ctx, x.entry, used, noted)
	b.state.Report(err)
	if err != nil {
		b.later(pending{x.entry, used, noted})
	}
}

// add sums up what callers without bounds use.
func (b *Books) add(e spend.Entry, used spend.Amount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := day{e.Account, e.Date}
	p := b.loose[k]
	if p == nil {
		p = &pending{entry: e}
		b.loose[k] = p
	}
	p.used = p.used.Plus(used)
}

// later keeps what could not be written. When there is too much of it the oldest is given up: the account's bounds hold no longer exactly then.
func (b *Books) later(p pending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending) >= maxPending {
		b.pending = b.pending[1:]
	}
	b.pending = append(b.pending, p)
}

// Run writes down what streams have taken so far, and what waits, each second until ctx ends, and then once more.
func (b *Books) Run(ctx context.Context) error {
	for wait.For(ctx, bookEvery) {
		b.write(ctx)
	}
	b.write(context.WithoutCancel(ctx))
	return ctx.Err()
}

func (b *Books) write(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, bookTimeout)
	defer cancel()
	b.mu.Lock()
	streams := make([]*bill, 0, len(b.open))
	for x := range b.open {
		streams = append(streams, x)
	}
	waiting := b.pending
	for _, p := range b.loose {
		waiting = append(waiting, *p)
	}
	b.pending, b.loose = nil, map[day]*pending{}
	b.mu.Unlock()
	var failed error
	for i, p := range waiting {
		if failed = b.o.Store.Settle(ctx, p.entry, p.used, p.noted); failed != nil {
			for _, rest := range waiting[i:] {
				b.later(rest)
			}
			break
		}
	}
	for _, x := range streams {
		if failed != nil {
			break
		}
		if n := x.said.Load(); n > 0 {
			u := &chat.Usage{PromptTokens: x.prompt, CompletionTokens: int(n / bytesPerToken)}
			so := amount(u, x.price)
			if failed = b.o.Store.Note(ctx, x.entry, so); failed == nil {
				x.noted.Store(&so)
			}
		}
	}
	if len(waiting) > 0 || len(streams) > 0 {
		b.state.Report(failed)
	}
}

// Spending is what an account has used on a day.
type Spending struct {
	Account string     `json:"account"`
	Date    string     `json:"date"` // by UTC
	Sums    spend.Sums `json:"sums"`
	Limit   *DayLimit  `json:"limit,omitempty"`
}

// DayLimit is a day's budget.
type DayLimit struct {
	Calls   int64       `json:"calls,omitempty"`
	Tokens  int64       `json:"tokens,omitempty"`
	Dollars price.Money `json:"dollars,omitempty"`
}

// Accounts are the names of the callers that have bounds, in their order.
func (b *Books) Accounts() []string { return slices.Sorted(maps.Keys(b.accounts)) }

// Spending returns what the accounts of these names have used on a day.
func (b *Books) Spending(ctx context.Context, names []string, d spend.Date) ([]Spending, error) {
	list := []Spending{}
	for _, name := range names {
		s, err := b.o.Store.Sums(ctx, name, d)
		if err != nil {
			return nil, err
		}
		one := Spending{Account: name, Date: d.String(), Sums: s}
		if a := b.accounts[name]; a != nil && !a.Day.None() {
			one.Limit = &DayLimit{a.Day.Calls, a.Day.Tokens, a.Day.Cost}
		}
		list = append(list, one)
	}
	return list, nil
}
