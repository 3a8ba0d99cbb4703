package config

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// object is a JSON object of the schema; encoding/json sorts its keys.
type object map[string]any

// WriteJSONSchema writes the JSON Schema (draft 2020-12) of the file, for editors
// that complete and check while one writes.
func WriteJSONSchema(w io.Writer) error {
	s := schema().jsonSection()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "quickthorn configuration"
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return fmt.Errorf("write JSON Schema: %w", err)
	}
	return nil
}

func (f *field) jsonSection() object {
	properties := object{}
	for _, k := range f.kids {
		properties[k.name] = k.json()
		if k.secret {
			properties[k.name+"File"] = object{"type": "string", "description": "File with " + k.path + "."}
		}
	}
	s := object{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
	if f.doc != "" {
		s["description"] = f.doc
	}
	return s
}

func (f *field) json() object {
	switch f.kind {
	case kindSection:
		return f.jsonSection()
	case kindTable:
		one := f.jsonSection()
		delete(one, "description")
		one["required"] = []string{"name", "hosts", "upstream"}
		return object{"type": []string{"array", "null"}, "description": f.doc, "items": one}
	}
	s := f.jsonValue()
	if f.list {
		// A single text is split at commas.
		s = object{"type": []string{"array", "string", "null"}, "items": s}
	}
	s["description"] = f.comment()
	if f.def != "" {
		s["default"] = f.jsonDefault()
	}
	return s
}

// jsonValue is the schema of one value. An empty key leaves the default, hence null.
func (f *field) jsonValue() object {
	one := func(t string) object {
		if f.list {
			return object{"type": t}
		}
		return object{"type": []string{t, "null"}}
	}
	bound := func(s object) object {
		for key, text := range map[string]string{"minimum": f.min, "maximum": f.max} {
			if n, err := strconv.ParseFloat(text, 64); err == nil {
				s[key] = n
			}
		}
		return s
	}
	if len(f.enum) > 0 {
		enum := []any{}
		for _, e := range f.enum {
			enum = append(enum, e)
		}
		if !f.list {
			enum = append(enum, nil)
		}
		return object{"enum": enum}
	}
	switch f.kind {
	case kindBool:
		return one("boolean")
	case kindInt:
		return bound(one("integer"))
	case kindFloat:
		return bound(one("number"))
	case kindDuration:
		return object{"type": []string{"string", "integer", "null"}, "pattern": `^(0|([0-9]+d)?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))*)$`, "maximum": 0, "minimum": 0}
	case kindSize:
		return object{"type": []string{"string", "integer", "null"}, "pattern": `^(0|[0-9]+ ?([KMGT]iB|[kKMGT]?B))$`, "maximum": 0, "minimum": 0}
	}
	s := one("string")
	if n, err := strconv.Atoi(f.min); err == nil {
		s["minLength"] = n
	}
	return s
}

func (f *field) jsonDefault() any {
	switch {
	case f.list:
		var all []string
		for _, it := range f.split(f.def, Origin{}) {
			all = append(all, it.text)
		}
		return all
	case f.kind == kindBool, f.kind == kindInt, f.kind == kindFloat:
		return json.RawMessage(f.def)
	}
	return f.def
}
