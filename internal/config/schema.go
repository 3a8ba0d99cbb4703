package config

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// field is one key of the configuration, read from a struct's tags.
type field struct {
	name    string // key
	path    string // dotted, "[]" after a list of sections
	doc     string
	def     string
	example string
	index   int // in the parent struct
	typ     reflect.Type
	kind    kind
	list    bool // a list of values of typ
	pointer bool // nil when empty
	enum    []string
	min     string
	max     string
	format  string
	secret  bool
	kids    []*field // of a section or a list of sections
}

// schema reads the tree of fields of Config. What it panics on is a mistake in
// the tags, which every test of this package would meet.
func schema() *field {
	root := &field{typ: reflect.TypeFor[Config](), kind: kindSection}
	root.kids = fieldsOf(root.typ, "")
	return root
}

func fieldsOf(t reflect.Type, prefix string) []*field {
	var fields []*field
	for i := range t.NumField() {
		sf := t.Field(i)
		name := sf.Tag.Get("yaml")
		if !sf.IsExported() {
			continue
		}
		f := &field{
			name: name, path: prefix + name, doc: sf.Tag.Get("doc"), def: sf.Tag.Get("default"), example: sf.Tag.Get("example"),
			index: i, typ: sf.Type, min: sf.Tag.Get("min"), max: sf.Tag.Get("max"), format: sf.Tag.Get("format"), secret: sf.Tag.Get("secret") == "true",
		}
		if name == "" || f.doc == "" {
			panic("config: " + t.Name() + "." + sf.Name + " needs the tags yaml and doc")
		}
		if e := sf.Tag.Get("enum"); e != "" {
			f.enum = strings.Split(e, ",")
		}
		switch f.typ.Kind() {
		case reflect.Slice:
			f.list, f.typ = true, f.typ.Elem()
		case reflect.Pointer:
			f.pointer, f.typ = true, f.typ.Elem()
		}
		f.kind = kindOf(f.typ)
		switch {
		case f.kind == kindSection && f.list:
			f.kind, f.list = kindTable, false
			f.kids = fieldsOf(f.typ, f.path+"[].")
		case f.kind == kindSection:
			f.kids = fieldsOf(f.typ, f.path+".")
		}
		fields = append(fields, f)
	}
	return fields
}

// child returns the field below f that a key names. For a secret, NAMEFile is a
// key as well, and fromFile is then true.
func (f *field) child(key string) (kid *field, fromFile bool) {
	for _, k := range f.kids {
		if k.name == key {
			return k, false
		}
		if k.secret && k.name+"File" == key {
			return k, true
		}
	}
	return nil, false
}

// keys lists the keys below f.
func (f *field) keys() []string {
	var names []string
	for _, k := range f.kids {
		names = append(names, k.name)
		if k.secret {
			names = append(names, k.name+"File")
		}
	}
	return names
}

// walk calls visit with every setting, sections excluded, in order. Settings
// within a list of sections come once, with "[]" in their path.
func (f *field) walk(visit func(*field)) {
	for _, k := range f.kids {
		if k.kids != nil {
			k.walk(visit)
			continue
		}
		visit(k)
	}
}

// settable returns the settings that a dotted path or a variable can name, by path.
func (f *field) settable() map[string]*field {
	m := map[string]*field{}
	f.walk(func(k *field) {
		if !strings.Contains(k.path, "[]") {
			m[k.path] = k
		}
	})
	return m
}

// in returns the value of a setting below root, which is a Config.
func (f *field) in(root reflect.Value, top *field) reflect.Value {
	v, at := root, top
	for part := range strings.SplitSeq(f.path, ".") {
		at, _ = at.child(part)
		v = v.Field(at.index)
	}
	return v
}

// bounds describes what is allowed, "" if anything of the kind is.
func (f *field) bounds() string {
	what := ""
	if f.kind == kindText {
		what = " characters"
	}
	switch {
	case len(f.enum) > 0:
		return strings.Join(f.enum, ", ")
	case f.min != "" && f.max != "":
		return f.min + " to " + f.max + what
	case f.min != "":
		return "at least " + f.min + what
	case f.max != "":
		return "at most " + f.max + what
	}
	return ""
}

// set reads text into v, the place of one value of f (a list's element), and checks it.
func (f *field) set(v reflect.Value, text string) error {
	if len(f.enum) > 0 {
		found := false
		for _, e := range f.enum {
			if strings.EqualFold(e, text) {
				text, found = e, true
				break
			}
		}
		if !found {
			return fmt.Errorf("%s is not one of %s%s", quote(text), strings.Join(f.enum, ", "), didYouMean(text, f.enum))
		}
	}
	if err := parse(v, text); err != nil {
		return err
	}
	if err := checkFormat(f.format, text); err != nil {
		return err
	}
	return f.checkBounds(v, text)
}

func (f *field) checkBounds(v reflect.Value, text string) error {
	n := v
	for i, bound := range [...]string{f.min, f.max} {
		if bound == "" {
			continue
		}
		limit := reflect.New(f.typ).Elem()
		if f.kind == kindText {
			length := len(text)
			n, limit = reflect.ValueOf(&length).Elem(), reflect.New(reflect.TypeFor[int]()).Elem()
		}
		if err := parse(limit, bound); err != nil {
			panic("config: bound of " + f.path + ": " + err.Error())
		}
		c := compare(n, limit)
		if i == 0 && c >= 0 || i == 1 && c <= 0 {
			continue
		}
		if f.kind == kindText {
			return fmt.Errorf("has %d characters: %s", n.Int(), f.bounds())
		}
		return fmt.Errorf("%s is out of bounds: %s", quote(text), f.bounds())
	}
	return nil
}

// EnvName returns the environment variable of a dotted path:
// "edge.limits.headerTimeout" is QUICKTHORN_EDGE_LIMITS_HEADER_TIMEOUT.
func EnvName(path string) string {
	var b strings.Builder
	b.WriteString("QUICKTHORN_")
	var before rune
	for _, r := range path {
		switch {
		case r == '.':
			b.WriteByte('_')
		case unicode.IsUpper(r) && before != '.':
			b.WriteByte('_')
			b.WriteRune(r)
		default:
			b.WriteRune(unicode.ToUpper(r))
		}
		before = r
	}
	return b.String()
}

// didYouMean returns ` (did you mean "x"?)` if one of the known is close to what was written, else "".
func didYouMean(written string, known []string) string {
	if s := closest(written, known); s != "" {
		return fmt.Sprintf(" (did you mean %s?)", s)
	}
	return ""
}

// closest returns the known word that is within a third of its letters of what was written, else "".
func closest(written string, known []string) string {
	if len(written) > 128 {
		return ""
	}
	best, distance := "", 0
	for _, k := range known {
		d := editDistance(strings.ToLower(written), strings.ToLower(k))
		if d > max(1, len(k)/3) {
			continue
		}
		if best == "" || d < distance {
			best, distance = k, d
		}
	}
	return best
}

// editDistance is the number of bytes to insert, delete, replace or swap with
// their neighbour to turn a into b.
func editDistance(a, b string) int {
	before2, before, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range before {
		before[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(before[j]+cost, before[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before2[j-1]+1)
			}
		}
		before2, before, row = before, row, before2
	}
	return before[len(b)]
}
