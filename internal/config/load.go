package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
)

// FileVariable names the environment variable that names the file. It is the
// only QUICKTHORN_ variable that is not a setting.
const FileVariable = "QUICKTHORN_CONFIG"

// MaxFile bounds the configuration file, in bytes.
const MaxFile = 256 << 10

// maxSecretFile bounds a file that holds a secret, in bytes.
const maxSecretFile = 64 << 10

// LoadOptions say where values come from.
type LoadOptions struct {
	// File is the file's name; "" reads none. If Required is false, the variable
	// QUICKTHORN_CONFIG goes before it and a missing File is no error.
	File     string
	Required bool
	// Environ holds "NAME=value" as os.Environ returns it. Names that do not begin
	// with QUICKTHORN_ are ignored, an empty value counts as not set.
	Environ []string
	// Flags are the flags that set one field each, stronger than the environment.
	Flags []Flag
	// Sets holds "section.field=value", the strongest, the last of one path wins.
	Sets []string
	// ReadFile reads the configuration file and files that hold secrets. Nil reads
	// from disk, at most MaxFile bytes.
	ReadFile func(name string) ([]byte, error)
}

// Flag is a command-line flag of its own for one setting.
type Flag struct {
	Name  string // as problems name it: "--upstream"
	Path  string // dotted path of the setting
	Value string
}

// Given returns the flags that have a value: the others were not typed.
func Given(flags ...Flag) []Flag {
	return slices.DeleteFunc(flags, func(f Flag) bool { return f.Value == "" })
}

// Default returns the configuration of defaults alone.
func Default() *Config {
	c, err := Load(LoadOptions{})
	if err != nil {
		panic("config: the defaults contradict each other: " + err.Error())
	}
	return c
}

// Load reads the configuration. An error is [Problems], or tells why the file cannot be read.
func Load(o LoadOptions) (*Config, error) {
	if o.ReadFile == nil {
		o.ReadFile = readFile
	}
	l := &loader{root: schema(), config: &Config{origins: map[string]Origin{}}, readFile: o.ReadFile, bad: map[string]bool{}}
	l.value = reflect.ValueOf(l.config).Elem()
	l.defaults(l.root, l.value)

	env, file, required := l.variables(o.Environ), o.File, o.Required
	if name := env[FileVariable]; name != "" && !required {
		file, required = name, true
	}
	if file != "" {
		src, err := o.ReadFile(file)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !required:
		case err != nil:
			return nil, fmt.Errorf("read configuration: %w", err)
		case len(src) > MaxFile:
			return nil, fmt.Errorf("read configuration: %s is larger than %s", file, Size(MaxFile))
		default:
			l.config.file = file
			l.file(file, src)
		}
	}
	l.environment(env)
	for _, f := range o.Flags {
		l.set(Origin{Kind: FromFlag, Name: f.Name}, f.Path, f.Value)
	}
	for _, s := range o.Sets {
		l.flag(s)
	}
	l.check()
	if len(l.problems) > 0 {
		l.problems.sort()
		if l.unshown > 0 {
			l.problems = append(l.problems, Problem{Message: fmt.Sprintf("and %d more", l.unshown)})
		}
		return nil, l.problems
	}
	return l.config, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxFile+1))
}

// loader fills one Config.
type loader struct {
	root     *field
	config   *Config
	value    reflect.Value // of config
	readFile func(string) ([]byte, error)
	problems Problems
	unshown  int             // problems beyond maxProblems
	bad      map[string]bool // paths with a problem: what follows from it is not reported as well
}

func (l *loader) fail(o Origin, path, format string, args ...any) {
	l.bad[path] = true
	if len(l.problems) >= maxProblems {
		l.unshown++
		return
	}
	l.problems = append(l.problems, Problem{o, path, fmt.Sprintf(format, args...)})
}

// defaults sets every field below f that has a default.
func (l *loader) defaults(f *field, v reflect.Value) {
	for _, k := range f.kids {
		switch {
		case k.kind == kindSection:
			l.defaults(k, v.Field(k.index))
		case k.kind != kindTable && k.def != "":
			l.assign(k, v.Field(k.index), k.path, k.split(k.def, Origin{}), Origin{})
		}
	}
}

// item is one written value.
type item struct {
	text   string
	origin Origin
}

// split turns a text into the items of a setting: for lists, at commas.
func (f *field) split(text string, o Origin) []item {
	if !f.list {
		return []item{{text, o}}
	}
	var items []item
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			items = append(items, item{part, o})
		}
	}
	return items
}

// assign sets the setting f, whose place is v and whose name is path. An empty
// text empties settings that may be empty.
func (l *loader) assign(f *field, v reflect.Value, path string, items []item, o Origin) {
	l.config.origins[path] = o
	if o.Kind == FromDefault {
		delete(l.config.origins, path)
	}
	if f.list {
		list := reflect.MakeSlice(v.Type(), len(items), len(items))
		for i, it := range items {
			name := fmt.Sprintf("%s[%d]", path, i)
			l.config.origins[name] = it.origin
			l.setOne(f, list.Index(i), name, it)
		}
		if len(items) == 0 {
			list = reflect.Zero(v.Type())
		}
		v.Set(list)
		return
	}
	it := items[0]
	if it.text == "" && (f.pointer || f.kind == kindText && f.def == "") {
		v.SetZero()
		return
	}
	if f.pointer {
		p := reflect.New(f.typ)
		l.setOne(f, p.Elem(), path, it)
		v.Set(p)
		return
	}
	l.setOne(f, v, path, it)
}

func (l *loader) setOne(f *field, v reflect.Value, path string, it item) {
	if it.text == "" {
		l.fail(it.origin, path, "is empty: %s expected%s", f.kind, f.defaultHint())
		return
	}
	err := f.set(v, it.text)
	switch {
	case err == nil:
	case f.secret:
		// Its messages tell the length, never the text.
		l.fail(it.origin, path, "%s", strings.ReplaceAll(err.Error(), quote(it.text), "the value"))
	default:
		l.fail(it.origin, path, "%s", err)
	}
}

func (f *field) defaultHint() string {
	if f.def == "" {
		return ""
	}
	return ", such as the default " + f.def
}

// secretFile replaces the name of a file by the secret in it.
func (l *loader) secretFile(path string, it item) (item, bool) {
	b, err := l.readFile(it.text)
	if err == nil && len(b) > maxSecretFile {
		err = fmt.Errorf("larger than %s", Size(maxSecretFile))
	}
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		l.fail(it.origin, path, "read secret from %s: %v", quote(it.text), err)
		return item{}, false
	}
	secret := string(bytes.TrimRight(b, "\r\n"))
	if secret == "" {
		l.fail(it.origin, path, "the secret in %s is empty", quote(it.text))
		return item{}, false
	}
	return item{secret, it.origin}, true
}

// variables returns the QUICKTHORN_ variables that are not empty.
func (l *loader) variables(environ []string) map[string]string {
	env := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, "QUICKTHORN_") && value != "" {
			env[name] = value
		}
	}
	return env
}

// environment sets what the variables say.
func (l *loader) environment(env map[string]string) {
	type target struct {
		*field
		fromFile bool
	}
	known := map[string]target{}
	var names []string
	add := func(name string, t target) {
		known[name] = t
		names = append(names, name)
	}
	for path, f := range l.root.settable() {
		add(EnvName(path), target{f, false})
		if f.secret {
			add(EnvName(path)+"_FILE", target{f, true})
		}
	}
	slices.Sort(names)
	var written []string
	for name := range env {
		if name != FileVariable {
			written = append(written, name)
		}
	}
	slices.Sort(written)
	for _, name := range written {
		o := Origin{Kind: FromEnvironment, Name: printable(name)}
		f, ok := known[name]
		if !ok {
			l.fail(o, "", "%s", unknownVariable(name, names))
			continue
		}
		if f.secret && env[EnvName(f.path)] != "" && f.fromFile {
			l.fail(o, f.path, "%s is set as well: use one of them", EnvName(f.path))
			continue
		}
		items := f.split(env[name], o)
		if f.fromFile {
			it, ok := l.secretFile(f.path, items[0])
			if !ok {
				continue
			}
			items[0] = it
		}
		l.assign(f.field, f.in(l.value, l.root), f.path, items, o)
	}
}

func unknownVariable(name string, known []string) string {
	if name == "QUICKTHORN_SITES" || strings.HasPrefix(name, "QUICKTHORN_SITES_") {
		return "sites are set in the file only"
	}
	for _, k := range [...]string{"_SERVICE_HOST", "_SERVICE_PORT", "_PORT", "_TCP", "_TCP_ADDR", "_TCP_PORT", "_TCP_PROTO"} {
		if strings.HasSuffix(name, k) {
			return "is no setting" + didYouMean(name, known) +
				"; if Kubernetes put it there for a service of that name, set enableServiceLinks: false in the pod"
		}
	}
	return "is no setting" + didYouMean(name, known)
}

// full reports whether enough problems were found that finding more, each with
// its suggestions, would only cost time.
func (l *loader) full() bool { return len(l.problems) >= maxProblems }

// flag sets "section.field=value".
func (l *loader) flag(set string) {
	path, value, ok := strings.Cut(set, "=")
	o := Origin{Kind: FromFlag, Name: "--set " + printable(path)}
	if !ok {
		l.fail(o, path, "has no value: write --set section.field=value")
		return
	}
	l.set(o, path, value)
}

// set sets the field of a dotted path.
func (l *loader) set(o Origin, path, value string) {
	settable := l.root.settable()
	f, fromFile := settable[path], false
	if f == nil {
		if secret := settable[strings.TrimSuffix(path, "File")]; secret != nil && secret.secret {
			f, fromFile = secret, true
		}
	}
	if f == nil {
		if path == "sites" || strings.HasPrefix(path, "sites.") || strings.HasPrefix(path, "sites[") {
			l.fail(o, path, "sites are set in the file only")
			return
		}
		l.fail(o, path, "is no setting%s", l.suggest(path))
		return
	}
	items := f.split(value, o)
	if fromFile {
		it, ok := l.secretFile(f.path, items[0])
		if !ok {
			return
		}
		items[0] = it
	}
	l.assign(f, f.in(l.value, l.root), f.path, items, o)
}

// suggest finds what a dotted path may have meant: a path that looks like it, or
// one in another section that ends in the same name.
func (l *loader) suggest(path string) string {
	var paths, same []string
	if l.full() {
		return ""
	}
	last := path[strings.LastIndexByte(path, '.')+1:]
	l.root.walk(func(f *field) {
		paths = append(paths, f.path)
		if strings.EqualFold(f.name, last) && f.path != path {
			same = append(same, f.path)
		}
	})
	if s := didYouMean(path, paths); s != "" {
		return s
	}
	if len(same) > 0 && len(same) <= 4 {
		return " (did you mean " + strings.Join(same, " or ") + "?)"
	}
	return ""
}

// printable keeps what an environment or a command line holds from moving a terminal.
func printable(s string) string {
	q := quote(s)
	if q == `"`+s+`"` {
		return s
	}
	return q
}
