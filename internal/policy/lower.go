package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// truth is the result of a condition that can go wrong at run time. CEL's && and
// || absorb errors: false && error is false, true || error is true.
type truth uint8

const (
	no truth = iota
	yes
	failed // env.err says why
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// condition is a compiled condition. Exactly one of total and partial is set.
type condition struct {
	total   func(*env) bool  // cannot fail
	partial func(*env) truth // contains interpreted parts

	constant bool // total always returns value
	value    bool
}

func constantCondition(v bool) condition {
	return condition{total: func(*env) bool { return v }, constant: true, value: v}
}

// eval returns the condition's truth for e.
func (c *condition) eval(e *env) truth {
	if c.total != nil {
		return truthOf(c.total(e))
	}
	return c.partial(e)
}

// value is a lowered expression: its kind, and a function or a constant. The
// function of a constant ignores its argument.
type value struct {
	kind     kind
	constant bool
	text     func(*env) string
	number   func(*env) int64
	flag     func(*env) bool
	lo, hi   int64     // bounds of number
	v        *variable // set when the expression is a variable alone
}

func textConstant(s string) value {
	return value{kind: kindString, constant: true, text: func(*env) string { return s }}
}

func numberConstant(n int64) value {
	return value{kind: kindInt, constant: true, number: func(*env) int64 { return n }, lo: n, hi: n}
}

func flagOf(f func(*env) bool) value { return value{kind: kindBool, flag: f} }

// fold evaluates a value all of whose operands are constant.
func fold(v value, operands ...value) value {
	for _, o := range operands {
		if !o.constant {
			return v
		}
	}
	switch v.kind {
	case kindBool:
		b := v.flag(nil)
		return value{kind: kindBool, constant: true, flag: func(*env) bool { return b }}
	case kindInt:
		return numberConstant(v.number(nil))
	case kindString:
		return textConstant(v.text(nil))
	}
	return v
}

// lowering turns one checked expression into closures.
type lowering struct {
	env   *cel.Env
	ast   *celast.AST
	vars  map[string]*variable
	lists map[string]*list
	err   error // of planning an interpreted part
}

// The bounds of interpreted expressions, in cel-go's cost units (about one for
// each operation or ten characters handled; 10,000 take well under a millisecond).
const (
	maxCost        = 10_000  // of one expression
	maxRequestCost = 100_000 // of all of one request
)

// condition lowers a boolean expression. It handles the logical operators
// itself and never visits an expression twice.
func (l *lowering) condition(e celast.Expr) condition {
	if e.Kind() == celast.CallKind {
		call := e.AsCall()
		switch call.FunctionName() {
		case operators.LogicalAnd, operators.LogicalOr:
			return l.chain(e, call.FunctionName())
		case operators.LogicalNot:
			return negate(l.condition(call.Args()[0]))
		case operators.Conditional:
			if l.ast.GetType(e.ID()) == types.BoolType {
				a := call.Args()
				return choose(l.condition(a[0]), l.condition(a[1]), l.condition(a[2]))
			}
		}
	}
	if v, ok := l.lower(e); ok && v.kind == kindBool {
		if v.constant {
			return constantCondition(v.flag(nil))
		}
		return condition{total: v.flag}
	}
	return l.interpret(e)
}

// chain lowers a && b && c, or a || b || c, in order.
func (l *lowering) chain(e celast.Expr, op string) condition {
	var parts []celast.Expr
	var flatten func(celast.Expr)
	flatten = func(e celast.Expr) {
		if e.Kind() == celast.CallKind && e.AsCall().FunctionName() == op {
			for _, a := range e.AsCall().Args() {
				flatten(a)
			}
			return
		}
		parts = append(parts, e)
	}
	flatten(e)

	decides := op == operators.LogicalOr // the operand's value that settles the chain
	var total []func(*env) bool
	var all []condition
	for _, part := range parts {
		c := l.condition(part)
		if c.constant && c.value == decides {
			// Also right of an error: error && false is false.
			return constantCondition(decides)
		}
		if c.constant {
			continue
		}
		all = append(all, c)
		if c.total != nil {
			total = append(total, c.total)
		}
	}
	switch {
	case len(all) == 0:
		return constantCondition(!decides)
	case len(all) == 1:
		return all[0]
	case len(all) > len(total):
		settled, open := truthOf(decides), truthOf(!decides)
		return condition{partial: func(e *env) truth {
			result := open
			for i := range all {
				switch t := all[i].eval(e); t {
				case settled:
					return settled
				case failed:
					result = failed
				}
			}
			return result
		}}
	case decides && len(total) == 2:
		a, b := total[0], total[1]
		return condition{total: func(e *env) bool { return a(e) || b(e) }}
	case decides:
		return condition{total: func(e *env) bool {
			for _, f := range total {
				if f(e) {
					return true
				}
			}
			return false
		}}
	case len(total) == 2:
		a, b := total[0], total[1]
		return condition{total: func(e *env) bool { return a(e) && b(e) }}
	}
	return condition{total: func(e *env) bool {
		for _, f := range total {
			if !f(e) {
				return false
			}
		}
		return true
	}}
}

func negate(c condition) condition {
	switch {
	case c.constant:
		return constantCondition(!c.value)
	case c.total != nil:
		f := c.total
		return condition{total: func(e *env) bool { return !f(e) }}
	}
	f := c.partial
	return condition{partial: func(e *env) truth {
		switch f(e) {
		case no:
			return yes
		case yes:
			return no
		}
		return failed
	}}
}

func choose(test, then, otherwise condition) condition {
	if test.constant {
		if test.value {
			return then
		}
		return otherwise
	}
	if test.total != nil && then.total != nil && otherwise.total != nil {
		a, b, c := test.total, then.total, otherwise.total
		return condition{total: func(e *env) bool {
			if a(e) {
				return b(e)
			}
			return c(e)
		}}
	}
	return condition{partial: func(e *env) truth {
		switch test.eval(e) {
		case yes:
			return then.eval(e)
		case no:
			return otherwise.eval(e)
		}
		return failed
	}}
}

// interpret leaves an expression to cel-go.
func (l *lowering) interpret(e celast.Expr) condition {
	sub := celast.NewCheckedAST(celast.NewAST(e, l.ast.SourceInfo()), l.ast.TypeMap(), l.ast.ReferenceMap())
	program, err := l.env.PlanProgram(sub, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		if l.err == nil {
			l.err = err
		}
		return constantCondition(false)
	}
	vars := l.vars
	return condition{partial: func(e *env) truth {
		if e.cost >= maxRequestCost {
			e.err = fmt.Errorf("the policy's interpreted conditions used up the request's cost limit of %d", maxRequestCost)
			return failed
		}
		out, details, err := program.Eval(activation{e, vars})
		if details != nil && details.ActualCost() != nil {
			e.cost += *details.ActualCost()
		} else {
			e.cost += maxCost // it was stopped
		}
		if err != nil {
			e.err = err
			return failed
		}
		b, ok := out.(types.Bool)
		if !ok {
			e.err = fmt.Errorf("the condition came to a %s", out.Type().TypeName())
			return failed
		}
		return truthOf(bool(b))
	}}
}

// activation shows an env to cel-go.
type activation struct {
	e    *env
	vars map[string]*variable
}

// ResolveName returns a variable's value.
func (a activation) ResolveName(name string) (any, bool) {
	v, ok := a.vars[name]
	if !ok {
		return nil, false
	}
	switch v.kind {
	case kindString:
		return v.text(a.e), true
	case kindInt:
		return v.number(a.e), true
	case kindBool:
		return v.flag(a.e), true
	}
	names := make([]string, len(a.e.signals))
	for i := range a.e.signals {
		names[i] = a.e.signals[i].Name
	}
	return names, true
}

// Parent returns nil: there is nothing behind the request.
func (a activation) Parent() cel.Activation { return nil }

// lower turns an expression that cannot fail into closures; ok is false when
// cel-go has to interpret it.
func (l *lowering) lower(e celast.Expr) (v value, ok bool) {
	switch e.Kind() {
	case celast.LiteralKind:
		switch c := e.AsLiteral().(type) {
		case types.String:
			return textConstant(string(c)), true
		case types.Int:
			return numberConstant(int64(c)), true
		case types.Bool:
			b := bool(c)
			return value{kind: kindBool, constant: true, flag: func(*env) bool { return b }}, true
		}
	case celast.IdentKind:
		if v, ok := l.vars[e.AsIdent()]; ok {
			return value{kind: v.kind, text: v.text, number: v.number, flag: v.flag, hi: v.hi, v: v}, true
		}
	case celast.CallKind:
		return l.call(e)
	}
	return value{}, false
}

func (l *lowering) call(e celast.Expr) (value, bool) {
	call := e.AsCall()
	name, args := call.FunctionName(), call.Args()
	if call.IsMemberFunction() {
		args = append([]celast.Expr{call.Target()}, args...)
	}
	switch name {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot:
		c := l.condition(e)
		if c.total == nil {
			return value{}, false
		}
		return value{kind: kindBool, constant: c.constant, flag: c.total}, true
	case operators.Conditional:
		return l.conditional(e)
	case operators.In:
		return l.in(args[0], args[1])
	case "within":
		if len(args) == 2 {
			return l.within(args[0], args[1])
		}
		return value{}, false
	}
	vs := make([]value, len(args))
	for i, a := range args {
		var ok bool
		if vs[i], ok = l.lower(a); !ok {
			return value{}, false
		}
	}
	switch len(vs) {
	case 1:
		return unary(name, vs[0])
	case 2:
		switch name {
		case "inList":
			return l.inList(vs[0], vs[1])
		case operators.Equals, operators.NotEquals:
			v, ok := equal(vs[0], vs[1])
			if ok && name == operators.NotEquals {
				f := v.flag
				v.flag = func(e *env) bool { return !f(e) }
			}
			return v, ok
		}
		return binary(name, vs[0], vs[1])
	}
	return value{}, false
}

func (l *lowering) conditional(e celast.Expr) (value, bool) {
	if l.ast.GetType(e.ID()) == types.BoolType {
		c := l.condition(e)
		if c.total == nil {
			return value{}, false
		}
		return value{kind: kindBool, constant: c.constant, flag: c.total}, true
	}
	args := e.AsCall().Args()
	test := l.condition(args[0])
	a, okA := l.lower(args[1])
	b, okB := l.lower(args[2])
	if test.total == nil || !okA || !okB || a.kind != b.kind {
		return value{}, false
	}
	if test.constant {
		if test.value {
			return a, true
		}
		return b, true
	}
	t := test.total
	switch a.kind {
	case kindString:
		x, y := a.text, b.text
		return value{kind: kindString, text: func(e *env) string {
			if t(e) {
				return x(e)
			}
			return y(e)
		}}, true
	case kindInt:
		x, y := a.number, b.number
		return value{kind: kindInt, lo: min(a.lo, b.lo), hi: max(a.hi, b.hi), number: func(e *env) int64 {
			if t(e) {
				return x(e)
			}
			return y(e)
		}}, true
	}
	return value{}, false
}

func equal(a, b value) (value, bool) {
	if a.kind != b.kind {
		return value{}, false
	}
	if a.constant {
		a, b = b, a // the constant, if any, on the right
	}
	switch a.kind {
	case kindString:
		x, y := a.text, b.text
		if b.constant {
			c := y(nil)
			if a.v != nil && a.v.name == "client.address" {
				if addr, err := netip.ParseAddr(c); err == nil && addr.String() == c {
					return flagOf(func(e *env) bool { return e.p.Client.Address == addr }), true
				}
			}
			return fold(flagOf(func(e *env) bool { return x(e) == c }), a, b), true
		}
		return flagOf(func(e *env) bool { return x(e) == y(e) }), true
	case kindInt:
		x, y := a.number, b.number
		return fold(flagOf(func(e *env) bool { return x(e) == y(e) }), a, b), true
	case kindBool:
		x, y := a.flag, b.flag
		return fold(flagOf(func(e *env) bool { return x(e) == y(e) }), a, b), true
	}
	return value{}, false
}

func unary(name string, a value) (value, bool) {
	switch {
	case name == "size" && a.kind == kindString:
		x := a.text
		return fold(value{kind: kindInt, hi: 1 << 30, number: func(e *env) int64 { return int64(utf8.RuneCountInString(x(e))) }}, a), true
	case name == "size" && a.kind == kindList:
		return value{kind: kindInt, hi: 1 << 30, number: func(e *env) int64 { return int64(len(e.signals)) }}, true
	case name == operators.Negate && a.kind == kindInt && a.lo > -maxOperand:
		x := a.number
		return fold(value{kind: kindInt, lo: -a.hi, hi: -a.lo, number: func(e *env) int64 { return -x(e) }}, a), true
	}
	return value{}, false
}

// maxOperand bounds the operands of lowered arithmetic so that it cannot
// overflow, which CEL treats as an error; wider operands are interpreted.
const maxOperand = 1 << 31

func small(v value) bool { return v.lo > -maxOperand && v.hi < maxOperand }

func binary(name string, a, b value) (value, bool) {
	if a.kind != b.kind {
		return value{}, false
	}
	switch a.kind {
	case kindString:
		return textOperation(name, a, b)
	case kindInt:
		return numberOperation(name, a, b)
	}
	return value{}, false
}

func textOperation(name string, a, b value) (value, bool) {
	x, y := a.text, b.text
	var f func(*env) bool
	switch name {
	case "startsWith":
		f = func(e *env) bool { return strings.HasPrefix(x(e), y(e)) }
	case "endsWith":
		f = func(e *env) bool { return strings.HasSuffix(x(e), y(e)) }
	case "contains":
		f = func(e *env) bool { return strings.Contains(x(e), y(e)) }
	case operators.Less:
		f = func(e *env) bool { return x(e) < y(e) }
	case operators.LessEquals:
		f = func(e *env) bool { return x(e) <= y(e) }
	case operators.Greater:
		f = func(e *env) bool { return x(e) > y(e) }
	case operators.GreaterEquals:
		f = func(e *env) bool { return x(e) >= y(e) }
	case "matches":
		if !b.constant {
			return value{}, false
		}
		re, err := compileRegexp(y(nil))
		if err != nil {
			return value{}, false // reported by the checks
		}
		f = func(e *env) bool { return re.MatchString(x(e)) }
	case "glob":
		if !b.constant {
			return value{}, false
		}
		g, err := compileGlob(y(nil))
		if err != nil {
			return value{}, false
		}
		f = func(e *env) bool { return g.match(x(e)) }
	default:
		return value{}, false
	}
	return fold(flagOf(f), a, b), true
}

func numberOperation(name string, a, b value) (value, bool) {
	x, y := a.number, b.number
	var f func(*env) bool
	switch name {
	case operators.Less:
		f = func(e *env) bool { return x(e) < y(e) }
	case operators.LessEquals:
		f = func(e *env) bool { return x(e) <= y(e) }
	case operators.Greater:
		f = func(e *env) bool { return x(e) > y(e) }
	case operators.GreaterEquals:
		f = func(e *env) bool { return x(e) >= y(e) }
	}
	if f != nil {
		return fold(flagOf(f), a, b), true
	}
	if !small(a) || !small(b) {
		return value{}, false
	}
	v := value{kind: kindInt}
	switch name {
	case operators.Add:
		v.lo, v.hi = a.lo+b.lo, a.hi+b.hi
		v.number = func(e *env) int64 { return x(e) + y(e) }
	case operators.Subtract:
		v.lo, v.hi = a.lo-b.hi, a.hi-b.lo
		v.number = func(e *env) int64 { return x(e) - y(e) }
	case operators.Multiply:
		p := [...]int64{a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi}
		v.lo, v.hi = min(p[0], p[1], p[2], p[3]), max(p[0], p[1], p[2], p[3])
		v.number = func(e *env) int64 { return x(e) * y(e) }
	case operators.Divide, operators.Modulo:
		if !b.constant || b.lo <= 0 { // division by zero is an error in CEL
			return value{}, false
		}
		bound := max(a.hi, -a.lo)
		v.lo, v.hi = -bound, bound
		d := b.lo
		if name == operators.Divide {
			v.number = func(e *env) int64 { return x(e) / d }
		} else {
			v.number = func(e *env) int64 { return x(e) % d }
		}
	default:
		return value{}, false
	}
	return fold(v, a, b), true
}

// in lowers x in [constants] and x in signals.
func (l *lowering) in(item, container celast.Expr) (value, bool) {
	a, ok := l.lower(item)
	if !ok {
		return value{}, false
	}
	if container.Kind() == celast.IdentKind {
		if c, ok := l.lower(container); !ok || c.kind != kindList || a.kind != kindString {
			return value{}, false
		}
		x := a.text
		return flagOf(func(e *env) bool {
			name := x(e)
			for i := range e.signals {
				if e.signals[i].Name == name {
					return true
				}
			}
			return false
		}), true
	}
	if container.Kind() != celast.ListKind {
		return value{}, false
	}
	var texts []string
	var numbers []int64
	for _, elem := range container.AsList().Elements() {
		v, ok := l.lower(elem)
		if !ok || !v.constant || v.kind != a.kind || container.AsList().Size() == 0 {
			return value{}, false
		}
		switch v.kind {
		case kindString:
			texts = append(texts, v.text(nil))
		case kindInt:
			numbers = append(numbers, v.number(nil))
		default:
			return value{}, false
		}
	}
	if container.AsList().Size() == 0 {
		return value{kind: kindBool, constant: true, flag: func(*env) bool { return false }}, true
	}
	switch {
	case a.kind == kindInt:
		return fold(flagOf(memberOf(a.number, numbers)), a), true
	case a.v != nil && a.v.name == "client.address":
		var ps []netip.Prefix
		for _, t := range texts {
			addr, err := netip.ParseAddr(t)
			if err != nil || addr.String() != t {
				return value{}, false
			}
			ps = append(ps, netip.PrefixFrom(addr, addr.BitLen()))
		}
		r := newRanges(ps)
		return flagOf(func(e *env) bool { return r.contains(e.p.Client.Address) }), true
	}
	return fold(flagOf(memberOf(a.text, texts)), a), true
}

// memberOf tests membership in a constant set: by comparing while it is small,
// by a map beyond that.
func memberOf[T comparable](x func(*env) T, set []T) func(*env) bool {
	if len(set) <= 8 {
		return func(e *env) bool {
			v := x(e)
			for _, s := range set {
				if s == v {
					return true
				}
			}
			return false
		}
	}
	m := make(map[T]struct{}, len(set))
	for _, s := range set {
		m[s] = struct{}{}
	}
	return func(e *env) bool {
		_, ok := m[x(e)]
		return ok
	}
}

// within lowers client.address.within("range") and within(["range", …]).
func (l *lowering) within(receiver, arg celast.Expr) (value, bool) {
	a, ok := l.lower(receiver)
	if !ok || a.v == nil || a.v.name != "client.address" {
		return value{}, false
	}
	elems := []celast.Expr{arg}
	if arg.Kind() == celast.ListKind {
		elems = arg.AsList().Elements()
	}
	var ps []netip.Prefix
	for _, elem := range elems {
		v, ok := l.lower(elem)
		if !ok || !v.constant || v.kind != kindString {
			return value{}, false
		}
		p, err := parseRange(v.text(nil))
		if err != nil {
			return value{}, false
		}
		ps = append(ps, p)
	}
	r := newRanges(ps)
	return flagOf(func(e *env) bool { return r.contains(e.p.Client.Address) }), true
}

func (l *lowering) inList(a, name value) (value, bool) {
	if !name.constant || name.kind != kindString {
		return value{}, false
	}
	list, ok := l.lists[name.text(nil)]
	if !ok {
		return value{}, false
	}
	switch {
	case a.v != nil && a.v.name == "client.address" && list.addresses != nil:
		t := list.addresses
		return flagOf(func(e *env) bool { return e.p.Client.Address.IsValid() && t.Contains(e.p.Client.Address) }), true
	case a.kind == kindInt && list.numbers != nil:
		x, m := a.number, list.numbers
		return fold(flagOf(func(e *env) bool { _, ok := m[x(e)]; return ok }), a), true
	case a.kind == kindString && (a.v == nil || a.v.name != "client.address") && list.texts != nil:
		x, m := a.text, list.texts
		return fold(flagOf(func(e *env) bool { _, ok := m[x(e)]; return ok }), a), true
	}
	return value{}, false
}

// The bounds of a regular expression. RE2 matching is linear in the text; the
// bound keeps the factor small.
const (
	maxRegexp        = 1000 // bytes
	maxRegexpProgram = 2000 // instructions
)

// compileRegexp compiles an RE2 expression of bounded size.
func compileRegexp(s string) (*regexp.Regexp, error) {
	if len(s) > maxRegexp {
		return nil, fmt.Errorf("the regular expression is %d bytes long; at most %d are allowed", len(s), maxRegexp)
	}
	tree, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	if len(prog.Inst) > maxRegexpProgram {
		return nil, fmt.Errorf("the regular expression is too complex: %d steps, at most %d are allowed (repetitions multiply)", len(prog.Inst), maxRegexpProgram)
	}
	return regexp.Compile(s)
}
