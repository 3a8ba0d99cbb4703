package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxNesting bounds brackets within each other and marks in a row. Nothing in the
// configuration nests deeper than four; the YAML parser recurses for each.
const maxNesting = 64

// file sets what a YAML file says.
func (l *loader) file(name string, src []byte) {
	o := Origin{Kind: FromFile, Name: printable(name)}
	src = bytes.TrimPrefix(src, []byte("\ufeff")) // some editors on Windows begin files with it
	if err := checkNesting(src); err != nil {
		l.fail(o, "", "%s", err)
		return
	}
	f, err := parser.ParseBytes(src, 0)
	if err != nil {
		var ye yaml.Error
		if errors.As(err, &ye) {
			o.Line = lineOf(ye.GetToken())
			l.fail(o, "", "not valid YAML: %s", ye.GetMessage())
			return
		}
		l.fail(o, "", "not valid YAML: %s", quote(err.Error()))
		return
	}
	seen := false
	for _, d := range f.Docs {
		if d == nil || d.Body == nil || d.Body.Type() == ast.CommentType {
			continue
		}
		o.Line = lineOf(d.Body.GetToken())
		if seen {
			l.fail(o, "", "a second YAML document: a configuration is one")
			return
		}
		seen = true
		l.section(l.root, l.value, "", d.Body, o)
	}
}

// checkNesting refuses what would make a recursive parser run out of stack:
// "[[[[…" and, within one line, "- - - …" or "? ? ? …".
func checkNesting(src []byte) error {
	brackets, marks := 0, 0
	for _, c := range src {
		switch c {
		case '[', '{':
			brackets++
		case ']', '}':
			brackets = max(0, brackets-1)
		case '\n':
			marks = 0
		case '-', '?', '!', '&':
			marks++
		case ' ', '\t':
			continue
		default:
			marks = 0
		}
		if max(brackets, marks) > maxNesting {
			return fmt.Errorf("not a configuration: more than %d brackets within each other or marks in a row", maxNesting)
		}
	}
	return nil
}

func lineOf(t *token.Token) int {
	if t == nil || t.Position == nil {
		return 0
	}
	return t.Position.Line
}

func (o Origin) at(n ast.Node) Origin {
	if n != nil && !reflect.ValueOf(n).IsNil() {
		if line := lineOf(n.GetToken()); line > 0 {
			o.Line = line
		}
	}
	return o
}

// section sets the fields below f from a mapping; prefix is the dotted path with its dot.
func (l *loader) section(f *field, v reflect.Value, prefix string, n ast.Node, o Origin) {
	var entries []*ast.MappingValueNode
	switch x := n.(type) {
	case nil, *ast.NullNode:
		return // a section whose keys are all comments
	case *ast.MappingNode:
		entries = x.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{x}
	default:
		what := strings.TrimSuffix(prefix, ".")
		if what == "" {
			l.fail(o.at(n), "", "the file must consist of sections such as %q, not of %s", "edge:", describe(n))
			return
		}
		l.fail(o.at(n), what, "must be a section with keys such as %s, not %s", f.kids[0].name, describe(n))
		return
	}
	for _, e := range entries {
		if e == nil || e.Key == nil {
			continue
		}
		at := o.at(e.Key)
		if e.Key.IsMergeKey() {
			l.fail(at, strings.TrimSuffix(prefix, "."), "merge keys (<<) are not supported: write the values out")
			continue
		}
		key := keyText(e.Key)
		path := prefix + key
		kid, fromFile := f.child(key)
		if kid == nil {
			l.fail(at, printable(path), "unknown key%s", l.suggestKey(f, prefix, key))
			continue
		}
		place := v.Field(kid.index)
		switch {
		case kid.kind == kindSection:
			l.section(kid, place, path+".", e.Value, at)
		case kid.kind == kindTable:
			l.table(kid, place, path, e.Value, at)
		default:
			l.setting(kid, place, prefix+kid.name, e.Value, at, fromFile)
		}
	}
}

func (l *loader) suggestKey(f *field, prefix, key string) string {
	if l.full() {
		return ""
	}
	if s := didYouMean(key, f.keys()); s != "" {
		return s
	}
	if s := l.suggest(prefix + key); s != "" {
		return s
	}
	return ": known are " + strings.Join(f.keys(), ", ")
}

// table appends an element for each mapping of a sequence.
func (l *loader) table(f *field, v reflect.Value, path string, n ast.Node, o Origin) {
	var elements []ast.Node
	switch x := n.(type) {
	case nil, *ast.NullNode:
		return
	case *ast.SequenceNode:
		elements = x.Values
	default:
		l.fail(o.at(n), path, "must be a list of entries that begin with \"- \", not %s", describe(n))
		return
	}
	if len(elements) == 0 {
		return
	}
	list := reflect.MakeSlice(v.Type(), len(elements), len(elements))
	for i, e := range elements {
		name := fmt.Sprintf("%s[%d]", path, i)
		at := o.at(e)
		if m, ok := e.(*ast.MappingNode); ok && len(m.Values) > 0 && m.Values[0] != nil {
			at = at.at(m.Values[0].Key)
		}
		l.config.origins[name] = at
		l.section(f, list.Index(i), name+".", e, at)
	}
	v.Set(list)
}

// setting sets one value or list of values.
func (l *loader) setting(f *field, v reflect.Value, path string, n ast.Node, o Origin, fromFile bool) {
	var items []item
	if seq, ok := n.(*ast.SequenceNode); ok {
		if !f.list {
			l.fail(o.at(n), path, "takes one %s, not a list", f.kind)
			return
		}
		for _, e := range seq.Values {
			text, err := scalar(e)
			if err != nil {
				l.fail(o.at(e), path, "%s", err)
				return
			}
			items = append(items, item{text, o.at(e)})
		}
		l.assign(f, v, path, items, o)
		return
	}
	if n == nil || n.Type() == ast.NullType {
		return // a key without a value leaves the default
	}
	text, err := scalar(n)
	if err != nil {
		l.fail(o.at(n), path, "%s", err)
		return
	}
	items = f.split(text, o.at(n))
	if fromFile {
		it, ok := l.secretFile(path, items[0])
		if !ok {
			return
		}
		items[0] = it
	}
	l.assign(f, v, path, items, o.at(n))
}

// keyText returns a key as it was written.
func keyText(k ast.MapKeyNode) string {
	if s, ok := k.(*ast.StringNode); ok {
		return s.Value
	}
	return k.String()
}

// scalar returns the text of a single value as it was written: "5s", 0.05, true.
func scalar(n ast.Node) (string, error) {
	switch x := n.(type) {
	case *ast.StringNode:
		return x.Value, nil
	case *ast.LiteralNode:
		if x.Value == nil {
			return "", nil
		}
		return strings.TrimSuffix(x.Value.Value, "\n"), nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, nil
	case *ast.AliasNode:
		if x.Value == nil {
			return "", errors.New("aliases (*) are not supported: write the value out")
		}
		name := "*" + x.Value.String()
		return "", fmt.Errorf("%s must be in quotes, since * begins an alias in YAML", quote(name))
	case nil, *ast.NullNode:
		return "", errors.New("an empty entry")
	}
	hint := ""
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		hint = "; a text with a colon in it must be in quotes"
	}
	return "", fmt.Errorf("must be a single value, not %s%s", describe(n), hint)
}

// describe names what a node is for people.
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a section"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode:
		return "an anchor or alias (write the value out)"
	case *ast.TagNode:
		return "a tagged value"
	}
	if text, err := scalar(n); err == nil {
		return quote(text)
	}
	return "something else"
}
