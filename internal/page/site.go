package page

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// minContrast is what text needs: WCAG 2.2, success criterion 1.4.3.
const minContrast = 4.5

// maxName bounds the site's name and the logo's text, in bytes.
const maxName = 200

// site is what site.yaml says.
type site struct {
	Name, LogoAlt string
	Light, Dark   scheme
}

// scheme is one set of colours, each "#rrggbb".
type scheme struct{ Background, Text, Accent string }

// read overwrites s with what the source has; what it lacks stays.
func (s *site) read(file string, source []byte) error {
	f, err := parser.ParseBytes(source, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if len(f.Docs) == 0 || f.Docs[0].Body == nil {
		return nil
	}
	return each(file, f.Docs[0].Body, func(key string, n ast.Node) error {
		switch key {
		case "name":
			return short(file, key, n, &s.Name)
		case "logoAlt":
			return short(file, key, n, &s.LogoAlt)
		case "light":
			return s.Light.read(file, n)
		case "dark":
			return s.Dark.read(file, n)
		}
		return fmt.Errorf("%s:%d: unknown key %q: there are name, logoAlt, light and dark", file, line(n), key)
	})
}

func (c *scheme) read(file string, n ast.Node) error {
	return each(file, n, func(key string, n ast.Node) error {
		var to *string
		switch key {
		case "background":
			to = &c.Background
		case "text":
			to = &c.Text
		case "accent":
			to = &c.Accent
		default:
			return fmt.Errorf("%s:%d: unknown colour %q: there are background, text and accent", file, line(n), key)
		}
		v, ok := n.(*ast.StringNode)
		if !ok || !isColour(v.Value) {
			return fmt.Errorf("%s:%d: %s is not a colour like \"#1a2b3c\", in quotes", file, line(n), key)
		}
		*to = strings.ToLower(v.Value)
		return nil
	})
}

func each(file string, n ast.Node, do func(key string, n ast.Node) error) error {
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		return fmt.Errorf("%s:%d: not a map of keys to values", file, line(n))
	}
	for _, v := range values {
		if err := do(v.Key.String(), v.Value); err != nil {
			return err
		}
	}
	return nil
}

func short(file, key string, n ast.Node, to *string) error {
	v, ok := n.(*ast.StringNode)
	if !ok || len(v.Value) > maxName || strings.ContainsAny(v.Value, "\n\r") {
		return fmt.Errorf("%s:%d: %s is not a line of text of at most %d bytes; put it in quotes", file, line(n), key, maxName)
	}
	*to = v.Value
	return nil
}

func line(n ast.Node) int { return n.GetToken().Position.Line }

func isColour(s string) bool {
	if len(s) != 7 || s[0] != '#' {
		return false
	}
	_, err := strconv.ParseUint(s[1:], 16, 32)
	return err == nil
}

// css declares the colours.
func (s *site) css() []byte {
	declare := func(c *scheme) string {
		return ":root { --background: " + c.Background + "; --text: " + c.Text + "; --accent: " + c.Accent + " }"
	}
	return []byte(declare(&s.Light) + "\n@media (prefers-color-scheme: dark) { " + declare(&s.Dark) + " }\n")
}

func (s *site) warnings(file string) (list []string) {
	for _, c := range [...]struct {
		name string
		*scheme
	}{{"light", &s.Light}, {"dark", &s.Dark}} {
		for _, on := range [...]struct{ name, colour string }{{"text", c.Text}, {"accent", c.Accent}} {
			if r := contrast(on.colour, c.Background); r < minContrast {
				list = append(list, fmt.Sprintf("%s: %s.%s on %s.background has a contrast of %.1f:1; readers with weak sight need %.1f:1", file, c.name, on.name, c.name, r, minContrast))
			}
		}
	}
	return list
}

// contrast is the contrast ratio of two colours, 1..21, as WCAG 2.2 defines it.
func contrast(a, b string) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// luminance is the relative luminance of "#rrggbb", 0..1.
func luminance(colour string) float64 {
	n, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 32)
	if err != nil {
		return 0
	}
	linear := func(c uint64) float64 {
		v := float64(c&0xff) / 255
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(n>>16) + 0.7152*linear(n>>8) + 0.0722*linear(n)
}
