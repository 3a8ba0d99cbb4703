package config

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
)

func element(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// Value is one setting with its value and where that comes from.
type Value struct {
	Path   string // dotted
	Text   string // as in a file, list elements joined by ", "; secrets are masked
	Origin Origin
}

// masked stands for a secret that is set.
const masked = "(secret)"

// Values returns every setting in the order of the documentation.
func (c *Config) Values() []Value {
	var values []Value
	root := schema()
	c.collect(root, reflect.ValueOf(c).Elem(), "", &values)
	return values
}

func (c *Config) collect(f *field, v reflect.Value, prefix string, values *[]Value) {
	for _, k := range f.kids {
		path, place := prefix+k.name, v.Field(k.index)
		switch k.kind {
		case kindSection:
			c.collect(k, place, path+".", values)
		case kindTable:
			for i := range place.Len() {
				c.collect(k, place.Index(i), element(path, i)+".", values)
			}
		default:
			*values = append(*values, Value{path, strings.Join(k.texts(place), ", "), c.Origin(path)})
		}
	}
}

// texts returns the values of a setting as written in a file; none when it is empty.
func (f *field) texts(v reflect.Value) []string {
	switch {
	case f.list:
		var all []string
		for i := range v.Len() {
			all = append(all, format(v.Index(i)))
		}
		return all
	case f.pointer && v.IsNil():
		return nil
	case f.pointer:
		v = v.Elem()
	}
	s := format(v)
	if s == "" {
		return nil
	}
	if f.secret {
		return []string{masked}
	}
	return []string{s}
}

// WriteDefaults writes the documented file: every setting with what it means, its
// bounds and its default.
func WriteDefaults(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, `# quickthorn.yaml: every setting with its default. Keep what you change; what is
# left out has its default. A setting can also be given by an environment variable
# (edge.limits.headerTimeout is %s) or by
# --set edge.limits.headerTimeout=5s. Flags go before the environment, the
# environment before this file. Durations need a unit (30s, 5m, 7d), sizes too
# (64KiB, 1GiB).
`, EnvName("edge.limits.headerTimeout"))
	c := Default()
	writeSection(b, schema(), reflect.ValueOf(c).Elem(), "", true, func(string) string { return "" })
	return b.Flush()
}

// Write writes the configuration as a file, with a comment that says where each
// value comes from. Secrets are left out.
func (c *Config) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	writeSection(b, schema(), reflect.ValueOf(c).Elem(), "", false, func(path string) string { return "  # " + c.Origin(path).String() })
	return b.Flush()
}

func writeSection(b *bufio.Writer, f *field, v reflect.Value, prefix string, documented bool, note func(path string) string) {
	indent := strings.Repeat("  ", strings.Count(prefix, "."))
	for _, k := range f.kids {
		path, place := prefix+k.name, v.Field(k.index)
		if documented {
			if prefix == "" || k.kids != nil {
				b.WriteByte('\n')
			}
			for _, line := range wrap(k.comment(), 96-len(indent)) {
				fmt.Fprintf(b, "%s# %s\n", indent, line)
			}
		}
		switch {
		case k.kind == kindSection:
			fmt.Fprintf(b, "%s%s:\n", indent, k.name)
			writeSection(b, k, place, path+".", documented, note)
		case k.kind == kindTable && documented:
			fmt.Fprintf(b, "%s%s: []\n", indent, k.name)
			for i, e := range k.kids {
				for _, line := range wrap(e.comment(), 90-len(indent)) {
					fmt.Fprintf(b, "%s#     # %s\n", indent, line)
				}
				lead, value := "    ", e.example
				if i == 0 {
					lead = "  - "
				}
				fmt.Fprintln(b, strings.TrimRight(indent+"# "+lead+e.name+": "+value, " "))
			}
		case k.kind == kindTable:
			if place.Len() == 0 {
				continue
			}
			fmt.Fprintf(b, "%s%s:\n", indent, k.name)
			for i := range place.Len() {
				for j, e := range k.kids {
					lead := "    "
					if j == 0 {
						lead = "  - "
					}
					fmt.Fprintf(b, "%s%s%s:%s%s\n", indent, lead, e.name, e.yaml(place.Index(i).Field(e.index)), note(element(path, i)+"."+e.name))
				}
			}
		case documented && k.secret:
			fmt.Fprintf(b, "%s%s:\n%s# or, read from a file:\n%s# %sFile: /run/secrets/%s\n", indent, k.name, indent, indent, k.name, strings.ToLower(strings.ReplaceAll(path, ".", "-")))
		case k.secret:
			fmt.Fprintf(b, "%s%s:%s\n", indent, k.name, note(path))
		default:
			fmt.Fprintf(b, "%s%s:%s%s\n", indent, k.name, k.yaml(place), note(path))
			if documented && k.example != "" {
				fmt.Fprintf(b, "%s# %s: %s\n", indent, k.name, k.example)
			}
		}
	}
}

// yaml returns a setting's value in YAML, with a space in front if there is one.
func (f *field) yaml(v reflect.Value) string {
	texts := f.texts(v)
	if f.list {
		quoted := make([]string, len(texts))
		for i, t := range texts {
			quoted[i] = yamlText(t)
		}
		return " [" + strings.Join(quoted, ", ") + "]"
	}
	switch {
	case len(texts) == 0 && f.kind == kindText && !f.pointer:
		return ` ""`
	case len(texts) == 0:
		return ""
	case f.kind == kindText:
		return " " + yamlText(texts[0])
	}
	return " " + texts[0]
}

// yamlText writes a text plainly if that reads back as the same text, else in double quotes.
func yamlText(s string) string {
	plain := s != ""
	for i, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', r == '/' && i > 0, r == '.' && i > 0, r == '-' && i > 0, r == '_' && i > 0:
		case '0' <= r && r <= '9' && i > 0:
		default:
			plain = false
		}
	}
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		plain = false
	}
	if plain {
		return s
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // a string always encodes
		panic("config: " + err.Error())
	}
	return strings.TrimSpace(b.String())
}

// comment is the sentence of a setting with its bounds.
func (f *field) comment() string {
	if b := f.bounds(); b != "" {
		what := "Bounds: "
		if len(f.enum) > 0 {
			what = "One of: "
			if f.list {
				what = "Of: "
			}
		}
		return f.doc + " " + what + b + "."
	}
	return f.doc
}

// wrap breaks a text at spaces.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// WriteReference writes the tables of docs/configuration.md, one for each section.
func WriteReference(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, section := range schema().kids {
		fmt.Fprintf(b, "### %s\n\n%s\n\n", section.name, section.doc)
		if section.kind == kindTable {
			b.WriteString("| Key | Meaning | Allowed |\n| --- | --- | --- |\n")
			section.walk(func(f *field) { fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.path, f.doc, f.allowed()) })
		} else {
			b.WriteString("| Key and variable | Meaning | Default | Allowed |\n| --- | --- | --- | --- |\n")
			section.walk(func(f *field) {
				def := f.def
				if def != "" {
					def = "`" + strings.ReplaceAll(def, ",", ", ") + "`"
				}
				key := "`" + f.path + "`<br>`" + EnvName(f.path) + "`"
				if f.secret {
					key += "<br>`" + f.path + "File`<br>`" + EnvName(f.path) + "_FILE`"
				}
				fmt.Fprintf(b, "| %s | %s | %s | %s |\n", key, f.doc, def, f.allowed())
			})
		}
		b.WriteByte('\n')
	}
	return b.Flush()
}

// allowed describes the values of a setting for a table.
func (f *field) allowed() string {
	s := string(f.kind)
	if len(f.enum) > 0 {
		s = strings.Join(f.enum, ", ")
	} else if b := f.bounds(); b != "" {
		s += ", " + b
	}
	if f.list {
		return "list of: " + s
	}
	return s
}
