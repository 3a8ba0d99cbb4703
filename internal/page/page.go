// Package page renders what the edge itself shows to a reader: refusals, challenge
// pages, kept forms.
//
// Every page works without JavaScript and under the policy "default-src 'self'": it
// has neither inline style nor inline script, and what it loads comes from the site's own host.
//
// A refusal must cost less than the request it answers, or it would be a lever for an
// attacker. So html/template runs once per shape of page (language, texts, which parts there
// are); what differs from request to request is a mark in its output, and serving is copying
// what lies between the marks. The rule that must never break: a value is only ever put where
// html/template's own escaping of the mark has shown the place to be plain text, a quoted
// attribute or a URL. A template that uses one elsewhere is refused when it is opened.
//
// The owner's own templates are files of the same name in a folder; see [Open].
package page

import (
	"html/template"
	"strings"

	"github.com/quickthorn/quickthorn/internal/language"
)

// AssetPrefix is the path below which the edge must serve what [Pages.Asset] returns.
const AssetPrefix = "/.quickthorn/assets/"

// Kind is the kind of a page.
type Kind uint8

// The kinds of page.
const (
	Info     Kind = iota // a refusal or another short message
	Silent               // goes on by itself once the browser has fetched the page's parts
	Refresh              // goes on by itself after a delay
	Work                 // the browser calculates; needs JavaScript, and has a way without
	Question             // the reader chooses a word
	Captcha              // another service's task
	Hold                 // a form is kept, and sent by a button
	kinds
)

var kindNames = [kinds]string{"info", "silent", "refresh", "work", "question", "captcha", "hold"}

// String returns the kind's name, as data-kind has it.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return ""
}

// View is one page. Texts are keys of the catalogue; what is text here may come from
// anybody and is escaped.
type View struct {
	Language *language.Language // nil: English
	Kind     Kind
	Title    language.Key // heading and title of the page
	Text     language.Key // its paragraph
	More     language.Key // a second one; None for none
	Count    int          // the {seconds} or {minutes} of these texts, if they count something

	Reason    string // shown as "The reason: …." unless empty
	RequestID string // what a reader quotes when they ask the owner; "" for none
	// Contact is how to reach the owner: a mail address, a URL or a sentence; "" for none. It is part of what
	// is remembered of a page's shape, so it must come from the configuration, never from a client.
	Contact string

	Link     string       // same-site address (see below) offered as a link, with LinkText
	LinkText language.Key // None: no link

	// Refresh is the same-site address that the page goes on to by itself, after Delay seconds (0..3600); "" for
	// none. Unless RefreshAlways is set it does so only where JavaScript is off.
	Refresh       string
	Delay         int
	RefreshAlways bool

	Challenge *Task // for the kinds Silent to Captcha
	Hold      *Form // for the kind Hold
}

// Task is what a challenge page needs. Addresses are same-site ("/path?query"); anything else
// becomes "/", but for Script, which may be "https:" too.
type Task struct {
	Ticket   string
	Pass     string // where the solution goes
	Return   string // where the reader wanted to go
	Fallback string // the way without JavaScript

	// For Work: see the script's own documentation. Limit is in milliseconds.
	Algorithm                   string
	Puzzles, Bits, Least, Limit int
	Worker                      string // address of the worker's script

	Script string // address of the page's script, for Work and Captcha; "" for none
	Seen   string // address of a style sheet whose fetching is the proof, for Silent; "" for none

	// For Question: the words to choose from (2..16), which one is asked for, and the name of a field that
	// only programs fill in ("" for none).
	Words []string
	Word  string
	Decoy string

	// For Captcha: the provider's element, and whether Script is a module. Like a contact they are part of the page's shape, so
	// they must come from the configuration, never from a client; Widget is put in as it is.
	Widget template.HTML
	Module bool
}

// Form is a kept form: Action is the same-site address that the button posts to, Token its
// field "token".
type Form struct {
	Action string
	Token  string
}

// maxWords bounds the words of a question.
const maxWords = 16

// contactLink is the address behind a contact, "" if it is a sentence.
func contactLink(c string) string {
	switch {
	case strings.HasPrefix(c, "https://"), strings.HasPrefix(c, "http://"), strings.HasPrefix(c, "mailto:"):
		return c
	case strings.Count(c, "@") == 1 && !strings.ContainsAny(c, " \t<>\"'"):
		return "mailto:" + c
	}
	return ""
}
