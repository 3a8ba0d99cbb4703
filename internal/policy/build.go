package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// builder compiles a merged policy. Specs that several sections share are
// compiled once.
type builder struct {
	conds    *conditions
	problems *problems
	rules    map[*ruleSpec]*rule
	limits   map[*thresholdSpec]*threshold
	budgets  map[*budgetSpec]Budget
	classes  map[*classSpec]class
	envs     *envPool
}

// build compiles b into p, reporting problems to ps. The error is one of the
// machinery, not of the policy.
func (p *Policy) build(b bundle, voc Vocabulary, ps *problems) error {
	layers := []*layer{&b.general}
	for _, h := range b.hosts {
		layers = append(layers, &h.layer)
	}
	var classes []string
	rules := 0
	signals := slices.Clone(voc.Signals)
	for _, lay := range layers {
		for _, c := range lay.classes {
			if !slices.Contains(classes, c.name) {
				classes = append(classes, c.name)
			}
		}
		rules += len(lay.rules)
		for _, r := range lay.rules {
			if r.scores && voc.Signals != nil {
				signals = append(signals, r.name)
			}
		}
	}
	if rules > maxRules {
		ps.errorf(position{file: p.name}, "has %d rules; at most %d are allowed", rules, maxRules)
		return nil
	}
	lists := make(map[string]*list, len(b.lists))
	for _, l := range b.lists {
		lists[l.name] = compileList(l, ps)
	}
	conds, err := newConditions(voc, classes, lists, signals, ps)
	if err != nil {
		return err
	}
	bu := &builder{conds: conds, problems: ps, rules: map[*ruleSpec]*rule{}, limits: map[*thresholdSpec]*threshold{},
		budgets: map[*budgetSpec]Budget{}, classes: map[*classSpec]class{}, envs: &envPool{}}
	p.general = bu.section("", b.general, classes)
	p.order = []*Section{p.general}
	p.hosts = make(map[string]*Section, len(b.hosts))
	for _, h := range b.hosts {
		s := bu.section(h.pattern, mergeLayer(h.layer, b.general), classes)
		key := h.pattern
		if rest, ok := strings.CutPrefix(key, "*."); ok {
			key = "." + rest
			p.wildcards = true
		}
		p.hosts[key] = s
		p.order = append(p.order, s)
	}
	return nil
}

// section compiles what counts for one host.
func (b *builder) section(host string, lay layer, classes []string) *Section {
	s := &Section{host: host, envs: b.envs}
	for _, c := range lay.classes {
		s.classes = append(s.classes, b.class(c))
	}
	if len(lay.signals) > 0 {
		s.weights = make(map[string]int, len(lay.signals))
	}
	for _, o := range lay.signals {
		if known := b.conds.signals; known != nil && !slices.Contains(known, o.name) {
			b.problems.errorf(o.at, "unknown signal %q%s", clip(o.name), hint(o.name, known))
		}
		s.weights[o.name] = o.weight
	}
	for _, spec := range lay.rules {
		s.rules = append(s.rules, b.rule(spec))
	}
	for _, spec := range lay.thresholds {
		s.thresholds = append(s.thresholds, b.threshold(spec))
	}
	slices.SortStableFunc(s.thresholds, func(x, y *threshold) int {
		// Of equal scores the one that needs the tenser posture is the more special.
		return cmp.Or(y.score-x.score, int(y.posture)-int(x.posture))
	})
	for i := 1; i < len(s.thresholds); i++ {
		x, y := s.thresholds[i-1], s.thresholds[i]
		if x.score == y.score && x.posture == y.posture && !x.shadow && !y.shadow {
			b.problems.errorf(y.at, "there are two thresholds for score %d and posture %s", y.score, y.posture)
		}
	}
	b.reachable(s)
	for _, spec := range lay.budgets {
		s.budgets = append(s.budgets, b.budget(spec, classes))
	}
	return s
}

func (b *builder) class(spec *classSpec) class {
	if c, ok := b.classes[spec]; ok {
		return c
	}
	c := class{name: spec.name}
	for _, e := range spec.entries {
		if e.when != nil {
			if cond, ok := b.conds.compile(e.when, fmt.Sprintf("class %q", spec.name), inClass); ok {
				c.whens = append(c.whens, &cond)
			}
			continue
		}
		g, err := compileGlob(e.glob.text)
		if err != nil {
			b.problems.errorf(e.glob.at, "class %q: the path pattern %q %v", spec.name, clip(e.glob.text), err)
			continue
		}
		c.globs = append(c.globs, g)
	}
	b.classes[spec] = c
	return c
}

func (b *builder) rule(spec *ruleSpec) *rule {
	if r, ok := b.rules[spec]; ok {
		return r
	}
	r := &rule{name: spec.name, at: spec.at, action: spec.action, scores: spec.scores, shadow: spec.shadow,
		posture: spec.posture, basis: spec.basis, reason: spec.reason, retryAfter: spec.retryAfter, how: spec.how}
	b.rules[spec] = r
	if spec.when == nil {
		return r // reported
	}
	r.source = printable(strings.Join(strings.Fields(spec.when.text), " "))
	if r.reason == "" {
		r.reason = DefaultReason + r.source
	}
	r.effect = r.action.String() + r.how.String()
	if r.scores {
		r.effect = fmt.Sprintf("score %+d", spec.score)
		r.signal = defense.Signal{Name: spec.name, Weight: spec.score, Sentence: r.reason}
	}
	var ok bool
	if r.cond, ok = b.conds.compile(spec.when, fmt.Sprintf("rule %q", spec.name), inRule); !ok {
		return r
	}
	if r.cond.constant && !r.cond.value {
		b.problems.warnf(spec.at, "rule %q can never match: its condition is always false", spec.name)
	}
	return r
}

// String tells what differs from an ordinary challenge.
func (c challenge) String() string {
	s := ""
	if c.ladder != (defense.Ladder{}) {
		s = " (" + c.ladder.String() + ")"
	}
	if c.status != 0 {
		s += fmt.Sprintf(" with status %d", c.status)
	}
	return s
}

// reachable warns of rules behind one that always decides.
func (b *builder) reachable(s *Section) {
	for i, r := range s.rules {
		if !r.cond.constant || !r.cond.value || r.scores || r.shadow || r.posture > defense.Calm {
			continue
		}
		if rest := s.rules[i+1:]; len(rest) > 0 {
			b.problems.warnf(r.at, "rule %q always matches, so the %d rules after it are never reached, beginning with %q (%s:%d)",
				r.name, len(rest), rest[0].name, rest[0].at.file, rest[0].at.line)
		}
		if len(s.thresholds) > 0 {
			b.problems.warnf(r.at, "rule %q always matches, so the thresholds are never reached", r.name)
		}
		return
	}
}

func (b *builder) threshold(spec *thresholdSpec) *threshold {
	if t, ok := b.limits[spec]; ok {
		return t
	}
	t := &threshold{name: "threshold:" + strconv.Itoa(spec.score), at: spec.at, score: spec.score, action: spec.action,
		shadow: spec.shadow, posture: spec.posture, effect: spec.action.String() + spec.how.String(), reason: spec.reason, retryAfter: spec.retryAfter, how: spec.how}
	if t.reason == "" {
		t.reason = fmt.Sprintf("the signals together reach a score of %d", spec.score)
	}
	b.limits[spec] = t
	return t
}

func (b *builder) budget(spec *budgetSpec, classes []string) Budget {
	if out, ok := b.budgets[spec]; ok {
		return out
	}
	out := spec.budget
	out.kinds = kindSet(out.Kinds)
	if out.Class != "" && !slices.Contains(classes, out.Class) {
		b.problems.errorf(spec.class.at, "budget %q: there is no class %q%s", out.Name, out.Class, hint(out.Class, classes))
	}
	if out.Per == PerClass && len(classes) == 0 {
		b.problems.errorf(spec.at, "budget %q counts per class, but the policy has no classes", out.Name)
	}
	if spec.when != nil {
		if cond, ok := b.conds.compile(spec.when, fmt.Sprintf("budget %q", out.Name), inBudget); ok {
			out.when, out.envs = &cond, b.envs
		}
	}
	if out.Reason == "" {
		out.Reason = fmt.Sprintf("more requests than the budget %q allows for one %s", out.Name, out.Per)
		if out.Per == PerSite {
			out.Reason = fmt.Sprintf("more requests than the budget %q allows for the site", out.Name)
		}
	}
	b.budgets[spec] = out
	return out
}
