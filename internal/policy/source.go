package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// The bounds of a policy's parts.
const (
	maxRules      = 2000 // over all files and hosts
	maxExpression = 4 << 10
	maxName       = 100 // bytes of a rule's, class's, list's or budget's name
	maxReason     = 500 // bytes
	maxRetryAfter = 24 * time.Hour
)

// document is one policy file as written.
type document struct {
	at          position
	name        string
	description string
	imports     []located
	disable     []located
	lists       []*listSpec
	general     layer
	hosts       []*hostSpec
}

// layer is what may stand at the top of a file and under a host.
type layer struct {
	classes       []*classSpec
	signals       []*signalSpec
	rules         []*ruleSpec
	thresholds    []*thresholdSpec
	hasThresholds bool // thresholds were given, be it as an empty list
	budgets       []*budgetSpec
}

type hostSpec struct {
	pattern string
	at      position
	layer   layer
}

type listSpec struct {
	name    string
	at      position
	entries []located
}

type classSpec struct {
	name    string
	at      position
	entries []classEntry
}

type classEntry struct {
	glob located
	when *condSpec // instead of glob
}

type signalSpec struct {
	name   string
	at     position
	weight int
}

// condSpec is a condition's source.
type condSpec struct {
	text string
	src  sourceMap
}

type ruleSpec struct {
	name       string
	at         position
	when       *condSpec
	score      int
	scores     bool // score rule; otherwise action
	action     defense.Action
	shadow     bool
	posture    defense.Posture
	basis      defense.Basis
	reason     string
	retryAfter time.Duration
	how        challenge
}

type thresholdSpec struct {
	at         position
	score      int
	action     defense.Action
	shadow     bool
	posture    defense.Posture
	reason     string
	retryAfter time.Duration
	how        challenge
}

// challenge is how a rule or threshold with that action wants it.
type challenge struct {
	ladder defense.Ladder // zero: the configured one
	status int            // of the page's answer; 0: 429
}

type budgetSpec struct {
	at     position
	class  located
	when   *condSpec
	budget Budget
}

// readDocument reads one file's structure. What is wrong is reported to ps and
// left out of the result.
func readDocument(file string, src []byte, ps *problems) *document {
	r, root := parseYAML(file, src, ps)
	if root == nil {
		return nil
	}
	d := &document{at: position{file: file}}
	fields := []field{
		{"name", func(n ast.Node) { d.name = r.name(n, "the policy's name") }},
		{"description", func(n ast.Node) { d.description, _ = r.text(n, "the description") }},
		{"imports", func(n ast.Node) { d.imports = r.strings(n, "imports") }},
		{"disable", func(n ast.Node) { d.disable = r.strings(n, "disable") }},
		{"lists", func(n ast.Node) { d.lists = r.lists(n) }},
		{"hosts", func(n ast.Node) { d.hosts = r.hosts(n) }},
	}
	r.fields(root, "a policy", append(fields, r.layerFields(&d.general)...))
	return d
}

func (r *yamlReader) layerFields(l *layer) []field {
	return []field{
		{"classes", func(n ast.Node) { l.classes = r.classes(n) }},
		{"signals", func(n ast.Node) { l.signals = r.signals(n) }},
		{"rules", func(n ast.Node) { l.rules = r.rules(n) }},
		{"thresholds", func(n ast.Node) { l.thresholds, l.hasThresholds = r.thresholds(n), true }},
		{"budgets", func(n ast.Node) { l.budgets = r.budgets(n) }},
	}
}

// name reads a name: a word without spaces or control characters.
func (r *yamlReader) name(n ast.Node, what string) string {
	s, ok := r.text(n, what)
	if ok && !validName(s) {
		r.errorf(n, "%s is at most %d letters, digits, '-', '_' and '.', not %q", what, maxName, clip(s))
		return ""
	}
	return s
}

func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	return strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')
	}) < 0
}

// clip bounds a text that is quoted in a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

func (r *yamlReader) reason(n ast.Node) string {
	s, ok := r.text(n, "reason")
	s = strings.Join(strings.Fields(s), " ")
	if ok && (s == "" || len(s) > maxReason || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })) {
		r.errorf(n, "reason is one sentence of at most %d bytes", maxReason)
	}
	return s
}

func (r *yamlReader) condition(n ast.Node) *condSpec {
	s, ok := r.text(n, "when")
	switch {
	case !ok:
		return nil
	case strings.TrimSpace(s) == "":
		r.errorf(n, "when is empty; write \"true\" for a condition that always holds")
		return nil
	case len(s) > maxExpression:
		r.errorf(n, "the condition is %d bytes long; at most %d are allowed", len(s), maxExpression)
		return nil
	}
	return &condSpec{s, r.mapSource(n, s)}
}

func (r *yamlReader) posture(n ast.Node, p *defense.Posture) {
	if i, ok := r.oneOf(n, "posture", enumNames(func(i uint8) string { return defense.Posture(i).String() })); ok {
		*p = defense.Posture(i)
	}
}

func (r *yamlReader) mode(n ast.Node, shadow *bool) {
	if i, ok := r.oneOf(n, "mode", []string{"enforce", "shadow"}); ok {
		*shadow = i == 1
	}
}

func (r *yamlReader) basis(n ast.Node, b *defense.Basis) {
	if i, ok := r.oneOf(n, "basis", []string{"judged", "certain"}); ok {
		*b = defense.Basis(i)
	}
}

func (r *yamlReader) retryAfter(n ast.Node, d *time.Duration) {
	s, ok := r.text(n, "retryAfter")
	if !ok {
		return
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < time.Second || v > maxRetryAfter {
		r.errorf(n, "retryAfter is a duration from 1s to 24h such as 60s or 5m, not %q", clip(s))
		return
	}
	*d = v
}

// kindsOfChallenge reads a ladder.
func (r *yamlReader) kindsOfChallenge(n ast.Node, l *defense.Ladder) {
	var known []string
	for _, k := range defense.ChallengeKinds() {
		known = append(known, k.String())
	}
	var kinds []defense.ChallengeKind
	for _, item := range r.list(n, "challenge") {
		if i, ok := r.oneOf(item, "kind of challenge", known); ok {
			kinds = append(kinds, defense.ChallengeKinds()[i])
		}
	}
	ladder, err := defense.NewLadder(kinds...)
	if err != nil {
		r.errorf(n, "%v", err)
		return
	}
	*l = ladder
}

// challengeStatuses are what a challenge may be answered with. 200 is not among them: a search engine would
// take the page for the site's own.
var challengeStatuses = []int{403, 429, 503}

func (r *yamlReader) status(n ast.Node, status *int) {
	if i, ok := r.integer(n, "status", 100, 599); ok && !slices.Contains(challengeStatuses, i) {
		r.errorf(n, "a challenge is answered with status 429, 503 or 403, not %d: with another, search engines would take its page for the site's own, or drop the site's", i)
	} else if ok {
		*status = i
	}
}

// challenges are the fields that belong to the action challenge.
func (r *yamlReader) challenges(c *challenge) []field {
	return []field{
		{"challenge", func(n ast.Node) { r.kindsOfChallenge(n, &c.ladder) }},
		{"status", func(n ast.Node) { r.status(n, &c.status) }},
	}
}

// otherActions are words that people use for actions, with ours.
var otherActions = [...][2]string{
	{"block", "deny"}, {"ban", "deny"}, {"reject", "deny"}, {"drop", "deny"}, {"forbid", "deny"},
	{"pass", "allow"}, {"accept", "allow"}, {"permit", "allow"}, {"log", "observe"}, {"captcha", "challenge"},
	{"limit", "throttle"}, {"ratelimit", "throttle"}, {"slow", "tarpit"},
}

func (r *yamlReader) action(n ast.Node, a *defense.Action) bool {
	s, ok := r.text(n, "action")
	if !ok {
		return false
	}
	known := enumNames(func(i uint8) string { return defense.Action(i).String() })
	if i := slices.Index(known, s); i >= 0 {
		if *a = defense.Action(i); *a == defense.Charge {
			r.errorf(n, "action %q: charge is not built yet", s)
			return false
		}
		return true
	}
	known = known[:defense.Charge]
	words := slices.Clone(known)
	for _, w := range otherActions {
		words = append(words, w[0])
	}
	h := hint(s, words)
	for _, w := range otherActions {
		if w[0] == s {
			h = "" // the exact word: its hint would be itself
		}
		if h == fmt.Sprintf(" (did you mean %q?)", w[0]) || w[0] == s {
			h = fmt.Sprintf(" (did you mean %q?)", w[1])
		}
	}
	if !strings.Contains(h, "did you mean") {
		h = " (known: " + strings.Join(known, ", ") + ")"
	}
	r.errorf(n, "unknown action %q%s", clip(s), h)
	return false
}

func (r *yamlReader) rules(n ast.Node) []*ruleSpec {
	var out []*ruleSpec
	for _, item := range r.list(n, "rules") {
		var rule ruleSpec
		var hasAction, hasBasis bool
		good := true
		rule.at = r.at(item)
		before := len(r.problems.errors) + r.problems.dropped
		r.fields(item, "a rule", append(r.challenges(&rule.how), []field{
			{"name", func(n ast.Node) { rule.name = r.name(n, "a rule's name") }},
			{"when", func(n ast.Node) { rule.when = r.condition(n); good = good && rule.when != nil }},
			{"action", func(n ast.Node) { hasAction = true; good = r.action(n, &rule.action) && good }},
			{"score", func(n ast.Node) {
				rule.scores = true
				rule.score, _ = r.integer(n, "score", -100, 100)
			}},
			{"mode", func(n ast.Node) { r.mode(n, &rule.shadow) }},
			{"posture", func(n ast.Node) { r.posture(n, &rule.posture) }},
			{"basis", func(n ast.Node) { hasBasis = true; r.basis(n, &rule.basis) }},
			{"reason", func(n ast.Node) { rule.reason = r.reason(n) }},
			{"retryAfter", func(n ast.Node) { r.retryAfter(n, &rule.retryAfter) }},
		}...))
		if len(r.problems.errors)+r.problems.dropped > before && rule.name == "" {
			continue // what is wrong was said; "has no name" may be untrue
		}
		switch {
		case rule.name == "":
			r.problems.errorf(rule.at, "a rule needs a name")
		case rule.when == nil && good:
			r.problems.errorf(rule.at, "rule %q needs a condition (when)", rule.name)
		case hasAction == rule.scores:
			r.problems.errorf(rule.at, "rule %q needs exactly one of action and score", rule.name)
		case rule.scores && hasBasis:
			r.problems.errorf(rule.at, "rule %q only adds to the score: basis belongs to rules with an action", rule.name)
		case rule.retryAfter != 0 && (rule.scores || good && !rule.action.Stops()):
			r.problems.errorf(rule.at, "rule %q lets the request pass: retryAfter belongs to throttle, challenge, tarpit and deny", rule.name)
		}
		if rule.how != (challenge{}) && (rule.scores || good && rule.action != defense.Challenge) {
			r.problems.errorf(rule.at, "rule %q does not challenge: challenge and status belong to the action challenge", rule.name)
		}
		if hasAction && !hasBasis {
			rule.basis = defense.BasisCertain
		}
		out = append(out, &rule)
	}
	return out
}

func (r *yamlReader) thresholds(n ast.Node) []*thresholdSpec {
	var out []*thresholdSpec
	for _, item := range r.list(n, "thresholds") {
		var t thresholdSpec
		var hasScore, hasAction bool
		t.at = r.at(item)
		r.fields(item, "a threshold", append(r.challenges(&t.how), []field{
			{"score", func(n ast.Node) { hasScore = true; t.score, _ = r.integer(n, "a threshold's score", 1, 100) }},
			{"action", func(n ast.Node) {
				hasAction = true
				if r.action(n, &t.action) && t.action == defense.Allow {
					r.errorf(n, "a threshold cannot allow: what reaches no threshold passes")
				}
			}},
			{"mode", func(n ast.Node) { r.mode(n, &t.shadow) }},
			{"posture", func(n ast.Node) { r.posture(n, &t.posture) }},
			{"reason", func(n ast.Node) { t.reason = r.reason(n) }},
			{"retryAfter", func(n ast.Node) { r.retryAfter(n, &t.retryAfter) }},
			{"basis", func(n ast.Node) { r.errorf(n, "a threshold has no basis: a score is always judged") }},
		}...))
		if !hasScore || !hasAction {
			r.problems.errorf(t.at, "a threshold needs score and action")
			continue
		}
		if t.how != (challenge{}) && t.action != defense.Challenge {
			r.problems.errorf(t.at, "the threshold does not challenge: challenge and status belong to the action challenge")
		}
		out = append(out, &t)
	}
	return out
}

func (r *yamlReader) budgets(n ast.Node) []*budgetSpec {
	var out []*budgetSpec
	for _, item := range r.list(n, "budgets") {
		var b budgetSpec
		var hasPer, hasRate, hasBurst bool
		b.at = r.at(item)
		before := len(r.problems.errors) + r.problems.dropped
		r.fields(item, "a budget", []field{
			{"name", func(n ast.Node) { b.budget.Name = r.name(n, "a budget's name") }},
			{"per", func(n ast.Node) {
				i, _ := r.oneOf(n, "per", perNames[:])
				b.budget.Per, hasPer = Per(i), true
			}},
			{"class", func(n ast.Node) {
				b.class = located{r.name(n, "class"), r.at(n)}
				b.budget.Class = b.class.text
			}},
			{"kinds", func(n ast.Node) { b.budget.Kinds = r.kinds(n) }},
			{"when", func(n ast.Node) { b.when = r.condition(n) }},
			{"rate", func(n ast.Node) { hasRate = true; r.rate(n, &b.budget.Rate) }},
			{"burst", func(n ast.Node) {
				i, _ := r.integer(n, "burst", 1, 1_000_000)
				b.budget.Burst, hasBurst = float64(i), true
			}},
			{"mode", func(n ast.Node) { r.mode(n, &b.budget.shadow) }},
			{"posture", func(n ast.Node) { r.posture(n, &b.budget.Posture) }},
			{"basis", func(n ast.Node) { r.basis(n, &b.budget.Basis) }},
			{"reason", func(n ast.Node) { b.budget.Reason = r.reason(n) }},
		})
		if len(r.problems.errors)+r.problems.dropped > before && b.budget.Name == "" {
			continue
		}
		switch {
		case b.budget.Name == "":
			r.problems.errorf(b.at, "a budget needs a name")
		case !hasPer || !hasRate || !hasBurst:
			r.problems.errorf(b.at, "budget %q needs per, rate and burst", b.budget.Name)
		}
		out = append(out, &b)
	}
	return out
}

func (r *yamlReader) kinds(n ast.Node) []defense.Kind {
	items := []ast.Node{n}
	if _, one := scalar(n); !one {
		items = r.list(n, "kinds")
	}
	names := enumNames(func(i uint8) string { return defense.Kind(i).String() })
	var out []defense.Kind
	for _, item := range items {
		if i, ok := r.oneOf(item, "kind", names); ok {
			out = append(out, defense.Kind(i))
		}
	}
	return out
}

// rate reads "5/s", "300/min" or "1000/h" as tokens a second.
func (r *yamlReader) rate(n ast.Node, rate *float64) {
	s, ok := r.text(n, "rate")
	if !ok {
		return
	}
	number, unit, _ := strings.Cut(s, "/")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	switch strings.TrimSpace(unit) {
	case "s", "sec", "second":
	case "m", "min", "minute":
		v /= 60
	case "h", "hour":
		v /= 3600
	default:
		err = strconv.ErrSyntax
	}
	if err != nil || !(v > 0 && v <= 1e6) {
		r.errorf(n, "rate is a number of requests in a unit of time such as 5/s, 300/min or 1000/h, not %q", clip(s))
		return
	}
	*rate = v
}

func (r *yamlReader) classes(n ast.Node) []*classSpec {
	var out []*classSpec
	for _, e := range r.entries(n, "classes") {
		if !validName(e.key) {
			r.problems.errorf(e.keyAt, "a class's name is letters, digits, '-', '_' and '.', not %q", clip(e.key))
		}
		c := &classSpec{name: e.key, at: e.keyAt}
		items := []ast.Node{e.value}
		if _, one := scalar(e.value); !one {
			items = r.list(e.value, fmt.Sprintf("class %q", e.key))
		}
		for _, item := range items {
			if s, ok := scalar(item); ok {
				c.entries = append(c.entries, classEntry{glob: located{s, r.at(item)}})
				continue
			}
			var when *condSpec
			r.fields(item, "a class's condition", []field{{"when", func(n ast.Node) { when = r.condition(n) }}})
			if when != nil {
				c.entries = append(c.entries, classEntry{when: when})
			}
		}
		if len(items) == 0 {
			r.problems.errorf(e.keyAt, "class %q has no paths", e.key)
		}
		out = append(out, c)
	}
	return out
}

func (r *yamlReader) signals(n ast.Node) []*signalSpec {
	var out []*signalSpec
	for _, e := range r.entries(n, "signals") {
		if w, ok := r.integer(e.value, "the weight of signal "+strconv.Quote(clip(e.key)), -100, 100); ok {
			out = append(out, &signalSpec{e.key, e.keyAt, w})
		}
	}
	return out
}

func (r *yamlReader) lists(n ast.Node) []*listSpec {
	var out []*listSpec
	for _, e := range r.entries(n, "lists") {
		if !validName(e.key) {
			r.problems.errorf(e.keyAt, "a list's name is letters, digits, '-', '_' and '.', not %q", clip(e.key))
		}
		out = append(out, &listSpec{e.key, e.keyAt, r.strings(e.value, fmt.Sprintf("list %q", clip(e.key)))})
	}
	return out
}

func (r *yamlReader) hosts(n ast.Node) []*hostSpec {
	var out []*hostSpec
	for _, e := range r.entries(n, "hosts") {
		h := &hostSpec{pattern: e.key, at: e.keyAt}
		if msg := checkHostPattern(e.key); msg != "" {
			r.problems.errorf(e.keyAt, "%s", msg)
		}
		r.fields(e.value, "a host's section", r.layerFields(&h.layer))
		out = append(out, h)
	}
	return out
}

// checkHostPattern returns what is wrong with a host's name or wildcard.
func checkHostPattern(p string) string {
	name := strings.TrimPrefix(p, "*.")
	switch {
	case strings.Contains(name, "*"):
		return fmt.Sprintf("host %q: a wildcard stands only at the beginning, as in *.example.org", clip(p))
	case name != strings.ToLower(name):
		return fmt.Sprintf("host %q: write it in lower case", clip(p))
	case name == "" || len(name) > 253 || strings.ContainsAny(name, "/ :@") && !strings.HasPrefix(name, "["):
		return fmt.Sprintf("host %q: write the host's name alone, without scheme, port and path", clip(p))
	}
	return ""
}

// enumNames lists the names of one of defense's enumerations.
func enumNames(name func(i uint8) string) []string {
	var out []string
	for i := range uint8(255) {
		n := name(i)
		if strings.HasPrefix(n, "unknown(") {
			break
		}
		out = append(out, n)
	}
	return out
}
