// Package opinion asks a language model about doubtful cases, as the escalation's last stage.
//
// The model sees measurements and classes that this program names, and not a letter of what a client sent: no User-Agent, path, referrer, query or header,
// and no address. So there is nothing by which a client could talk to it. What it answers must fit a schema and name facts that it was given; anything
// else is no opinion.
package opinion

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/llm/backend"
	"github.com/quickthorn/quickthorn/internal/llm/chat"
	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
)

// Labels of answers.
const (
	Automation = "automation"
	Reader     = "reader"
	Unsure     = "unsure"
)

const (
	// confident is how far from even a score may be: the most confident answer has 0.95 or 0.05.
	confident = 0.45

	maxReasons   = 8
	answerTokens = 400
	generation   = 2048 // answers that are remembered, twice

	// Account is the name under which the books have what was used.
	Account = "escalation-opinion"
)

// Asker asks a language model; *backend.Backend is one.
type Asker interface {
	Ask(ctx context.Context, r *chat.Request) (*chat.Response, error)
}

// Server asks a server of language models.
type Server struct{ *backend.Backend }

// Ask implements Asker.
func (s Server) Ask(ctx context.Context, r *chat.Request) (*chat.Response, error) {
	answer, f := s.Chat(ctx, r, nil)
	if f != nil {
		return nil, f
	}
	return answer, nil
}

// Options are the settings of an Advisor. Model, Name, Books and Now are required.
type Options struct {
	Model Asker
	Name  string // of the model, at the server
	// Day bounds the questions of a day, and what they cost by Price.
	Day   spend.Limit
	Price price.Price
	Books spend.Store
	Age   time.Duration // how long an answer holds for cases that look the same; 0: a day
	Flows int           // questions at once; 0: 2
	Now   func() time.Time
}

// Advisor is an escalation.Advisor. It is safe for concurrent use, and a prometheus.Collector.
type Advisor struct {
	o     Options
	slots chan struct{}

	mu       sync.Mutex
	now, old map[[sha256.Size]byte]kept
	asking   map[[sha256.Size]byte]chan struct{}

	questions *prometheus.CounterVec
}

type kept struct {
	answer Answer
	at     time.Time
}

// New returns an advisor.
func New(o Options) *Advisor {
	if o.Age == 0 {
		o.Age = 24 * time.Hour
	}
	if o.Flows == 0 {
		o.Flows = 2
	}
	a := &Advisor{
		o: o, slots: make(chan struct{}, o.Flows), now: map[[sha256.Size]byte]kept{}, asking: map[[sha256.Size]byte]chan struct{}{},
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quickthorn_opinion_questions_total",
			Help: "Cases that a language model might be asked about: answered, remembered (a case that looks the same was), budget (today's is used up), busy, nonsense (the answer does not fit) or failed.",
		}, []string{"result"}),
	}
	for _, result := range []string{"answered", "remembered", "budget", "busy", "nonsense", "failed"} {
		a.questions.WithLabelValues(result)
	}
	return a
}

// Describe implements prometheus.Collector.
func (a *Advisor) Describe(ch chan<- *prometheus.Desc) { a.questions.Describe(ch) }

// Collect implements prometheus.Collector.
func (a *Advisor) Collect(ch chan<- prometheus.Metric) { a.questions.Collect(ch) }

// Answer is what a model says of a case.
type Answer struct {
	Label      string   `json:"label"`
	Confidence float64  `json:"confidence"` // 0..1
	Reasons    []string `json:"reasons"`    // names of facts

	Usage chat.Usage  `json:"-"`
	Cost  price.Money `json:"-"`
}

// Score is the probability of unwanted automation that the answer stands for: 0.5 is no opinion.
func (w *Answer) Score() float64 {
	switch w.Label {
	case Automation:
		return 0.5 + confident*w.Confidence
	case Reader:
		return 0.5 - confident*w.Confidence
	}
	return 0.5
}

// Sentence says the answer, with the facts in this program's words.
func (w *Answer) Sentence(q *Question) string {
	if w.Label == Unsure {
		return "a language model is not sure either"
	}
	what := "a program"
	if w.Label == Reader {
		what = "a person"
	}
	var why []string
	for _, name := range w.Reasons {
		for i := range q.Facts {
			if q.Facts[i].Name == name && len(why) < 4 {
				why = append(why, q.Facts[i].Means)
			}
		}
	}
	return fmt.Sprintf("a language model takes it for %s (%.0f %% sure), since it %s", what, 100*w.Confidence, strings.Join(why, ", "))
}

// Ask implements escalation.Advisor. A case that it does not ask about, since today's budget is used up or too many are being asked about, has
// the score 0.5; a model that fails or answers nonsense is an error.
func (a *Advisor) Ask(ctx context.Context, c *defense.Case) (score float64, sentence string, err error) {
	q := NewQuestion(c)
	answer, err := a.Question(ctx, &q)
	switch {
	case errors.Is(err, ErrNotAsked):
		return 0.5, err.Error(), nil
	case err != nil:
		return 0, "", err
	}
	return answer.Score(), answer.Sentence(&q), nil
}

// Errors of questions.
var (
	ErrNotAsked = errors.New("the language model was not asked")
	ErrNonsense = errors.New("the language model's answer does not fit the question")
)

// Question has one answered, from memory if one that is the same was answered lately.
func (a *Advisor) Question(ctx context.Context, q *Question) (Answer, error) {
	text, err := json.Marshal(q)
	if err != nil {
		return Answer{}, err
	}
	key := sha256.Sum256(text)
	for {
		answer, wait, ok := a.recall(key)
		if ok {
			a.questions.WithLabelValues("remembered").Inc()
			return answer, nil
		}
		if wait == nil {
			break // it is ours to ask
		}
		select {
		case <-wait: // who asked may have failed: then the next one does
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
	answer, err := a.put(ctx, string(text), q)
	result := "answered"
	switch {
	case err == nil:
	case errors.Is(err, errBudget):
		result = "budget"
	case errors.Is(err, errBusy):
		result = "busy"
	case errors.Is(err, ErrNonsense):
		result = "nonsense"
	default:
		result = "failed"
	}
	a.questions.WithLabelValues(result).Inc()
	a.keep(key, answer, err == nil)
	return answer, err
}

// recall returns what is remembered; if nothing is, a channel that is closed when who asks just now has done, or nil: then the caller is to ask.
func (a *Advisor) recall(key [sha256.Size]byte) (answer Answer, wait chan struct{}, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, ok := a.now[key]
	if !ok {
		k, ok = a.old[key]
	}
	if ok && a.o.Now().Sub(k.at) <= a.o.Age {
		k.answer.Usage, k.answer.Cost = chat.Usage{}, 0
		return k.answer, nil, true
	}
	if wait = a.asking[key]; wait == nil {
		a.asking[key] = make(chan struct{})
	}
	return answer, wait, false
}

func (a *Advisor) keep(key [sha256.Size]byte, answer Answer, good bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.asking[key])
	delete(a.asking, key)
	if !good {
		return
	}
	if len(a.now) >= generation {
		a.old, a.now = a.now, map[[sha256.Size]byte]kept{}
	}
	a.now[key] = kept{answer, a.o.Now()}
}

var (
	errBudget = fmt.Errorf("%w: today's budget is used up", ErrNotAsked)
	errBusy   = fmt.Errorf("%w: it is being asked about others", ErrNotAsked)
)

// put asks the model.
func (a *Advisor) put(ctx context.Context, text string, q *Question) (answer Answer, err error) {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	default:
		return Answer{}, errBusy
	}
	r := request(a.o.Name, text, q)
	entry := spend.Entry{Account: Account, Date: spend.DateOf(a.o.Now()), ID: rand.Text()}
	guess := chat.Usage{PromptTokens: (len(instruction) + len(text)) / 3, CompletionTokens: answerTokens}
	most := spend.Amount{Calls: 1, Tokens: int64(guess.PromptTokens + guess.CompletionTokens), Cost: a.o.Price.Cost(&guess)}
	if _, ok, err := a.o.Books.Reserve(ctx, entry, most, a.o.Day); err != nil {
		return Answer{}, err
	} else if !ok {
		return Answer{}, errBudget
	}
	var used spend.Amount
	defer func() {
		settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		err = errors.Join(err, a.o.Books.Settle(settle, entry, used, spend.Amount{}))
	}()
	said, err := a.o.Model.Ask(ctx, r)
	if err != nil {
		var f *backend.Failure
		if !errors.As(err, &f) || f.Kind == backend.Gone { // it may have been answered after all
			used = most
		}
		return Answer{}, err
	}
	usage := guess
	if said.Usage != nil {
		usage = *said.Usage
	}
	used = spend.Amount{Calls: 1, Tokens: int64(usage.PromptTokens + usage.Answer()), Cost: a.o.Price.Cost(&usage)}
	answer, err = parse(said, q)
	answer.Usage, answer.Cost = usage, used.Cost
	return answer, err
}

const instruction = `You judge whether the visitors of a web site are unwanted automation (scrapers, scripts) or people reading it. You get measurements of one client, or of
the members of one campaign, as JSON. Weigh them as a careful operator would: it is worse to take a person for a program than the other way round. People read at uneven
intervals, fetch style sheets and images, follow links and come back; programs walk through many pages evenly, fetch no assets, or follow links that people do not see.
A measurement that is not there was not observed. Answer with JSON alone: label ("automation", "reader" or "unsure"), confidence (0 to 1) and reasons (the names of up to
eight of the given facts that count most).`

// request is the call for a question.
func request(model, text string, q *Question) *chat.Request {
	names := make([]string, len(q.Facts))
	for i := range q.Facts {
		names[i] = q.Facts[i].Name
	}
	schema, err := json.Marshal(map[string]any{
		"type": "object", "additionalProperties": false, "required": []string{"label", "confidence", "reasons"},
		"properties": map[string]any{
			"label":      map[string]any{"type": "string", "enum": []string{Automation, Reader, Unsure}},
			"confidence": map[string]any{"type": "number"},
			"reasons":    map[string]any{"type": "array", "items": map[string]any{"type": "string", "enum": names}},
		},
	})
	if err != nil {
		panic("opinion: the schema cannot be written: " + err.Error())
	}
	strict, zero := true, 0.0
	return &chat.Request{
		Model: model, MaxTokens: answerTokens, Temperature: &zero,
		Messages:       []chat.Message{{Role: chat.RoleSystem, Content: chat.Text(instruction)}, {Role: chat.RoleUser, Content: chat.Text(text)}},
		ResponseFormat: &chat.ResponseFormat{Type: "json_schema", JSONSchema: &chat.JSONSchema{Name: "opinion", Schema: schema, Strict: &strict}},
	}
}

// parse reads an answer. What does not fit is ErrNonsense.
func parse(r *chat.Response, q *Question) (Answer, error) {
	bad := func(format string, args ...any) (Answer, error) {
		return Answer{}, fmt.Errorf("%w: %s", ErrNonsense, fmt.Sprintf(format, args...))
	}
	if len(r.Choices) == 0 {
		return bad("it is empty")
	}
	c := &r.Choices[0]
	if c.FinishReason != chat.FinishStop {
		return bad("it ends with %.40q", c.FinishReason)
	}
	var in struct {
		Label      *string
		Confidence *float64
		Reasons    []string
	}
	d := json.NewDecoder(bytes.NewReader([]byte(strings.TrimSpace(c.Message.Content.Text()))))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return bad("it is not the JSON that was asked for")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("there is more than JSON in it")
	}
	switch {
	case in.Label == nil || *in.Label != Automation && *in.Label != Reader && *in.Label != Unsure:
		return bad("its label is none")
	case in.Confidence == nil || !(*in.Confidence >= 0 && *in.Confidence <= 1):
		return bad("its confidence is not 0 to 1")
	case len(in.Reasons) > maxReasons || len(in.Reasons) == 0 && *in.Label != Unsure:
		return bad("it has %d reasons", len(in.Reasons))
	}
	for _, name := range in.Reasons {
		if !slices.ContainsFunc(q.Facts, func(f Fact) bool { return f.Name == name }) {
			return bad("a reason is no fact that was given")
		}
	}
	return Answer{Label: *in.Label, Confidence: *in.Confidence, Reasons: in.Reasons}, nil
}

// Fact is one measurement.
type Fact struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"` // to two digits, so that cases that look the same have the same question
	Means string  `json:"means"`
}

// Question is what a model gets to see of a case.
type Question struct {
	Subject  string   `json:"subject"` // "client" or "campaign"
	Claims   string   `json:"claims"`  // kind of program by its User-Agent
	Identity string   `json:"identity"`
	Asked    []string `json:"asked,omitempty"` // kinds of addresses
	Facts    []Fact   `json:"facts"`
}

// NewQuestion makes the question of a case.
func NewQuestion(c *defense.Case) Question {
	q := Question{Subject: "client", Claims: c.Family.String(), Identity: c.Identity.Status.String()}
	if c.Kind == defense.CaseCampaign {
		q.Subject = "campaign"
	}
	for _, p := range c.Paths {
		if k := kindOf(p); !slices.Contains(q.Asked, k) {
			q.Asked = append(q.Asked, k)
		}
	}
	slices.Sort(q.Asked)
	for _, f := range behaviour.Schema() {
		v, ok := c.Features.Values[f.Name]
		if !ok || v != v || f.Campaign && q.Subject == "client" {
			continue
		}
		v = rounded(v)
		q.Facts = append(q.Facts, Fact{f.Name, v, behaviour.Describe(f.Name, v)})
	}
	return q
}
