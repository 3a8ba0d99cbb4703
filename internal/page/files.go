package page

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/language"
)

//go:embed files/*
var builtin embed.FS

// maxFile bounds a template, a style sheet or a logo, in bytes: a reader on a slow line
// loads all of them before they see the site.
const maxFile = 256 << 10

const (
	layoutFile = "page.html"
	styleFile  = "style.css"
	siteFile   = "site.yaml"
)

var logoFiles = [...]struct{ name, contentType string }{{"logo.svg", "image/svg+xml"}, {"logo.png", "image/png"}}

// Asset is a file that pages load. Its name holds a hash of what is in it, so it may be cached
// for ever.
type Asset struct {
	Name        string // below AssetPrefix
	ContentType string
	Body        []byte
	Gzip        []byte // Body compressed; nil where that gains nothing
}

// Pages renders pages. It is safe for concurrent use.
type Pages struct {
	dir       string
	languages *language.Catalogues
	english   *language.Language

	current  atomic.Pointer[set]
	previous atomic.Pointer[set] // its assets are served on: pages made from it are still being loaded
	reload   sync.Mutex
	marks    fileMarks // of the files that current was made from; under reload
}

// Open reads the templates. The files of dir replace the built-in ones of the same name:
//
//	page.html     the layout of every page (html/template)
//	style.css     its style sheet; uses --background, --text and --accent
//	site.yaml     the site's name, the logo's text, and the colours
//	logo.svg|png  a logo
//
// With dir "" there are only the built-in ones; a folder that does not exist is an error. An error
// names the file and, where there is one, the line. Every kind of page is tried, so that a template that opens
// can be served.
func Open(dir string, languages *language.Catalogues) (*Pages, error) {
	p := &Pages{dir: dir, languages: languages, english: languages.Match("")}
	if err := p.Reload(); err != nil {
		return nil, err
	}
	return p, nil
}

// Reload reads the templates again. On an error the pages stay as they are.
func (p *Pages) Reload() error {
	p.reload.Lock()
	defer p.reload.Unlock()
	if p.dir != "" {
		if fi, err := os.Stat(p.dir); err != nil {
			return fmt.Errorf("open page templates: %w", err)
		} else if !fi.IsDir() {
			return fmt.Errorf("open page templates: %s is not a folder", p.dir)
		}
	}
	marks := marksOf(p.dir) // before they are read: a file that changes meanwhile is read again
	p.marks = marks         // also after an error, so that Watch reports it once
	b, err := p.read("")
	if err != nil {
		return err
	}
	s := b
	if p.dir != "" {
		if s, err = p.read(p.dir); err != nil {
			return err
		}
		s.builtin = b
	}
	if old := p.current.Load(); old == nil || old.style.Name != s.style.Name || old.logo.Name != s.logo.Name {
		p.previous.Store(old)
	}
	p.current.Store(s)
	return nil
}

// Warnings are what is not wrong but makes the pages hard to read: colours of too little contrast.
func (p *Pages) Warnings() []string { return p.current.Load().warnings }

// Asset returns the file of that name (without AssetPrefix), false if there is none.
func (p *Pages) Asset(name string) (Asset, bool) {
	if name == "" {
		return Asset{}, false
	}
	for _, s := range [...]*set{p.current.Load(), p.previous.Load()} {
		switch {
		case s == nil:
		case s.style.Name == name:
			return s.style, true
		case s.logo.Name == name:
			return s.logo, true
		}
	}
	return Asset{}, false
}

// Watch looks every interval whether a file of the folder has changed, and reloads. It
// returns when ctx ends; report, which may be nil, is told of each reload, with its error or nil.
func (p *Pages) Watch(ctx context.Context, interval time.Duration, report func(error)) {
	if p.dir == "" {
		return
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		p.reload.Lock()
		changed := marksOf(p.dir) != p.marks
		p.reload.Unlock()
		if !changed {
			continue
		}
		if err := p.Reload(); report != nil {
			report(err)
		}
	}
}

// fileMarks tell whether files have changed: size and time of each one that counts.
type fileMarks [3 + len(logoFiles)]struct {
	size int64
	time int64 // nanoseconds since 1970; 0: there is none
}

func marksOf(dir string) (m fileMarks) {
	names := [len(m)]string{layoutFile, styleFile, siteFile}
	for i, l := range logoFiles {
		names[3+i] = l.name
	}
	for i, n := range names {
		if fi, err := os.Stat(filepath.Join(dir, n)); err == nil {
			m[i].size, m[i].time = fi.Size(), fi.ModTime().UnixNano()
		}
	}
	return m
}

// read makes a set of the built-in files and those of dir ("": none).
func (p *Pages) read(dir string) (*set, error) {
	s := &set{shapes: map[shape][]segment{}}

	source, name, err := file(dir, siteFile)
	if err != nil {
		return nil, err
	}
	standard, err := builtin.ReadFile("files/" + siteFile)
	if err != nil {
		return nil, fmt.Errorf("read built-in %s: %w", siteFile, err)
	}
	if err := s.site.read("built-in "+siteFile, standard); err != nil {
		return nil, err
	}
	if err := s.site.read(name, source); err != nil {
		return nil, err
	}
	s.warnings = s.site.warnings(name)

	style, _, err := file(dir, styleFile)
	if err != nil {
		return nil, err
	}
	if s.style, err = newAsset("style", ".css", "text/css; charset=utf-8", append(s.site.css(), style...)); err != nil {
		return nil, err
	}
	if dir != "" {
		for _, l := range logoFiles {
			logo, name, err := file(dir, l.name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return nil, err
			}
			if l.name == "logo.png" && !bytes.HasPrefix(logo, []byte("\x89PNG\r\n\x1a\n")) || l.name == "logo.svg" && !bytes.Contains(logo, []byte("<svg")) {
				return nil, fmt.Errorf("%s is not the image that its name says", name)
			}
			if s.logo, err = newAsset("logo", filepath.Ext(l.name), l.contentType, logo); err != nil {
				return nil, err
			}
			break
		}
	}

	layout, name, err := file(dir, layoutFile)
	if err != nil {
		return nil, err
	}
	if s.layout, err = template.New(name).Option("missingkey=error").Parse(string(layout)); err != nil {
		return nil, fmt.Errorf("read page template: %w", err)
	}
	return s, s.try(p.english)
}

// try renders every kind of page, bare and with all its parts.
func (s *set) try(l *language.Language) error {
	for k := range kinds {
		bare := shape{language: l, kind: k, title: language.ChallengeTitle}
		full := shape{
			language: l, kind: k, title: language.ChallengeTitle, text: language.ChallengeWhy, more: language.WrongAnswer, contact: "owner@example.org",
			link: language.TryAgain, has: hasReason | hasRequestID | hasRefresh,
		}
		switch k {
		case Silent, Refresh, Work, Question, Captcha:
			bare.has |= hasTask
			full.has |= hasTask | hasFallback | hasScript | hasSeen | hasDecoy
			full.words = 2
		case Hold:
			bare.has |= hasHold
			full.has |= hasHold
		}
		always := full
		always.has |= refreshAlways
		for _, sh := range []*shape{&bare, &full, &always} {
			if _, err := s.render(sh); err != nil {
				return fmt.Errorf("try page template: kind %s: %w", k, err)
			}
		}
	}
	return nil
}

// file reads the file of that name from dir, or else the built-in one. name is what to call it in an error.
func file(dir, base string) (source []byte, name string, err error) {
	if dir != "" {
		name = filepath.Join(dir, base)
		source, err = readBounded(name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return source, name, err
		}
	}
	source, err = builtin.ReadFile("files/" + base)
	return source, base, err
}

func readBounded(name string) ([]byte, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read page template: %w", err)
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxFile {
		return nil, fmt.Errorf("read page template: %s is not a file of at most %d KiB", name, maxFile>>10)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read page template: %w", err)
	}
	return b, nil
}

func newAsset(base, extension, contentType string, body []byte) (Asset, error) {
	sum := sha256.Sum256(body)
	a := Asset{Name: base + "." + hex.EncodeToString(sum[:6]) + extension, ContentType: contentType, Body: body}
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
	if err != nil {
		return Asset{}, fmt.Errorf("compress %s: %w", a.Name, err)
	}
	if _, err := w.Write(body); err != nil {
		return Asset{}, fmt.Errorf("compress %s: %w", a.Name, err)
	}
	if err := w.Close(); err != nil {
		return Asset{}, fmt.Errorf("compress %s: %w", a.Name, err)
	}
	if z.Len() < len(body) {
		a.Gzip = z.Bytes()
	}
	return a, nil
}
