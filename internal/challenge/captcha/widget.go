package captcha

import (
	"html"
	"html/template"
	"net/url"
	"slices"
	"strings"
)

// Attribute is one attribute of an element.
type Attribute struct{ Name, Value string }

// Widget is what a page needs to show a provider's widget inside a form. Whoever renders pages takes Markup, or the parts.
type Widget struct {
	ScriptURL string // of the one script, loaded with defer; absolute, or a path on the site
	Module    bool   // the script is type="module"
	Class     string // CSS class of the div that the script fills; "" for those with an element of their own
	SiteKey   string // for the div's data-sitekey
	Field     string // form field in which the response arrives
	// Element is the widget's own element, "cap-widget" or "altcha-widget", or "mcaptcha" for its group of three; "" for a div.
	Element    string
	Attributes []Attribute // of Element
	// Origins are sources for the page's Content-Security-Policy: script-src, frame-src, connect-src, style-src. They are complete
	// with the script's; 'self' is needed besides when ScriptURL is a path.
	Origins []string
	// Workers says that the widget starts workers from blobs and may compile WebAssembly.
	Workers bool
	// InlineStyles says that it looks broken without style-src 'unsafe-inline'.
	InlineStyles bool
}

func (p *protocol) makeWidget(siteKey, public, script string) Widget {
	w := Widget{
		ScriptURL: script, Module: p.module, Class: p.class, SiteKey: siteKey, Field: p.field, Element: p.element,
		Origins: slices.Clone(p.origins), Workers: p.wasm, InlineStyles: p.styles,
	}
	if p.attributes != nil {
		w.Attributes = p.attributes(siteKey, public)
	}
	add := func(source string) {
		if !slices.Contains(w.Origins, source) {
			w.Origins = append(w.Origins, source)
		}
	}
	if u, err := url.Parse(public); err == nil && u.Host != "" {
		add(u.Scheme + "://" + u.Host)
	}
	if u, err := url.Parse(script); err == nil && u.Host != "" {
		// The script alone, not all of its host: public networks of caches serve what anybody puts there.
		source := u.Scheme + "://" + u.Host + u.EscapedPath()
		if !slices.ContainsFunc(w.Origins, func(o string) bool { return covers(o, u) }) {
			add(source)
		}
	}
	return w
}

// covers reports whether a source of a Content-Security-Policy allows u (CSP Level 3, section 6.7.2.8, as far as it is used here).
func covers(source string, u *url.URL) bool {
	scheme, rest, _ := strings.Cut(source, "://")
	host, path, hasPath := strings.Cut(rest, "/")
	if scheme != u.Scheme {
		return false
	}
	if suffix, wild := strings.CutPrefix(host, "*"); wild {
		if !strings.HasSuffix(u.Host, suffix) {
			return false
		}
	} else if host != u.Host {
		return false
	}
	path = "/" + path
	return !hasPath || path == u.EscapedPath() || strings.HasSuffix(path, "/") && strings.HasPrefix(u.EscapedPath(), path)
}

// Markup returns the element that goes into the form, without the script.
func (w Widget) Markup() template.HTML {
	var b strings.Builder
	attributes := func(all []Attribute) {
		for _, a := range all {
			b.WriteString(" " + a.Name + `="` + html.EscapeString(a.Value) + `"`)
		}
	}
	switch w.Element {
	case "":
		b.WriteString("<div")
		attributes([]Attribute{{"class", w.Class}, {"data-sitekey", w.SiteKey}})
		b.WriteString("></div>")
	case "mcaptcha":
		// Its script looks for these ids, moves the label's address into a frame, and fills the input.
		b.WriteString(`<label id="mcaptcha__token-label" for="mcaptcha__token"`)
		attributes(w.Attributes)
		b.WriteString(`>mCaptcha <input type="text" id="mcaptcha__token" name="mcaptcha__token" autocomplete="off"></label><div id="mcaptcha__widget-container"></div>`)
	default:
		b.WriteString("<" + w.Element)
		attributes(w.Attributes)
		b.WriteString("></" + w.Element + ">")
	}
	return template.HTML(b.String())
}

// Policy returns the directives that the page's Content-Security-Policy needs for the widget, besides those that it has: a
// second directive of the same name would be ignored, so they stand in place of the page's own.
func (w Widget) Policy() string {
	origins := ""
	if len(w.Origins) > 0 {
		origins = " " + strings.Join(w.Origins, " ")
	}
	script, style := "script-src 'self'"+origins, "style-src 'self'"+origins
	if w.Workers {
		script += " 'wasm-unsafe-eval'"
	}
	if w.InlineStyles {
		style += " 'unsafe-inline'"
	}
	policy := script + "; " + style + "; frame-src" + origins + "; connect-src 'self'" + origins
	if w.Workers {
		policy += "; worker-src 'self' blob:"
	}
	if origins == "" {
		policy = strings.Replace(policy, "frame-src;", "frame-src 'none';", 1)
	}
	return policy
}
