// Package maze makes the pages of an endless maze: believable, different from each other, and without a dead end.
//
// A page is a function of a secret seed and of its address alone. Nothing is stored: every replica gives the same page, and so does a
// process that was started anew. What a page is, how deep it lies and what its title is stands in its address, in an enciphered token
// that looks like an id; addresses therefore stay short however deep a client goes, and a link's text is the title of the page it leads to.
//
// Whatever is asked for is answered, in the format that its name promises: HTML, feeds, sitemaps, JSON, images, styles and scripts. Two
// kinds are only recognised, and made elsewhere: slow streams ([KindStream]) and made-up archives ([KindArchive]).
//
// Every HTML page asks robots not to index it or to follow its links, and shows a person who came by mistake the way out.
//
// The words around the text ("Next", "History", names of months) are English in the chosen skins whatever the language of the text is;
// in [SkinLearnt] there are none but those of the owner's own site.
package maze

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/likeness"
)

// Source gives random numbers. A *rand.PCG is one.
type Source = interface{ Uint64() uint64 }

// Text makes the text of pages: plain UTF-8, which the maze escapes. It must be a function of what it draws from r alone, and may be
// called by many goroutines at once.
type Text interface {
	// AppendSentence appends a sentence of about so many words, with its full stop.
	AppendSentence(dst []byte, r Source, words int) []byte
	// AppendTitle appends a heading of about so many words, without a full stop.
	AppendTitle(dst []byte, r Source, words int) []byte
}

// Options say what a maze looks like. Seed, Prefix and Text are required.
type Options struct {
	Seed   []byte // secret, at least 16 bytes: who knows it can tell the maze from the site
	Prefix string // of the maze's addresses, such as "/archive-k3p7/": begins and ends with "/", letters, digits and hyphens between
	Text   Text

	// Skin is what pages look like; "": SkinDocs. SkinLearnt needs a Likeness.
	Skin     Skin
	Likeness *likeness.Likeness
	// Language of the text, such as "en" or "pt-BR"; "": that of the likeness, or else "en". Learnt pages say what the site's own say.
	Language string

	// Streams and Archives: of the links deeper into the maze one in so many leads to a slow stream, and one in so many of those in lists
	// to an archive. 0: none; then nothing is of KindStream or KindArchive.
	Streams, Archives int

	// WayOut is the address for people who came by mistake, unless the request has one; "": "/". WayOutText is the text of the link to
	// it; "": "Are you a person? Continue to the site".
	WayOut, WayOutText string
}

const (
	minSeed      = 16
	maxPrefix    = 64
	maxWayOut    = 1 << 10
	maxLinkShare = 1 << 20
)

// Maze makes pages. It may be used by many goroutines at once.
type Maze struct {
	o        Options
	skin     skin
	shell    *shell // of SkinLearnt
	sizes    likeness.Quantiles
	links    likeness.Quantiles
	words    likeness.Quantiles
	latency  likeness.Quantiles // microseconds
	tags     tags
	lists    lists
	language string
	root     string // <html …> with its attributes
	notice   string // text of the way out, escaped
	pageKey  [32]byte
	cipher   cipher
	mixKey   uint64
	writers  sync.Pool // of *writer: only memory, nothing that a page depends on
}

// New returns a maze. The error says which option is wrong and what would be right.
func New(o Options) (*Maze, error) {
	if len(o.Seed) < minSeed {
		return nil, fmt.Errorf("maze: the seed has %d bytes; it needs at least %d", len(o.Seed), minSeed)
	}
	if !validPrefix(o.Prefix) {
		return nil, fmt.Errorf("maze: prefix %q: want letters, digits and hyphens between slashes, such as \"/archive-k3p7/\", at most %d bytes", o.Prefix, maxPrefix)
	}
	if o.Text == nil {
		return nil, errors.New("maze: there is no text to make pages of")
	}
	if o.Streams < 0 || o.Archives < 0 || o.Streams > maxLinkShare || o.Archives > maxLinkShare {
		return nil, fmt.Errorf("maze: one link in %d to a stream, one in %d to an archive: want 0 (none) to %d", o.Streams, o.Archives, maxLinkShare)
	}
	if o.WayOut == "" {
		o.WayOut = "/"
	} else if !validWayOut(o.WayOut) {
		return nil, fmt.Errorf("maze: way out %q: want a path or an http or https address of at most %d bytes", o.WayOut, maxWayOut)
	}
	if o.WayOutText == "" {
		o.WayOutText = "Are you a person? Continue to the site"
	}
	if o.Skin == "" {
		o.Skin = SkinDocs
	}
	m := &Maze{o: o, lists: newLists(), notice: string(appendEscaped(nil, []byte(o.WayOutText)))}
	m.writers.New = func() any { return &writer{} }
	if err := m.deriveKeys(); err != nil {
		return nil, err
	}
	if err := m.dress(); err != nil {
		return nil, err
	}
	return m, nil
}

// deriveKeys makes keys for each purpose of the seed, so that what one gives away tells nothing about the others.
func (m *Maze) deriveKeys() error {
	raw, err := hkdf.Key(sha256.New, m.o.Seed, nil, "quickthorn maze 1", len(m.pageKey)+8*(len(m.cipher)+1))
	if err != nil {
		return fmt.Errorf("maze: keys: %w", err)
	}
	copy(m.pageKey[:], raw)
	raw = raw[len(m.pageKey):]
	m.mixKey = binary.LittleEndian.Uint64(raw)
	for i := range m.cipher {
		m.cipher[i] = binary.LittleEndian.Uint64(raw[8*(i+1):])
	}
	return nil
}

// dress takes the skin's looks and sizes.
func (m *Maze) dress() error {
	var ok bool
	if m.skin, ok = skinOf(m.o.Skin); !ok {
		return fmt.Errorf("maze: skin %q is unknown: want one of %v", m.o.Skin, Skins())
	}
	m.sizes, m.links, m.words, m.latency = usualSizes, usualLinks, usualWords, usualLatency
	m.tags = plainTags()
	lang := m.o.Language
	if m.o.Skin == SkinLearnt {
		l := m.o.Likeness
		if l == nil {
			return fmt.Errorf("maze: skin %q needs a likeness of the site", SkinLearnt)
		}
		if err := l.Check(); err != nil {
			return fmt.Errorf("maze: likeness: %w", err)
		}
		m.shell = newShell(l)
		m.sizes, m.links, m.words, m.latency = l.PageSize, l.Links, l.Words, l.Latency
		m.tags = tagsOf(l.Classes)
		if lang == "" {
			lang = l.Language
		}
	}
	if lang == "" {
		lang = "en"
	}
	if !likeness.ValidLanguage(lang) {
		return fmt.Errorf("maze: language %q: want a code such as \"en\" or \"pt-BR\"", lang)
	}
	m.language = lang
	m.root = `<html lang="` + lang + `"`
	if rightToLeft(lang) {
		m.root += ` dir="rtl"`
	}
	m.root += ">"
	return nil
}

// rightToLeft reports whether the language is written from right to left.
func rightToLeft(lang string) bool {
	base, _, _ := strings.Cut(strings.ToLower(lang), "-")
	switch base {
	case "ar", "he", "fa", "ur", "yi", "ps", "sd", "ug", "dv":
		return true
	}
	return false
}

func validPrefix(p string) bool {
	if len(p) < 3 || len(p) > maxPrefix || p[0] != '/' || p[len(p)-1] != '/' || strings.Contains(p, "//") {
		return false
	}
	for i := range len(p) {
		if c := p[i]; c != '/' && c != '-' && !isAlnum(c) {
			return false
		}
	}
	return true
}

// validWayOut reports whether u is safe in a link: a browser must not take it for a script or for another site by accident.
func validWayOut(u string) bool {
	if len(u) > maxWayOut {
		return false
	}
	for i := range len(u) {
		if u[i] <= ' ' || u[i] == '\\' || u[i] == 0x7f {
			return false
		}
	}
	return strings.HasPrefix(u, "/") && !strings.HasPrefix(u, "//") || strings.HasPrefix(u, "https://") || strings.HasPrefix(u, "http://")
}

// Request is what a client asks for. Everything but Site may come from the client as it is: nothing of it gets into a page unescaped.
type Request struct {
	Site   string // name of the site: each has a maze of its own
	Scheme string // "http" or "https", for full addresses; "": https
	Host   string // as in the Host header; each has a maze of its own
	Path   string // escaped, as it came
	Query  string // without "?"
	WayOut string // instead of Options.WayOut; one that is no path nor http address is not used
}

// Page is an answer but for its body.
type Page struct {
	Kind        Kind
	Status      int // 200
	ContentType string
	ETag        string
	Modified    time.Time     // whole seconds, UTC
	Delay       time.Duration // how long the site would have taken to begin the answer
}

// Page appends the body for the request to dst, mostly less than 64 KiB and never more than about 300 KiB beyond what a likeness adds, and returns
// the rest of the answer. A stream or an archive gets a page of HTML here: whoever asks Page for one has no better answer.
func (m *Maze) Page(dst []byte, q *Request) (Page, []byte) {
	w := m.writers.Get().(*writer)
	w.begin(m, dst, q)
	p := Page{Kind: m.Kind(q.Path), Status: http.StatusOK, Modified: w.modified(), ETag: w.etag()}
	p.Delay = time.Duration(m.latency.At(w.draw(aspectDelay))) * time.Microsecond
	switch p.Kind {
	case KindFeed:
		p.ContentType = w.feed()
	case KindSitemap:
		p.ContentType = w.sitemap()
	case KindJSON:
		p.ContentType = w.json()
	case KindImage:
		p.ContentType = w.image()
	case KindStyle:
		p.ContentType = w.style()
	case KindScript:
		p.ContentType = w.script()
	default:
		p.Kind = KindPage
		p.ContentType = "text/html; charset=utf-8"
		m.skin.page(w)
	}
	body := w.b
	w.end()
	m.writers.Put(w)
	return p, body
}
