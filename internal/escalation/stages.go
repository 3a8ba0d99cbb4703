package escalation

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/quickthorn/quickthorn/internal/behaviour"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/plain"
	"github.com/quickthorn/quickthorn/internal/reputation"
)

// Stage is one way to judge a case. Judge must be safe for concurrent use, must not change the case, and ends when ctx does. An error
// leaves the stage without a say in this judgement and is kept with it.
type Stage interface {
	Name() string
	Judge(ctx context.Context, c *defense.Case) (Opinion, error)
}

// Opinion is what a stage says.
type Opinion struct {
	Score  float64 // how likely this is unwanted automation, 0..1
	Weight float64 // 0: no opinion, 1: its full weight by the settings
	// Group names evidence that does not come from the case's features and counts as a group of its own; "" if it is not.
	Group         string
	Sentence      string
	Contributions []defense.Contribution // the weightiest first; at most 12 are kept
}

// Model is a trained model. Predict returns a probability 0..1 with its parts in log-odds, the weightiest first; ok is false
// when it knows too little of the case. Both are safe for concurrent use.
type Model interface {
	Predict(f defense.Features) (p float64, parts []defense.Contribution, ok bool)
	Version() string
}

// Reputation knows what others know about a client; *reputation.Checker is one.
type Reputation interface {
	Check(ctx context.Context, client netip.Prefix) (reputation.Verdict, error)
}

// Advisor is asked for another opinion in the grey zone: a probability 0..1 and a sentence.
type Advisor interface {
	Ask(ctx context.Context, c *defense.Case) (score float64, sentence string, err error)
}

// errSchema says that the features are not those that this version knows.
func errSchema(c *defense.Case) error {
	if c.Features.Schema != behaviour.SchemaVersion {
		return fmt.Errorf("the case has features of schema %d, this version knows %d", c.Features.Schema, behaviour.SchemaVersion)
	}
	return nil
}

// behaviourStage weighs what the client did.
type behaviourStage struct {
	rules    []rule
	evidence Evidence
}

func (*behaviourStage) Name() string { return StageBehaviour }

func (s *behaviourStage) Judge(_ context.Context, c *defense.Case) (Opinion, error) {
	if err := errSchema(c); err != nil {
		return Opinion{}, err
	}
	v := newView(c)
	e := weigh(s.rules, v, &s.evidence)
	o := Opinion{Score: sigmoid(e.sum), Weight: 1, Sentence: e.sentence(v), Contributions: e.contributions()}
	if len(e.parts) == 0 {
		o.Score, o.Weight = 0.5, 0
	}
	return o, nil
}

// modelStage asks the trained model.
type modelStage struct{ model Model }

func (*modelStage) Name() string { return StageModel }

func (s *modelStage) Judge(_ context.Context, c *defense.Case) (Opinion, error) {
	if err := errSchema(c); err != nil {
		return Opinion{}, err
	}
	p, parts, ok := s.model.Predict(c.Features)
	if !ok {
		return Opinion{Score: 0.5, Sentence: "model " + s.model.Version() + " knows too little of this to say"}, nil
	}
	return Opinion{Score: p, Weight: 1, Contributions: parts, Sentence: fmt.Sprintf("model %s gives %s that this is automation", s.model.Version(), percent(p))}, nil
}

// reputationStage asks what others know: of a client itself, of a campaign a few members.
type reputationStage struct{ reputation Reputation }

// Of a campaign's members so many are asked about, so many at once.
const (
	askedMembers = 16
	askedAtOnce  = 4
)

func (*reputationStage) Name() string { return StageReputation }

func (s *reputationStage) Judge(ctx context.Context, c *defense.Case) (Opinion, error) {
	if c.Kind == defense.CaseCampaign {
		return s.members(ctx, c)
	}
	client, ok := clientOf(c.Key)
	if !ok {
		return Opinion{Score: 0.5, Sentence: "there is no address to ask about"}, nil
	}
	v, err := s.reputation.Check(ctx, client)
	if len(v.Listed) == 0 {
		return Opinion{Score: 0.5, Sentence: v.Sentence}, err
	}
	return Opinion{
		Score: v.Score, Weight: 1, Group: groupReputation, Sentence: v.Sentence,
		Contributions: []defense.Contribution{{Name: "listed", Value: float64(len(v.Listed)), LogOdds: logit(v.Score), Sentence: v.Sentence}},
	}, nil // one source that knows is enough
}

func (s *reputationStage) members(ctx context.Context, c *defense.Case) (Opinion, error) {
	members := clientsOf(c.Members.Sample)
	if len(members) > askedMembers {
		// Spread over the sample, and always the same ones.
		for i := range askedMembers {
			members[i] = members[i*len(members)/askedMembers]
		}
		members = members[:askedMembers]
	}
	if len(members) == 0 {
		return Opinion{Score: 0.5, Sentence: "there are no addresses to ask about"}, nil
	}
	listed, problems := make([]bool, len(members)), make([]error, len(members))
	slots := make(chan struct{}, askedAtOnce)
	var asked sync.WaitGroup
	for i, m := range members {
		slots <- struct{}{}
		asked.Go(func() {
			defer func() { <-slots }()
			var v reputation.Verdict
			v, problems[i] = s.reputation.Check(ctx, m)
			listed[i] = len(v.Listed) > 0
		})
	}
	asked.Wait()
	n, known := 0, 0
	for i := range members {
		if listed[i] {
			n++
		}
		if listed[i] || problems[i] == nil {
			known++
		}
	}
	if known*2 < len(members) {
		return Opinion{Score: 0.5}, errors.Join(problems[0], fmt.Errorf("nothing is known of %d of %d members", len(members)-known, len(members)))
	}
	sentence := fmt.Sprintf("%d of %d members asked about are on a list", n, known)
	listedShare := float64(n) / float64(known)
	// Some households are on some list; a crowd of which most are is none of households.
	score := curve{{0.2, 0.5}, {0.5, 0.7}, {0.9, 0.9}}.at(listedShare)
	if score <= 0.5 {
		return Opinion{Score: 0.5, Sentence: sentence}, nil
	}
	return Opinion{
		Score: score, Weight: 1, Group: groupReputation, Sentence: sentence,
		Contributions: []defense.Contribution{{Name: "listed", Value: listedShare, LogOdds: logit(score), Sentence: sentence}},
	}, nil
}

// opinionStage asks the advisor. The engine does so in the grey zone only.
type opinionStage struct{ advisor Advisor }

func (*opinionStage) Name() string { return StageOpinion }

func (s *opinionStage) Judge(ctx context.Context, c *defense.Case) (Opinion, error) {
	score, sentence, err := s.advisor.Ask(ctx, c)
	if err != nil {
		return Opinion{}, err
	}
	return Opinion{Score: score, Weight: 1, Sentence: sentence}, nil
}

// clientOf reads a client's address or IPv6 /64 and returns it as it is counted.
func clientOf(key string) (netip.Prefix, bool) {
	p, err := defense.ParseAddressOrPrefix(key)
	if err != nil {
		return netip.Prefix{}, false
	}
	counted := defense.NewClient(p.Addr()).Counted
	if p.Bits() < counted.Bits() {
		return netip.Prefix{}, false // a network
	}
	return counted, true
}

// clientsOf reads the sample of a campaign's members: the same ones in the same order, each once, at most maxSample.
func clientsOf(sample []string) []netip.Prefix {
	out := make([]netip.Prefix, 0, min(len(sample), maxSample))
	seen := make(map[netip.Prefix]bool)
	for _, s := range sample {
		if c, ok := clientOf(s); ok && !seen[c] && len(out) < maxSample {
			seen[c] = true
			out = append(out, c)
		}
	}
	return out
}

// clean makes a text that a stage has from elsewhere fit to be kept and shown: one line, at most 400 bytes.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if plain.Unsafe(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
	if len(s) <= maxSentence {
		return s
	}
	end := maxSentence - len("…")
	for end > 0 && s[end]&0xc0 == 0x80 {
		end--
	}
	return s[:end] + "…"
}

const maxSentence = 400
