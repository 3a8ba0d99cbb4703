package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Vocabulary is what a policy may name beside its own things. A nil list is not checked.
type Vocabulary struct {
	Signals  []string // names of the signals that the profile can raise
	Crawlers []string // ids of the crawler catalogue
}

// Options say how a policy is read.
type Options struct {
	Vocabulary Vocabulary
	// ReadFile returns a file's content. The default reads regular files of at
	// most 1 MiB.
	ReadFile func(name string) ([]byte, error)
}

// The bounds of imports.
const (
	maxDepth = 8
	maxFiles = 64
)

// Load reads and compiles the policy that ref names: a preset ("readers-first")
// or a file's path. The error is of type [Errors] unless the file cannot be read.
func Load(ref string, o Options) (*Policy, error) {
	if src, err := PresetSource(ref); err == nil {
		return compile(source{name: presetFile(ref), preset: true, src: src, title: ref}, o)
	}
	if !strings.ContainsAny(ref, `/\.`) {
		return nil, fmt.Errorf("policy: there is no preset %q%s; a file is named by its path, such as ./%s.yaml", clip(ref), hint(ref, presetNames()), clip(ref))
	}
	name := filepath.Clean(ref) // imports that lead back to it are recognised by this name
	src, err := o.readFile(name)
	if err != nil {
		var pe *fs.PathError // it would say the name again
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, fmt.Errorf("policy: reading %s: %w", name, err)
	}
	return compile(source{name: name, src: src, title: titleOf(ref)}, o)
}

// Compile compiles a policy given as text. name stands in messages and is the
// path to which imports are relative; the text itself is not among Files.
func Compile(name string, src []byte, o Options) (*Policy, error) {
	return compile(source{name: name, src: src, title: titleOf(name), text: true}, o)
}

func titleOf(name string) string {
	base := path.Base(filepath.ToSlash(name))
	return strings.TrimSuffix(strings.TrimSuffix(base, ".yaml"), ".yml")
}

func (o Options) readFile(name string) ([]byte, error) {
	if o.ReadFile != nil {
		return o.ReadFile(name)
	}
	return readFile(name)
}

// readFile reads a regular file of bounded size; opening a pipe or a device
// could wait for ever.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is not a regular file")}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return b, err
}

// source is one text to compile.
type source struct {
	name   string
	title  string
	src    []byte
	preset bool // from a preset: relative imports are refused
	text   bool // given as text: not a file to watch
}

// loader reads a policy's file and what it imports.
type loader struct {
	o        Options
	problems *problems
	files    []string
	loaded   map[string]bool
	stack    []string
	hash     *hashWriter
}

type hashWriter struct{ sum [sha256.Size]byte }

// add chains a source into the hash.
func (h *hashWriter) add(name string, src []byte) {
	d := sha256.New()
	d.Write(h.sum[:])
	fmt.Fprintf(d, "%d %s %d ", len(name), name, len(src))
	d.Write(src)
	d.Sum(h.sum[:0])
}

// bundle is a file with all its imports merged in.
type bundle struct {
	lists   []*listSpec
	general layer
	hosts   []*hostSpec
}

func compile(src source, o Options) (*Policy, error) {
	ps := &problems{}
	l := &loader{o: o, problems: ps, loaded: map[string]bool{}, hash: &hashWriter{}}
	doc, b := l.load(src)
	p := &Policy{name: src.title, hash: hex.EncodeToString(l.hash.sum[:8]), files: l.files}
	if doc != nil {
		if doc.name != "" {
			p.name = doc.name
		}
		p.description = printable(strings.Join(strings.Fields(doc.description), " "))
		if err := p.build(b, o.Vocabulary, ps); err != nil {
			return nil, err
		}
	}
	if err := ps.err(); err != nil {
		return nil, err
	}
	p.warnings = ps.warnings
	return p, nil
}

// load reads a source and, depth first, its imports.
func (l *loader) load(src source) (*document, bundle) {
	l.loaded[src.name] = true
	l.stack = append(l.stack, src.name)
	defer func() { l.stack = l.stack[:len(l.stack)-1] }()
	l.hash.add(src.name, src.src)
	if !src.preset && !src.text {
		l.files = append(l.files, src.name)
	}
	doc := readDocument(src.name, src.src, l.problems)
	if doc == nil {
		return nil, bundle{}
	}
	l.unique(doc)
	own := bundle{doc.lists, doc.general, doc.hosts}
	var imported bundle
	for _, ref := range doc.imports {
		if next, ok := l.resolve(src, ref); ok {
			_, b := l.load(next)
			imported = merge(imported, b) // of two imports the first is the nearer
		}
	}
	l.disable(doc, &imported)
	return doc, merge(own, imported)
}

// resolve finds what an import names.
func (l *loader) resolve(from source, ref located) (source, bool) {
	errorf := func(format string, args ...any) (source, bool) {
		l.problems.errorf(ref.at, "import %q: "+format, append([]any{clip(ref.text)}, args...)...)
		return source{}, false
	}
	var next source
	if src, err := PresetSource(ref.text); err == nil {
		next = source{name: presetFile(ref.text), src: src, preset: true}
	} else if !strings.ContainsAny(ref.text, `/\.`) {
		return errorf("there is no preset of that name%s; a file begins with ./", hint(ref.text, presetNames()))
	} else if from.preset {
		return errorf("a preset imports presets only")
	} else {
		name := ref.text
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(from.name), filepath.FromSlash(name))
		}
		next = source{name: name}
	}
	switch {
	case slices.Contains(l.stack, next.name):
		return errorf("imports go round in a circle: %s", strings.Join(append(slices.Clone(l.stack), next.name), " -> "))
	case l.loaded[next.name]:
		return source{}, false // already there by another way
	case len(l.stack) >= maxDepth:
		return errorf("imports are nested more than %d deep", maxDepth)
	case len(l.loaded) >= maxFiles:
		return errorf("more than %d files are imported", maxFiles)
	}
	if !next.preset {
		var err error
		if next.src, err = l.o.readFile(next.name); err != nil {
			return errorf("%v", err)
		}
	}
	return next, true
}

// unique reports names that stand twice in one file.
func (l *loader) unique(doc *document) {
	check := func(where string, lay *layer) {
		seen := map[string]position{}
		twice := func(kind, name string, at position) {
			if first, ok := seen[kind+name]; ok && name != "" {
				l.problems.errorf(at, "%s %q appears twice%s; the first is in line %d", kind, name, where, first.line)
			}
			seen[kind+name] = at
		}
		for _, r := range lay.rules {
			twice("rule", r.name, r.at)
		}
		for _, b := range lay.budgets {
			twice("budget", b.budget.Name, b.at)
		}
	}
	check("", &doc.general)
	for _, h := range doc.hosts {
		check(" under host "+strconv.Quote(h.pattern), &h.layer)
	}
}

// disable takes rules and budgets out of what a file imports.
func (l *loader) disable(doc *document, b *bundle) {
	layers := []*layer{&b.general}
	for _, h := range b.hosts {
		layers = append(layers, &h.layer)
	}
	for _, d := range doc.disable {
		found := false
		known := map[string]bool{}
		for _, lay := range layers {
			lay.rules = slices.DeleteFunc(slices.Clone(lay.rules), func(r *ruleSpec) bool {
				known[r.name] = true
				found = found || r.name == d.text
				return r.name == d.text
			})
			lay.budgets = slices.DeleteFunc(slices.Clone(lay.budgets), func(b *budgetSpec) bool {
				known[b.budget.Name] = true
				found = found || b.budget.Name == d.text
				return b.budget.Name == d.text
			})
		}
		if !found {
			l.problems.errorf(d.at, "disable: no import has a rule or budget %q%s", clip(d.text), hint(d.text, slices.Sorted(maps.Keys(known))))
		}
	}
}

// merge lays own over base.
func merge(own, base bundle) bundle {
	out := bundle{general: mergeLayer(own.general, base.general)}
	out.lists = mergeNamed(own.lists, base.lists, func(l *listSpec) string { return l.name })
	for _, h := range own.hosts {
		if i := slices.IndexFunc(base.hosts, func(b *hostSpec) bool { return b.pattern == h.pattern }); i >= 0 {
			h = &hostSpec{h.pattern, h.at, mergeLayer(h.layer, base.hosts[i].layer)}
		}
		out.hosts = append(out.hosts, h)
	}
	for _, b := range base.hosts {
		if !slices.ContainsFunc(own.hosts, func(h *hostSpec) bool { return h.pattern == b.pattern }) {
			out.hosts = append(out.hosts, b)
		}
	}
	return out
}

// mergeLayer lays own over base: own things first, things of the same name
// replace those of base, and thresholds, being one ladder, replace as a whole.
func mergeLayer(own, base layer) layer {
	out := layer{
		classes:       mergeNamed(own.classes, base.classes, func(c *classSpec) string { return c.name }),
		signals:       mergeNamed(own.signals, base.signals, func(s *signalSpec) string { return s.name }),
		rules:         mergeNamed(own.rules, base.rules, func(r *ruleSpec) string { return r.name }),
		budgets:       mergeNamed(own.budgets, base.budgets, func(b *budgetSpec) string { return b.budget.Name }),
		thresholds:    own.thresholds,
		hasThresholds: own.hasThresholds || base.hasThresholds,
	}
	if !own.hasThresholds {
		out.thresholds = base.thresholds
	}
	return out
}

func mergeNamed[T any](own, base []T, name func(T) string) []T {
	taken := make(map[string]bool, len(own))
	for _, x := range own {
		taken[name(x)] = true
	}
	out := slices.Clone(own)
	for _, x := range base {
		if !taken[name(x)] {
			out = append(out, x)
		}
	}
	return out
}
