package main

import (
	"cmp"
	"encoding"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// object is a JSON object.
type object = map[string]any

// schemas collects the schemas of Go types, each under its name.
type schemas struct {
	root  string // of the module
	all   object
	of    map[string]reflect.Type // whose schema has that name
	docs  map[string]string       // comments by "package/path.Type" and "package/path.Type.Field"
	words map[string][]word       // constants by "package/path.Type"
	read  map[string]bool         // packages whose comments were read
	names map[string]string       // see names
	facts map[string]object       // see facts
	told  map[string]bool         // the facts that were of use
}

// newSchemas returns none yet; the module lies at root.
func newSchemas(root string) *schemas {
	return &schemas{
		root: root, all: object{}, of: map[string]reflect.Type{}, docs: map[string]string{}, words: map[string][]word{}, read: map[string]bool{},
		names: names(), facts: facts(), told: map[string]bool{},
	}
}

// word is a string constant of a type of ours.
type word struct{ text, doc string }

const module = "github.com/quickthorn/quickthorn/"

// schema returns the schema of a type: a reference for structs and for types of ours that are words.
func (s *schemas) schema(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Pointer:
		return s.schema(t.Elem())
	case t.Kind() == reflect.Struct:
		return s.component(t, s.structure)
	case len(namesOf(t)) > 0 || len(s.wordsOf(t)) > 0:
		return s.component(t, s.enumeration)
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number", "format": "double"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32:
		return object{"type": "integer"}
	case reflect.Int64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return object{"type": "integer", "minimum": 0}
	case reflect.Uint64:
		return object{"type": "integer", "format": "int64", "minimum": 0}
	case reflect.Slice:
		return object{"type": "array", "items": s.schema(t.Elem())}
	case reflect.Interface:
		return object{}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.schema(t.Elem())}
	}
	panic(fmt.Sprintf("no schema for %s", t))
}

// component makes the schema of a type that has a name, once, and returns a reference to it.
func (s *schemas) component(t reflect.Type, fill func(t reflect.Type, o object)) object {
	name := cmp.Or(s.names[t.String()], strings.ToUpper(t.Name()[:1])+t.Name()[1:])
	switch known := s.of[name]; {
	case known == nil:
		o := object{}
		s.all[name], s.of[name] = o, t // before its fields, which may be of the type itself
		if doc := renamed(s.doc(t, ""), t.Name(), name); doc != "" {
			o["description"] = doc
		}
		fill(t, o)
	case known != t:
		panic(fmt.Sprintf("%s and %s are both called %s: name one in facts.go", known, t, name))
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// renamed returns a comment that begins with a name of Go with the one that the document has.
func renamed(doc, from, to string) string {
	if rest, ok := strings.CutPrefix(doc, from+" "); ok {
		return to + " " + rest
	}
	return doc
}

func (s *schemas) structure(t reflect.Type, o object) {
	properties, required := object{}, []string{}
	s.fields(t, properties, &required)
	o["type"], o["properties"] = "object", properties
	if len(required) > 0 {
		o["required"] = required
	}
}

func (s *schemas) fields(t reflect.Type, properties object, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if !f.IsExported() || tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if f.Anonymous && name == "" {
			s.fields(f.Type, properties, required)
			continue
		}
		name = cmp.Or(name, f.Name)
		properties[name] = s.property(t, &f, name)
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			*required = append(*required, name)
		}
	}
}

// property is the schema of a field, with what is said about it.
func (s *schemas) property(t reflect.Type, f *reflect.StructField, name string) object {
	key := t.String() + "." + f.Name
	p, fact := s.schema(f.Type), s.facts[key]
	s.told[key] = fact != nil
	if fact["enum"] != nil { // instead of all words of the type
		p = object{"type": "string"}
		if f.Type.Kind() == reflect.Int {
			p["type"] = "integer"
		}
	}
	said := object{}
	if doc := renamed(s.doc(t, f.Name), f.Name, name); doc != "" {
		said["description"] = doc
	}
	maps.Copy(said, fact)
	if _, ref := p["$ref"]; ref && len(said) > 0 { // nothing may stand beside a reference
		p = object{"allOf": []any{p}}
	}
	maps.Copy(p, said)
	return p
}

// enumeration is a type whose values are words.
func (s *schemas) enumeration(t reflect.Type, o object) {
	o["type"] = "string"
	if list := namesOf(t); len(list) > 0 {
		o["enum"] = list
		return
	}
	var values, docs []string
	for _, w := range s.wordsOf(t) {
		values = append(values, w.text)
		if w.doc != "" {
			docs = append(docs, fmt.Sprintf("%q: %s", w.text, w.doc))
		}
	}
	o["enum"] = values
	if len(docs) > 0 {
		o["description"] = fmt.Sprint(o["description"], " ", strings.Join(docs, "; "), ".")
	}
}

// namesOf lists the names of an enumeration of ours, which are what its String method gives for 0, 1, 2 …
func namesOf(t reflect.Type) []string {
	if t.Kind() != reflect.Uint8 || !t.Implements(reflect.TypeFor[fmt.Stringer]()) {
		return nil
	}
	var names []string
	for i := range uint64(256) {
		v := reflect.New(t).Elem()
		v.SetUint(i)
		name := v.Interface().(fmt.Stringer).String()
		if strings.Contains(name, "(") { // unknown(7), severity(3)
			break
		}
		names = append(names, name)
	}
	return names
}

// wordsOf lists the constants of a string type of ours.
func (s *schemas) wordsOf(t reflect.Type) []word {
	if t.Kind() != reflect.String || t.PkgPath() == "" {
		return nil
	}
	return s.words[s.key(t)]
}

// doc returns the comment of a type, or of one of its fields.
func (s *schemas) doc(t reflect.Type, field string) string {
	key := s.key(t)
	if field != "" {
		key += "." + field
	}
	return s.docs[key]
}

// key names a type in docs and words, which then know its package.
func (s *schemas) key(t reflect.Type) string {
	path := t.PkgPath()
	if path == "main" { // this program; as a test it has its path
		path = module + "internal/openapi/gen"
	}
	if !s.read[path] {
		s.read[path] = true
		s.readPackage(path)
	}
	return path + "." + t.Name()
}

func (s *schemas) readPackage(path string) {
	files, err := filepath.Glob(filepath.Join(s.root, filepath.FromSlash(strings.TrimPrefix(path, module)), "*.go"))
	if err != nil {
		panic(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			panic(err)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				s.readDeclaration(path, g)
			}
		}
	}
}

// readDeclaration notes the comments of types and their fields, and the constants of string types.
func (s *schemas) readDeclaration(path string, g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			key := path + "." + spec.Name.Name
			s.docs[key] = either(spec.Doc, g.Doc)
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range st.Fields.List {
				for _, id := range field.Names {
					s.docs[key+"."+id.Name] = either(field.Doc, field.Comment)
				}
			}
		case *ast.ValueSpec:
			of, ok := spec.Type.(*ast.Ident)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, v := range spec.Values {
				if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					text, err := strconv.Unquote(lit.Value)
					if err != nil {
						panic(err)
					}
					key := path + "." + of.Name
					s.words[key] = append(s.words[key], word{text, either(spec.Doc, spec.Comment)})
				}
			}
		}
	}
}

// docLink is a link as Go's documentation has it: [Type], [package.Name].
var docLink = regexp.MustCompile(`\[([A-Z]\w*(?:\.\w+)*|\w+\.[A-Z]\w*)\]`)

// either returns the text of the first comment that there is.
func either(comments ...*ast.CommentGroup) string {
	for _, c := range comments {
		if text := strings.Join(strings.Fields(c.Text()), " "); text != "" {
			return docLink.ReplaceAllString(text, "$1")
		}
	}
	return ""
}
