package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// Function documents one of the functions that conditions may use beside
// CEL's own.
type Function struct {
	Usage string
	Doc   string
}

// Functions lists the functions of the condition language that are ours.
func Functions() []Function {
	return []Function{
		{`client.address.within("192.0.2.0/24")`, "the address lies in the range, or in one of a list of ranges"},
		{`x.inList("name")`, "the address, text or number is in the list of that name"},
		{`glob(request.path, "/a/**")`, "the text matches the path pattern, as in classes"},
		{`header("accept")`, "the header's value; empty when absent or not observed"},
		{`present("cookie")`, "the client sent the header"},
		{`absent("accept")`, "it is known that the client did not send the header; false when it was not observed"},
	}
}

// conditions compiles the conditions of one policy.
type conditions struct {
	env      *cel.Env
	vars     map[string]*variable
	lists    map[string]*list
	signals  []string // known names; nil when they are not known
	problems *problems
}

// newConditions prepares the language: classes, lists and signals are those of
// the policy at hand.
func newConditions(voc Vocabulary, classes []string, lists map[string]*list, signals []string, ps *problems) (*conditions, error) {
	c := &conditions{vars: map[string]*variable{}, lists: lists, signals: signals, problems: ps}
	opts := []cel.EnvOption{
		cel.Macros(headerMacros()...),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(100),
		cel.RegexProgramSizeLimit(maxRegexpProgram),
		cel.Function("within",
			cel.MemberOverload("text_within_text", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(withinRange)),
			cel.MemberOverload("text_within_list", []*cel.Type{cel.StringType, cel.ListType(cel.StringType)}, cel.BoolType, cel.BinaryBinding(withinRanges))),
		cel.Function("inList",
			cel.MemberOverload("text_inlist", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(c.textInList)),
			cel.MemberOverload("number_inlist", []*cel.Type{cel.IntType, cel.StringType}, cel.BoolType, cel.BinaryBinding(c.numberInList))),
		cel.Function("glob",
			cel.Overload("glob_text_text", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(globMatch))),
	}
	for _, v := range variables() {
		switch {
		case v.name == "request.class":
			v.values = append(slices.Clone(classes), "")
		case v.name == "crawler.id" && voc.Crawlers != nil:
			v.values = append(slices.Clone(voc.Crawlers), "")
		}
		c.vars[v.name] = v
		t := [...]*cel.Type{nil, cel.BoolType, cel.IntType, cel.StringType, cel.ListType(cel.StringType)}[v.kind]
		opts = append(opts, cel.Variable(v.name, t))
	}
	var err error
	c.env, err = cel.NewEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("policy: preparing the condition language: %w", err)
	}
	return c, nil
}

// headerMacros turn header("accept") into a variable of its own, so that a
// misspelt header is found at check.
func headerMacros() []cel.Macro {
	known := Headers()
	valued := map[string]bool{}
	for _, h := range headers() {
		valued[h.name] = h.value != nil
	}
	var out []cel.Macro
	for _, fn := range []string{"header", "present", "absent"} {
		out = append(out, cel.GlobalMacro(fn, 1, func(f cel.MacroExprFactory, _ celast.Expr, args []celast.Expr) (celast.Expr, *cel.Error) {
			name, ok := literalText(args[0])
			if !ok {
				return nil, f.NewError(args[0].ID(), fmt.Sprintf(`%s needs a header's name in quotes, as in %s("accept")`, fn, fn))
			}
			name = strings.ToLower(name)
			hasValue, ok := valued[name]
			if !ok {
				h := hint(name, known)
				if h == "" {
					h = " (known: " + strings.Join(known, ", ") + ")"
				}
				return nil, f.NewError(args[0].ID(), fmt.Sprintf("header %q is not looked at%s", clip(name), h))
			}
			if fn == "header" && !hasValue {
				return nil, f.NewError(args[0].ID(), fmt.Sprintf("the value of %q is a credential and never kept: ask present(%q) or absent(%q)", name, name, name))
			}
			return f.NewIdent(fn + ":" + name), nil
		}))
	}
	return out
}

func literalText(e celast.Expr) (string, bool) {
	if e.Kind() != celast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

func withinRange(address, arg ref.Val) ref.Val {
	a, err := netip.ParseAddr(string(address.(types.String)))
	if err != nil {
		return types.False
	}
	p, err := parseRange(string(arg.(types.String)))
	if err != nil {
		return types.NewErr("within: %v", err)
	}
	return types.Bool(p.Contains(a))
}

func withinRanges(address, arg ref.Val) ref.Val {
	l, ok := arg.(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(arg)
	}
	for it := l.Iterator(); it.HasNext() == types.True; {
		s, ok := it.Next().(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(arg)
		}
		if r := withinRange(address, s); r != types.False {
			return r
		}
	}
	return types.False
}

func (c *conditions) textInList(text, name ref.Val) ref.Val {
	l, ok := c.lists[string(name.(types.String))]
	if !ok {
		return types.NewErr("there is no list %q", name)
	}
	s := string(text.(types.String))
	if l.kind == listAddresses {
		a, err := netip.ParseAddr(s)
		return types.Bool(err == nil && l.addresses.Contains(a))
	}
	_, ok = l.texts[s]
	return types.Bool(ok)
}

func (c *conditions) numberInList(number, name ref.Val) ref.Val {
	l, ok := c.lists[string(name.(types.String))]
	if !ok {
		return types.NewErr("there is no list %q", name)
	}
	_, ok = l.numbers[int64(number.(types.Int))]
	return types.Bool(ok)
}

func globMatch(text, pattern ref.Val) ref.Val {
	g, err := compileGlob(string(pattern.(types.String)))
	if err != nil {
		return types.NewErr("glob: the pattern %v", err)
	}
	return types.Bool(g.match(string(text.(types.String))))
}

// compile parses, checks and lowers a condition. owner names what it belongs to
// in messages: `rule "x"`. The second result is false when the condition is
// wrong, which was then reported.
func (c *conditions) compile(spec *condSpec, owner string, where scope) (condition, bool) {
	before := len(c.problems.errors) + c.problems.dropped
	wrong := func() bool { return len(c.problems.errors)+c.problems.dropped > before }

	parsed, issues := c.env.Parse(spec.text)
	if c.issues(spec, owner, issues) {
		return condition{}, false
	}
	scan := scanner{conditions: c, spec: spec, owner: owner, where: where, info: parsed.NativeRep().SourceInfo()}
	scan.names(parsed.NativeRep().Expr(), nil)
	if wrong() {
		return condition{}, false
	}
	checked, issues := c.env.Check(parsed)
	if c.issues(spec, owner, issues) {
		return condition{}, false
	}
	native := checked.NativeRep()
	if t := checked.OutputType(); t != cel.BoolType {
		c.problems.errorf(spec.src.at(0), "%s: the condition is a %s, not true or false", owner, typeWord(t.String()))
		return condition{}, false
	}
	scan.info = native.SourceInfo()
	scan.constants(native.Expr())
	if wrong() {
		return condition{}, false
	}
	l := lowering{env: c.env, ast: native, vars: c.vars, lists: c.lists}
	cond := l.condition(native.Expr())
	if l.err != nil {
		c.problems.errorf(spec.src.at(0), "%s: the condition cannot be planned: %v", owner, l.err)
		return condition{}, false
	}
	return cond, true
}

// issues reports what cel-go found; it returns whether there was anything.
func (c *conditions) issues(spec *condSpec, owner string, issues *cel.Issues) bool {
	if issues == nil || issues.Err() == nil {
		return false
	}
	for i, e := range issues.Errors() {
		if i == 5 {
			break // what follows a syntax error is noise
		}
		at := spec.src.at(0)
		if e.Location != nil && e.Location.Line() > 0 {
			at = spec.src.at(offsetOf(spec.text, e.Location.Line(), e.Location.Column()))
		}
		c.problems.errorf(at, "%s: %s", owner, c.explainIssue(e.Message, spec.text))
		if strings.HasPrefix(e.Message, "Syntax error") {
			break
		}
	}
	return true
}

// offsetOf converts a line (from 1) and column (from 0) to a character offset.
func offsetOf(text string, line, col int) int {
	offset := 0
	for l := range strings.SplitSeq(text, "\n") {
		if line--; line == 0 {
			break
		}
		offset += len([]rune(l)) + 1
	}
	return offset + col
}

// explainIssue words cel-go's messages for somebody who does not know CEL.
func (c *conditions) explainIssue(msg, text string) string {
	if rest, ok := strings.CutPrefix(msg, "undeclared reference to '"); ok {
		name, _, _ := strings.Cut(rest, "'")
		h := hint(name, c.functionNames())
		if strings.Contains(h, "known:") {
			h = ""
		}
		return fmt.Sprintf("unknown function %q%s", clip(name), h)
	}
	if rest, ok := strings.CutPrefix(msg, "found no matching overload for '"); ok {
		name, applied, _ := strings.Cut(rest, "' applied to '")
		name = strings.Trim(strings.ReplaceAll(name, "@", ""), "_")
		return fmt.Sprintf("%q cannot be applied to %s", name, typeWord(strings.TrimSuffix(applied, "'")))
	}
	if rest, ok := strings.CutPrefix(msg, "regex program size "); ok {
		return "the regular expression is too complex (repetitions multiply): its size " + rest
	}
	msg, _, _ = strings.Cut(msg, " expecting ")
	if strings.HasPrefix(msg, "Syntax error") {
		switch {
		case strings.Contains(text, ".in("):
			msg += ` ("in" is an operator: write client.address.within("192.0.2.0/24") or client.address.inList("name"))`
		case wordAnd.MatchString(text):
			msg += ` (write && for "and", || for "or", ! for "not")`
		case singleEquals.MatchString(text):
			msg += ` (compare with ==)`
		}
	}
	if len(msg) > 400 {
		msg = msg[:400] + "…"
	}
	return strings.ToValidUTF8(msg, "")
}

var (
	wordAnd      = regexp.MustCompile(`(?i)\s(and|or|not)\s`)
	singleEquals = regexp.MustCompile(`[^=!<>]=[^=]`)
)

// typeWord words a CEL type.
func typeWord(s string) string {
	return strings.NewReplacer("list(string)", "a list of texts", "string", "text", "int", "number", "bool", "true/false").Replace(s)
}

func (c *conditions) functionNames() []string {
	var out []string
	for name := range c.env.Functions() {
		if !strings.ContainsAny(name, "_@") {
			out = append(out, name)
		}
	}
	for _, m := range c.env.Macros() {
		out = append(out, m.Function())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// scanner finds mistakes in a condition that CEL's type checker does not know of.
type scanner struct {
	*conditions
	spec  *condSpec
	owner string
	where scope
	info  *celast.SourceInfo
}

func (s *scanner) errorf(e celast.Expr, format string, args ...any) {
	at := s.spec.src.at(0)
	if r, ok := s.info.GetOffsetRange(e.ID()); ok {
		at = s.spec.src.at(int(r.Start))
	}
	s.problems.errorf(at, "%s: %s", s.owner, fmt.Sprintf(format, args...))
}

// names reports unknown variables. bound are the names that macros introduce.
func (s *scanner) names(e celast.Expr, bound []string) {
	switch e.Kind() {
	case celast.IdentKind, celast.SelectKind:
		if name, root, ok := dotted(e); ok {
			if !slices.Contains(bound, root.AsIdent()) {
				s.name(root, name)
			}
			return
		}
		if e.Kind() == celast.SelectKind {
			s.names(e.AsSelect().Operand(), bound)
		}
	case celast.CallKind:
		call := e.AsCall()
		if call.IsMemberFunction() {
			s.names(call.Target(), bound)
		}
		for _, a := range call.Args() {
			s.names(a, bound)
		}
	case celast.ListKind:
		for _, elem := range e.AsList().Elements() {
			s.names(elem, bound)
		}
	case celast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			s.names(entry.AsMapEntry().Key(), bound)
			s.names(entry.AsMapEntry().Value(), bound)
		}
	case celast.StructKind:
		for _, f := range e.AsStruct().Fields() {
			s.names(f.AsStructField().Value(), bound)
		}
	case celast.ComprehensionKind:
		c := e.AsComprehension()
		s.names(c.IterRange(), bound)
		inner := append(slices.Clone(bound), c.IterVar(), c.IterVar2(), c.AccuVar())
		for _, part := range []celast.Expr{c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
			s.names(part, inner)
		}
	}
}

// dotted returns the whole name a.b.c and its root a of a chain of selections.
func dotted(e celast.Expr) (name string, root celast.Expr, ok bool) {
	switch e.Kind() {
	case celast.IdentKind:
		return e.AsIdent(), e, true
	case celast.SelectKind:
		sel := e.AsSelect()
		if name, root, ok = dotted(sel.Operand()); ok {
			return name + "." + sel.FieldName(), root, true
		}
	}
	return "", nil, false
}

// typeNames are identifiers of CEL itself.
var typeNames = [...]string{"bool", "bytes", "double", "dyn", "int", "list", "map", "null_type", "string", "timestamp", "type", "uint", "google", "optional_type"}

// name reports a dotted name that is no variable; e is its root.
func (s *scanner) name(e celast.Expr, name string) {
	root := e.AsIdent()
	if v, ok := s.vars[name]; ok {
		if s.where < v.since {
			s.errorf(e, "%s is known to %s only", name, [...]string{inBudget: "rules and budgets", inRule: "rules"}[v.since])
		}
		return
	}
	if slices.Contains(typeNames[:], root) {
		return
	}
	for prefix := name; ; {
		i := strings.LastIndexByte(prefix, '.')
		if i < 0 {
			break
		}
		prefix = prefix[:i]
		if _, ok := s.vars[prefix]; ok {
			s.errorf(e, "%s has no part %q", prefix, clip(name[i+1:]))
			return
		}
	}
	var known, below []string
	for n := range s.vars {
		if !strings.Contains(n, ":") {
			known = append(known, n)
			if strings.HasPrefix(n, root+".") {
				below = append(below, n)
			}
		}
	}
	slices.Sort(known)
	slices.Sort(below)
	h := hint(name, known)
	if h == "" && len(below) > 0 {
		h = " (known: " + strings.Join(below, ", ") + ")"
	}
	s.errorf(e, "unknown variable %q%s", clip(name), h)
}

// constants reports constants that can never match: in comparisons, lists,
// ranges and patterns.
func (s *scanner) constants(e celast.Expr) {
	switch e.Kind() {
	case celast.SelectKind:
		s.constants(e.AsSelect().Operand())
	case celast.ListKind:
		for _, elem := range e.AsList().Elements() {
			s.constants(elem)
		}
	case celast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			s.constants(entry.AsMapEntry().Key())
			s.constants(entry.AsMapEntry().Value())
		}
	case celast.ComprehensionKind:
		c := e.AsComprehension()
		for _, part := range []celast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
			s.constants(part)
		}
	case celast.CallKind:
		call := e.AsCall()
		args := call.Args()
		if call.IsMemberFunction() {
			args = append([]celast.Expr{call.Target()}, args...)
		}
		s.call(call.FunctionName(), args)
		for _, a := range args {
			s.constants(a)
		}
	}
}

func (s *scanner) variable(e celast.Expr) *variable {
	if e.Kind() == celast.IdentKind {
		return s.vars[e.AsIdent()]
	}
	return nil
}

func (s *scanner) call(name string, args []celast.Expr) {
	if len(args) != 2 {
		return
	}
	left, right := args[0], args[1]
	switch name {
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		if v := s.variable(left); v != nil {
			s.constant(v, right)
		}
		if v := s.variable(right); v != nil {
			s.constant(v, left)
		}
	case operators.In:
		if v := s.variable(left); v != nil && right.Kind() == celast.ListKind {
			for _, elem := range right.AsList().Elements() {
				s.constant(v, elem)
			}
		}
		if v := s.variable(right); v != nil && v.name == "signals" && s.signals != nil {
			if text, ok := literalText(left); ok && !slices.Contains(s.signals, text) {
				s.errorf(left, "unknown signal %q%s", clip(text), hint(text, s.signals))
			}
		}
	case "startsWith":
		if v := s.variable(left); v != nil && (v.name == "request.path" || v.name == "request.target") {
			if text, ok := literalText(right); ok && text != "" && text[0] != '/' {
				s.errorf(right, "%s always begins with a slash (did you mean %q?)", v.name, "/"+clip(text))
			}
		}
	case "matches":
		if text, ok := literalText(right); ok {
			if _, err := compileRegexp(text); err != nil {
				s.errorf(right, "%v", err)
			}
		}
	case "glob":
		text, ok := literalText(right)
		if !ok {
			s.errorf(right, "glob needs a pattern in quotes")
		} else if _, err := compileGlob(text); err != nil {
			s.errorf(right, "the path pattern %q %v", clip(text), err)
		}
	case "within":
		if v := s.variable(left); v == nil || v.name != "client.address" {
			s.errorf(left, "within is asked of client.address")
		}
		elems := []celast.Expr{right}
		if right.Kind() == celast.ListKind {
			elems = right.AsList().Elements()
		}
		for _, elem := range elems {
			text, ok := literalText(elem)
			if !ok {
				s.errorf(elem, "within needs ranges in quotes; name a list with inList")
			} else if _, err := parseRange(text); err != nil {
				s.errorf(elem, "%v", err)
			}
		}
	case "inList":
		s.list(left, right)
	}
}

func (s *scanner) list(left, right celast.Expr) {
	text, ok := literalText(right)
	if !ok {
		s.errorf(right, "inList needs a list's name in quotes")
		return
	}
	l, ok := s.lists[text]
	if !ok {
		names := make([]string, 0, len(s.lists))
		for n := range s.lists {
			names = append(names, n)
		}
		slices.Sort(names)
		s.errorf(right, "there is no list %q%s", clip(text), hint(text, names))
		return
	}
	v := s.variable(left)
	holds := listTexts
	switch {
	case v != nil && v.name == "client.address":
		holds = listAddresses
	case v != nil && v.kind == kindInt:
		holds = listNumbers
	}
	if l.addresses != nil && l.numbers != nil { // empty: fits all
		return
	}
	if l.kind != holds && v != nil {
		s.errorf(right, "list %q holds %s, which %s never equals", text, listKindNames[l.kind], v.name)
	}
	if v == nil && l.kind == listAddresses {
		s.errorf(right, "list %q holds addresses: ask client.address.inList(%q)", text, text)
	}
}

// constant reports a text that v can never equal.
func (s *scanner) constant(v *variable, e celast.Expr) {
	if v.kind == kindInt && e.Kind() == celast.LiteralKind {
		if n, ok := e.AsLiteral().(types.Int); ok && (int64(n) < 0 || int64(n) > v.hi) {
			s.errorf(e, "%s lies between 0 and %d", v.name, v.hi)
		}
		return
	}
	text, ok := literalText(e)
	if !ok {
		return
	}
	if v.values != nil && !slices.Contains(v.values, text) {
		s.errorf(e, "%s is never %s%s", v.name, strconv.Quote(clip(text)), hint(text, v.values))
		return
	}
	if v.name == "request.path" && text != "" && text != "*" && text[0] != '/' {
		s.errorf(e, "request.path always begins with a slash (did you mean %q?)", "/"+clip(text))
		return
	}
	if v.check != nil {
		if msg := v.check(text); msg != "" {
			s.errorf(e, "%s is never %q: %s", v.name, clip(text), msg)
		}
	}
}
