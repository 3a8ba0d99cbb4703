package policy

import (
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Policy is a compiled policy. It is immutable and safe for concurrent use.
type Policy struct {
	name        string
	description string
	hash        string
	files       []string
	warnings    []Problem
	general     *Section
	hosts       map[string]*Section // by exact name and by ".suffix" for a wildcard
	wildcards   bool
	order       []*Section // general first, then hosts as written
}

// Name returns the policy's own name, or that of its file when it has none.
func (p *Policy) Name() string { return p.name }

// Description returns what the policy says of itself.
func (p *Policy) Description() string { return p.description }

// Hash returns 16 hexadecimal digits that change when any of the policy's
// sources, imports included, does.
func (p *Policy) Hash() string { return p.hash }

// Files returns the files that the policy was read from, for watching; presets
// are not among them.
func (p *Policy) Files() []string { return p.files }

// Warnings returns what is doubtful but not wrong.
func (p *Policy) Warnings() []Problem { return p.warnings }

// Section returns the rules for a host (lower case, without port): those of the
// host's own section before the general ones. Of several sections that fit, the
// exact name wins, then the longest wildcard. It is never nil.
func (p *Policy) Section(host string) *Section {
	if len(p.hosts) == 0 {
		return p.general
	}
	if s, ok := p.hosts[host]; ok && host != "" && host[0] != '.' {
		return s
	}
	for rest := host; p.wildcards; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			break
		}
		if s, ok := p.hosts[rest[i:]]; ok {
			return s
		}
		rest = rest[i+1:]
	}
	return p.general
}

// RuleInfo describes one rule or threshold of a policy for people and tools.
type RuleInfo struct {
	Host    string `json:"host,omitempty"` // "" for a general rule
	Name    string `json:"name"`           // "threshold:50" for a threshold
	When    string `json:"when,omitempty"` // the condition as written
	Effect  string `json:"effect"`         // "deny", "score +10"
	Mode    string `json:"mode"`           // "enforce" or "shadow"
	Posture string `json:"posture"`        // the least posture
	Basis   string `json:"basis,omitempty"`
	Reason  string `json:"reason"`
	File    string `json:"file"`
	Line    int    `json:"line"`
}

// DefaultReason begins the reason of a rule that gives none; the condition follows. It is for
// the owner: who is refused should not be told how to get round it.
const DefaultReason = "the request matches: "

// Rules lists all rules and thresholds in the order in which they are judged:
// the general ones, then those that each host adds.
func (p *Policy) Rules() []RuleInfo {
	var out []RuleInfo
	seen := map[any]bool{}
	for _, s := range p.order {
		for _, r := range s.rules {
			if seen[r] {
				continue
			}
			seen[r] = true
			info := RuleInfo{Host: s.host, Name: r.name, When: r.source, Effect: r.effect, Mode: modeName(r.shadow),
				Posture: r.posture.String(), Reason: r.reason, File: r.at.file, Line: r.at.line}
			if !r.scores {
				info.Basis = r.basis.String()
			}
			out = append(out, info)
		}
		for _, t := range s.thresholds {
			if seen[t] {
				continue
			}
			seen[t] = true
			out = append(out, RuleInfo{Host: s.host, Name: t.name, Effect: t.action.String(), Mode: modeName(t.shadow),
				Posture: t.posture.String(), Basis: defense.BasisJudged.String(), Reason: t.reason, File: t.at.file, Line: t.at.line})
		}
	}
	return out
}

func modeName(shadow bool) string {
	if shadow {
		return "shadow"
	}
	return "enforce"
}

// Section is what a policy says about one host.
type Section struct {
	host       string
	classes    []class
	weights    map[string]int
	rules      []*rule
	thresholds []*threshold // highest score first
	budgets    []Budget
	envs       *envPool
}

type class struct {
	name  string
	globs []*glob
	whens []*condition
}

type rule struct {
	name       string
	at         position
	source     string
	cond       condition
	action     defense.Action
	scores     bool
	shadow     bool
	posture    defense.Posture
	basis      defense.Basis
	signal     defense.Signal // what a score rule adds
	effect     string         // for explanations
	reason     string
	retryAfter time.Duration
	how        challenge
}

type threshold struct {
	name       string
	at         position
	score      int
	action     defense.Action
	shadow     bool
	posture    defense.Posture
	effect     string
	reason     string
	retryAfter time.Duration
	how        challenge
}

// Class returns the name of the first path class that the request belongs to,
// or "". Paths are looked at first, then the class's conditions.
func (s *Section) Class(pr *defense.Profile) string {
	var e *env
	defer func() {
		if e != nil {
			s.envs.put(e)
		}
	}()
	for i := range s.classes {
		c := &s.classes[i]
		for _, g := range c.globs {
			if g.match(pr.Path) {
				return c.name
			}
		}
		for _, w := range c.whens {
			if e == nil {
				e = s.envs.get(pr)
			}
			if w.eval(e) == yes {
				return c.name
			}
		}
	}
	return ""
}

// Budgets returns the budgets that count for the host, own ones first. The
// caller must not change them.
func (s *Section) Budgets() []Budget { return s.budgets }

// Input is what a policy judges.
type Input struct {
	Profile *defense.Profile
	Posture defense.Posture
	Signals []defense.Signal // with the weights of their catalogue
	Explain bool             // fill Outcome.Trace
}

// Outcome is what a policy says about one request. The zero value is ready; a
// caller that reuses one keeps its slices and allocates nothing.
type Outcome struct {
	Signals    []defense.Signal // the input's with the policy's weights, then the score rules that fired
	Score      int              // 0..100
	Action     defense.Action
	Rule       string // the rule, or "threshold:50"; "" when nothing decided and the request passes
	Reason     string
	Basis      defense.Basis
	RetryAfter time.Duration
	Ladder     defense.Ladder // for Challenge; zero: the configured one
	Status     int            // for Challenge; 0: 429
	Shadow     []defense.ShadowHit
	Trace      []Step // only with Input.Explain

	env env // here so that judging allocates nothing
}

// Step is one line of an explanation: a rule or threshold that was considered.
type Step struct {
	Rule    string `json:"rule"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	When    string `json:"when,omitempty"`
	Matched bool   `json:"matched"`
	Effect  string `json:"effect"`            // what it does when it matches: "deny", "score +10"
	Skipped string `json:"skipped,omitempty"` // why it did not count: posture, mode, kind of request
	Error   string `json:"error,omitempty"`   // why its condition came to nothing
}

const alwaysReadable = "what tells crawlers how to behave (robots.txt, sitemaps, /.well-known/) stays readable"

// Evaluate judges a request: the signals' weights, then the rules in order until
// one with an action matches, then, if none did, the thresholds. It overwrites
// out. in.Signals may share its array with out.Signals only when both begin at
// the same element.
//
// Rules and thresholds that would stop a kind of request that is always
// readable (see [defense.Kind.AlwaysReadable]) do not count. How a verdict is
// answered, and that only navigations are shown a challenge, is the edge's matter.
func (s *Section) Evaluate(in *Input, out *Outcome) {
	*out = Outcome{Signals: out.Signals[:0], Shadow: out.Shadow[:0], Trace: out.Trace[:0]}
	e := &out.env
	e.p, e.posture = in.Profile, in.Posture
	sum := 0
	for _, sig := range in.Signals {
		if len(s.weights) > 0 {
			if w, ok := s.weights[sig.Name]; ok {
				if w == 0 {
					continue
				}
				sig.Weight = w
			}
		}
		sum += sig.Weight
		out.Signals = append(out.Signals, sig)
	}
	e.sum, e.signals = sum, out.Signals
	readable := in.Profile.Kind.AlwaysReadable()
	decided := false
	for _, r := range s.rules {
		if in.Posture < r.posture || readable && r.action.Stops() {
			if in.Explain {
				out.skip(r, in.Posture)
			}
			continue
		}
		matched := r.cond.eval(e)
		if in.Explain {
			out.step(r, matched)
		}
		if matched != yes {
			continue
		}
		if r.shadow {
			out.Shadow = append(out.Shadow, defense.ShadowHit{Rule: r.name, Action: r.action, Score: r.signal.Weight})
			continue
		}
		if r.scores {
			e.sum += r.signal.Weight
			out.Signals = append(out.Signals, r.signal)
			e.signals = out.Signals
			continue
		}
		out.Action, out.Rule, out.Reason, out.Basis, out.RetryAfter = r.action, r.name, r.reason, r.basis, r.retryAfter
		out.Ladder, out.Status = r.how.ladder, r.how.status
		decided = true
		break
	}
	out.Score = defense.ClampScore(e.sum)
	if !decided {
		s.threshold(in, out, readable)
	}
	e.p, e.signals, e.err = nil, nil, nil // a reused Outcome must not keep the profile alive
}

// threshold applies the highest threshold that the score reaches.
func (s *Section) threshold(in *Input, out *Outcome, readable bool) {
	for _, t := range s.thresholds {
		if out.Score < t.score {
			if in.Explain {
				out.Trace = append(out.Trace, t.step(false, ""))
			}
			continue
		}
		switch {
		case in.Posture < t.posture:
			if in.Explain {
				out.Trace = append(out.Trace, t.step(true, "needs posture "+t.posture.String()+", the edge is "+in.Posture.String()))
			}
		case readable && t.action.Stops():
			if in.Explain {
				out.Trace = append(out.Trace, t.step(true, alwaysReadable))
			}
		case t.shadow:
			if in.Explain {
				out.Trace = append(out.Trace, t.step(true, "shadow: only reported"))
			}
			out.Shadow = append(out.Shadow, defense.ShadowHit{Rule: t.name, Action: t.action, Score: out.Score})
		default:
			if in.Explain {
				out.Trace = append(out.Trace, t.step(true, ""))
			}
			out.Action, out.Rule, out.Reason, out.RetryAfter = t.action, t.name, t.reason, t.retryAfter
			out.Ladder, out.Status = t.how.ladder, t.how.status
			return
		}
	}
}

func (t *threshold) step(matched bool, skipped string) Step {
	return Step{Rule: t.name, File: t.at.file, Line: t.at.line, Matched: matched, Effect: t.effect, Skipped: skipped}
}

// skip records a rule that does not count for this request.
func (out *Outcome) skip(r *rule, posture defense.Posture) {
	why := alwaysReadable
	if posture < r.posture {
		why = "needs posture " + r.posture.String() + ", the edge is " + posture.String()
	}
	out.Trace = append(out.Trace, Step{Rule: r.name, File: r.at.file, Line: r.at.line, When: r.source, Effect: r.effect, Skipped: why})
}

// step records a rule whose condition was asked.
func (out *Outcome) step(r *rule, t truth) {
	step := Step{Rule: r.name, File: r.at.file, Line: r.at.line, When: r.source, Matched: t == yes, Effect: r.effect}
	if t == failed && out.env.err != nil {
		step.Error = out.env.err.Error()
	}
	if t == yes && r.shadow {
		step.Skipped = "shadow: only reported"
	}
	out.Trace = append(out.Trace, step)
}
