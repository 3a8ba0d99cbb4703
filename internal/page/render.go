package page

import (
	"bytes"
	"fmt"
	"html/template"
	"strings"
	"sync"

	"github.com/quickthorn/quickthorn/internal/language"
)

// maxShapes bounds the remembered pages; each takes about 3 KiB. A site meets a few
// dozen: a few texts in the languages of its readers.
const maxShapes = 1024

// refused is what html/template writes in place of a value that is not safe where it stands.
const refused = "ZgotmplZ"

// maxCount bounds the counts that a shape is made for, so that texts do not multiply it.
const maxCount = 86_400

// shape is all that the template sees of a View but the values that are put in later. Two
// views of the same shape differ in nothing else.
type shape struct {
	language          *language.Language
	contact           string
	count             int32
	kind              Kind
	title, text, more language.Key
	link              language.Key
	words             uint8
	has               present
	widget            template.HTML
}

// present are the parts that a page has.
type present uint16

const (
	hasReason present = 1 << iota
	hasRequestID
	hasRefresh
	refreshAlways
	hasTask
	hasFallback
	hasScript
	hasSeen
	hasDecoy
	hasHold
	isModule
)

func (p *present) set(bit present, on bool) {
	if on {
		*p |= bit
	}
}

func shapeOf(v *View) shape {
	s := shape{
		language: v.Language, contact: v.Contact, count: int32(min(max(v.Count, 0), maxCount)),
		kind: v.Kind, title: v.Title, text: v.Text, more: v.More,
	}
	if v.Link != "" {
		s.link = v.LinkText
	}
	s.has.set(hasReason, v.Reason != "")
	s.has.set(hasRequestID, v.RequestID != "")
	s.has.set(hasRefresh, v.Refresh != "")
	s.has.set(refreshAlways, v.RefreshAlways)
	if t := v.Challenge; t != nil {
		s.words = uint8(min(len(t.Words), maxWords))
		s.has |= hasTask
		s.has.set(hasFallback, t.Fallback != "")
		s.has.set(hasScript, t.Script != "" && (v.Kind == Work || v.Kind == Captcha))
		s.has.set(hasSeen, t.Seen != "" && v.Kind == Silent)
		s.has.set(hasDecoy, t.Decoy != "")
		if v.Kind == Captcha {
			s.widget = t.Widget
			s.has.set(isModule, t.Module)
		}
	}
	s.has.set(hasHold, v.Hold != nil)
	return s
}

// value is a text with a value in it, for templates that put the value into markup.
type value struct {
	Before, Value, After string
	Link                 string // where the value leads; "" if nowhere
}

// data is what page.html sees. Fields that are empty are not part of the page.
type data struct {
	Lang, Dir, Kind, Title, Text, More string
	Style                              string
	Site                               siteData
	Reason, RequestNumber, Contact     *value
	Link, LinkText                     string
	Refresh, Delay                     string
	RefreshAlways                      bool
	Challenge                          *taskData
	Hold                               *holdData
	language                           *language.Language
}

type siteData struct{ Name, Logo, LogoAlt string }

type taskData struct {
	Ticket, Pass, Return, Fallback                 string
	Algorithm, Puzzles, Bits, Least, Limit, Worker string
	Script, Seen, Decoy                            string
	Widget                                         template.HTML
	Module                                         bool
	Words                                          []string
	Choose                                         *value
}

type holdData struct{ Action, Token string }

// T is the text of a key without placeholders, by its name in the catalogue.
func (d *data) T(name string) (string, error) {
	key, ok := language.KeyOf(name)
	if !ok {
		return "", fmt.Errorf("no message is called %q", name)
	}
	return d.language.Text(key), nil
}

// set is one state of the templates: what Open and Reload make, immutable but for the
// rendered pages.
type set struct {
	layout   *template.Template
	builtin  *set // rendered instead where the owner's own layout fails; nil in the built-in one
	style    Asset
	logo     Asset // empty Name: none
	site     site
	warnings []string

	mu     sync.RWMutex
	shapes map[shape][]segment
}

// segments returns the page of that shape, cut at its values.
func (s *set) segments(sh *shape) []segment {
	s.mu.RLock()
	g := s.shapes[*sh]
	s.mu.RUnlock()
	if g != nil {
		return g
	}
	g, err := s.render(sh)
	if err != nil {
		// Open has tried every kind of page, so this takes a template that fails for one text alone. The
		// reader gets the built-in page rather than none.
		if s.builtin == nil {
			return []segment{{text: "<!doctype html><title>" + template.HTMLEscapeString(sh.language.Text(sh.title)) + "</title>", last: true}}
		}
		g = s.builtin.segments(sh)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shapes) >= maxShapes {
		for old := range s.shapes { // any one: the map's order is random
			delete(s.shapes, old)
			break
		}
	}
	s.shapes[*sh] = g
	return g
}

func (s *set) render(sh *shape) ([]segment, error) {
	var out bytes.Buffer
	if err := s.layout.Execute(&out, s.data(sh)); err != nil {
		return nil, err
	}
	page := out.String()
	if strings.Contains(page, refused) {
		return nil, fmt.Errorf("%s: a value stands where html/template does not let it stand: in a style, or as an address of a scheme other than http, https and mailto", s.layout.Name())
	}
	g, wrong := cutMarks(page)
	if wrong >= 0 {
		return nil, fmt.Errorf("%s: the value of a request (%s) stands where it cannot be escaped: use it as text, in a quoted attribute or as an address, and as a whole", s.layout.Name(), fieldName(field(wrong)))
	}
	return g, nil
}

func (s *set) data(sh *shape) *data {
	l := sh.language
	count := []language.Arg{language.Count("seconds", int(sh.count)), language.Count("minutes", int(sh.count))}
	d := &data{
		Lang: l.Tag(), Dir: l.Direction(), Kind: sh.kind.String(),
		Title: l.Text(sh.title, count...), Text: l.Text(sh.text, count...), More: l.Text(sh.more, count...),
		Style: AssetPrefix + s.style.Name, Site: siteData{Name: s.site.Name, LogoAlt: s.site.LogoAlt},
		RefreshAlways: sh.has&refreshAlways != 0,
		language:      l,
	}
	if s.logo.Name != "" {
		d.Site.Logo = AssetPrefix + s.logo.Name
	}
	split := func(key language.Key, placeholder, v string) *value {
		before, after := l.Split(key, placeholder)
		return &value{Before: before, Value: v, After: after}
	}
	optional := func(bit present, f field) string {
		if sh.has&bit == 0 {
			return ""
		}
		return f.mark()
	}
	if sh.has&hasReason != 0 {
		d.Reason = split(language.Reason, "reason", fieldReason.mark())
	}
	if sh.has&hasRequestID != 0 {
		d.RequestNumber = split(language.RequestNumber, "id", fieldRequestID.mark())
	}
	if sh.contact != "" {
		d.Contact = split(language.Contact, "contact", sh.contact)
		d.Contact.Link = contactLink(sh.contact)
	}
	if sh.link != language.None {
		d.Link, d.LinkText = fieldLink.mark(), l.Text(sh.link)
	}
	if sh.has&hasRefresh != 0 {
		d.Refresh, d.Delay = fieldRefresh.mark(), fieldDelay.mark()
	}
	if sh.has&hasTask != 0 {
		d.Challenge = &taskData{
			Ticket: fieldTicket.mark(), Pass: fieldPass.mark(), Return: fieldReturn.mark(), Fallback: optional(hasFallback, fieldFallback),
			Algorithm: fieldAlgorithm.mark(), Puzzles: fieldPuzzles.mark(), Bits: fieldBits.mark(), Least: fieldLeast.mark(), Limit: fieldLimit.mark(), Worker: fieldWorker.mark(),
			Script: optional(hasScript, fieldScript), Seen: optional(hasSeen, fieldSeen), Decoy: optional(hasDecoy, fieldDecoy),
			Widget: sh.widget, Module: sh.has&isModule != 0,
			Choose: split(language.QuestionChoose, "word", fieldWord.mark()),
		}
		for i := range sh.words {
			d.Challenge.Words = append(d.Challenge.Words, (fieldWords + field(i)).mark())
		}
	}
	if sh.has&hasHold != 0 {
		d.Hold = &holdData{Action: fieldAction.mark(), Token: fieldToken.mark()}
	}
	return d
}

// Append appends the page to b and returns the longer slice. It never fails. The view is
// not changed and not kept.
func (p *Pages) Append(b []byte, v *View) []byte {
	s := p.current.Load()
	sh := shapeOf(v)
	if sh.language == nil {
		sh.language = p.english
	}
	g := s.segments(&sh)
	for i := range g {
		b = append(b, g[i].text...)
		if g[i].last {
			break
		}
		b = appendField(b, v, &g[i])
	}
	return b
}

func fieldName(f field) string {
	names := [...]string{
		fieldReason: ".Reason.Value", fieldRequestID: ".RequestNumber.Value", fieldLink: ".Link", fieldRefresh: ".Refresh", fieldDelay: ".Delay",
		fieldTicket: ".Challenge.Ticket", fieldPass: ".Challenge.Pass", fieldReturn: ".Challenge.Return", fieldFallback: ".Challenge.Fallback",
		fieldAlgorithm: ".Challenge.Algorithm", fieldPuzzles: ".Challenge.Puzzles", fieldBits: ".Challenge.Bits", fieldLeast: ".Challenge.Least", fieldLimit: ".Challenge.Limit",
		fieldWorker: ".Challenge.Worker", fieldScript: ".Challenge.Script", fieldSeen: ".Challenge.Seen", fieldWord: ".Challenge.Choose.Value", fieldDecoy: ".Challenge.Decoy",
		fieldAction: ".Hold.Action", fieldToken: ".Hold.Token",
	}
	if int(f) < len(names) {
		return strings.TrimSpace(names[f])
	}
	return ".Challenge.Words"
}
