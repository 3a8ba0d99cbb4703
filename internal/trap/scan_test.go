package trap

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// documents are pages with a mark where the links go; one without gets none.
var documents = []struct{ name, html string }{
	{"links go before the end of the body", "<!doctype html><title>a</title><body><p>b</p>\n{links}</body></html>\n"},
	{"whatever its letters", "<!DOCTYPE HTML><BODY>x{links}</BoDy ></HTML>"},
	{"and its odd spaces and attributes", "<html><body>x{links}</body\n class='>'></html>"},
	{"or a slash", "<html><body>x{links}</body/></html>"},
	{"before the first of two", "<html>{links}</body></body></html>"},
	{"a longer name is another", "<html><body></bodyguard><bodyx></bod>{links}</body>"},
	{"a piece of a page gets links if it ends a body", "<p>b</p>{links}</body>"},
	{"without its end they go to the end of a document", "<!doctype html><p>a<p>b\n{links}"},
	{"of one that begins with html", "\ufeff\n<!-- a --><html lang=en><p>a{links}"},
	{"or head", "<head><title>x</title></head><p>a{links}"},
	{"or body", "<body class=a><p>a{links}"},
	{"or an XML declaration and a doctype", "<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\"><html/>{links}"},
	{"a fragment gets none", "<div><p>b</p></div>"},
	{"nor does text", "a < b, and nothing more"},
	{"nor text before a document without an end", "Warning: x <html><p>"},
	{"nor nothing", ""},
	{"nor an end that is not one", "</html>"},
	{"a page that breaks off in a tag gets none", "<html><p>a<a href=\"x"},
	{"nor in the end of the body", "<html><p>a</body"},
	{"nor in a comment", "<html><p>a<!-- b"},
	{"nor behind a lone <", "<html>a<"},
	{"a comment hides", "<html><!-- </body> -->{links}</body>"},
	{"one that ends with a bang, too", "<html><!-- </body> --!>{links}</body>"},
	{"one that is empty", "<html><!-->{links}</body>"},
	{"one of a dash", "<html><!--->{links}</body>"},
	{"one of many dashes", "<html><!----- </body> ----->{links}</body>"},
	{"a bang alone does not end one", "<html><!--!> </body> -->{links}</body>"},
	{"nor a bang and a dash", "<html><!-- a--!- </body> -->{links}</body>"},
	{"a conditional comment is one", "<html><!--[if lt IE 9]></body><![endif]-->{links}</body>"},
	{"what begins like a comment ends with the next >", "<html><!-x -- </body x='>{links}</body>"},
	{"so does a mark of XML", "<html><?php echo '</body ?>{links}</body>"},
	{"and what is an end tag of nothing", "<html></ body</body>{links}</body>"},
	{"and a section of characters in HTML", "<html><![CDATA[ > {links}</body> ]]>"},
	{"which hides in SVG", "<html><svg><![CDATA[ ]> </body></svg> ]]></svg>{links}</body>"},
	{"an attribute hides", `<html><p title="</body>" data-a='</body>' b=</body >{links}</body>`},
	{"a quote in an attribute's name hides nothing", `<html><p a"b>{links}</body>">`},
	{"nor one behind a value", `<html><p a=b"c>{links}</body>">`},
	{"a value may begin behind space", "<html><p a = \"</body>\" b\n=\n'</body>'>{links}</body>"},
	{"an equals sign begins an attribute's name", `<html><p ="a>{links}</body>">`},
	{"a script hides", "<html><script>document.write('</body></html>')</script>{links}</body>"},
	{"as far as its end", "<html><script>a</scripts></body></SCRIPT >{links}</body>"},
	{"a script with a comment", "<html><script><!-- a</body> --> </body></script>{links}</body>"},
	{"which may hold a script", "<html><script><!-- <script></body></script> </body> --></script>{links}</body>"},
	{"with its end", "<html><script><!-- <script> </script> </script>{links}</body>"},
	{"or not", "<html><script><!-- <scripty> </script>{links}</body>"},
	{"an empty one", "<html><script><!--></script>{links}</body>"},
	{"one that is none", "<html><script><!- <script></script>{links}</body>"},
	{"a script that never ends hides all", "<html><script><!--<script></script></body>"},
	{"a style hides", "<html><style>a::after { content: '</body>' }</style>{links}</body>"},
	{"a title hides", "<html><title></body></title>{links}</body>"},
	{"a field hides", "<html><textarea></body><!-- </textarea>{links}</body>"},
	{"what is for browsers without scripts hides", "<html><noscript></body></noscript>{links}</body>"},
	{"a frame's text hides", "<html><iframe></body></iframe>{links}</body>"},
	{"plain text hides all", "<html><plaintext></body></plaintext></body>"},
	{"a template hides", "<html><template><template></body></template></body></template>{links}</body>"},
	{"one end too many is nothing", "<html></template></svg>{links}</body>"},
	{"a template that never ends hides all", "<html><template></body>"},
	{"SVG hides", "<html><svg><g></body></g></svg>{links}</body>"},
	{"SVG in SVG hides", "<html><svg><svg/><svg></svg></body></svg>{links}</body>"},
	{"a picture without content hides nothing", "<html><svg />{links}</body>"},
	{"an end tag with a slash is one", "<html><svg></svg/>{links}</body>"},
	{"a title of a picture may have no end", "<html><svg><title/><style/><script/></svg>{links}</body>"},
	{"a formula hides", "<html><math><mi></body></mi></math>{links}</body>"},
	{"text with < is text", "<html>1 < 2 <3 << <{links}</body>"},
	{"an end behind another's beginning", "<html></</bo</body><{links}</body>"},
	{"bytes of no text are text", "<html>\x00\xff\xfe{links}</body>\x00"},
	{"UTF-16 is not understood", "\xff\xfe<\x00h\x00t\x00m\x00l\x00>\x00<\x00/\x00b\x00o\x00d\x00y\x00>\x00"},
}

func TestLinksGoToTheEndOfTheBody(t *testing.T) {
	for _, d := range documents {
		t.Run(d.name, func(t *testing.T) {
			if got := inserted(t, strings.ReplaceAll(d.html, mark, "")); got != d.html {
				t.Errorf("got  %q\nwant %q", got, d.html)
			}
		})
	}
}

func TestItDoesNotMatterInWhatPiecesADocumentComes(t *testing.T) {
	for _, d := range documents {
		document := strings.ReplaceAll(d.html, mark, "")
		for i := range len(document) + 1 {
			for j := i; j <= len(document); j++ {
				if got := inserted(t, document, i, j); got != d.html {
					t.Fatalf("%s: cut at %d and %d: got %q\nwant %q", d.name, i, j, got, d.html)
				}
			}
		}
		var every []int
		for i := range len(document) {
			every = append(every, i, i)
		}
		if got := inserted(t, document, every...); got != d.html {
			t.Fatalf("%s: byte by byte: got %q\nwant %q", d.name, got, d.html)
		}
	}
}

func TestNoMoreThanATagsBeginningIsHeldBack(t *testing.T) {
	for _, d := range documents {
		document := strings.ReplaceAll(d.html, mark, "")
		var out bytes.Buffer
		s := inserter{to: &out, links: func() []byte { return nil }}
		for i := range len(document) {
			if err := s.write([]byte(document[i : i+1])); err != nil {
				t.Fatal(err)
			}
			rest := document[out.Len() : i+1]
			if len(rest) > maxHeld || !strings.HasPrefix("</body", strings.ToLower(rest)) {
				t.Fatalf("%s: %q is held back", d.name, rest)
			}
		}
	}
}

func TestABrowserFindsTheLinksInTheBody(t *testing.T) {
	traps := newTraps(t)
	for _, d := range documents {
		if !strings.Contains(d.html, mark) {
			continue
		}
		root, err := html.Parse(strings.NewReader(strings.ReplaceAll(d.html, mark, linksOf(traps, "/a"))))
		if err != nil {
			t.Fatal(err)
		}
		if in, out := findLinks(root, traps, false); in == 0 || out > 0 {
			t.Errorf("%s: %d links are in the body, %d elsewhere", d.name, in, out)
		}
	}
}

// findLinks counts the traps in a tree that are within the body and hidden, and those that are not.
func findLinks(n *html.Node, traps *Traps, body bool) (in, out int) {
	if n.Type == html.ElementNode {
		body = body || n.Data == "body"
		attributes := map[string]string{}
		for _, a := range n.Attr {
			attributes[a.Key] = a.Val
		}
		if n.Data == "a" && traps.Hit(attributes["href"]) {
			_, hidden := attributes["hidden"]
			if body && n.Namespace == "" && hidden && attributes["rel"] == "nofollow" && attributes["aria-hidden"] == "true" && attributes["tabindex"] == "-1" {
				in++
			} else {
				out++
			}
		}
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		i, o := findLinks(c, traps, body)
		in, out = in+i, out+o
	}
	return in, out
}

// FuzzInsert checks that pages in whatever pieces stay what they were, and that links stand between tags wherever the tokenizer of
// golang.org/x/net/html, which knows nothing of this package, says so too.
func FuzzInsert(f *testing.F) {
	for _, d := range documents {
		document := strings.ReplaceAll(d.html, mark, "")
		f.Add(document, uint(len(document)/2), uint(len(document)-3))
	}
	f.Fuzz(func(t *testing.T, document string, i, j uint) {
		if strings.Contains(document, mark) {
			return
		}
		whole := inserted(t, document)
		if n := strings.Count(whole, mark); n > 1 || strings.Replace(whole, mark, "", 1) != document {
			t.Fatalf("%d links in %q of %q", n, whole, document)
		}
		a, b := int(i%uint(len(document)+1)), int(j%uint(len(document)+1))
		if cut := inserted(t, document, min(a, b), max(a, b)); cut != whole {
			t.Fatalf("cut at %d and %d: %q, whole %q", a, b, cut, whole)
		}
		at := strings.Index(whole, mark)
		if at < 0 {
			return
		}
		if disputed.MatchString(document) {
			return
		}
		low := strings.ToLower(document)
		for _, unknown := range []string{"<svg", "<math", "<noscript", "<![cdata["} { // the tokenizer does not know whether it is in one
			if strings.Contains(low, unknown) {
				return
			}
		}
		if !betweenTokens(document, at) {
			t.Errorf("the links of %q stand within a token", whole)
		}
	})
}

// betweenTokens reports whether a tag at an offset would be one.
func betweenTokens(document string, at int) bool {
	const probe = "<q-q>"
	z := html.NewTokenizer(strings.NewReader(document[:at] + probe + document[at:]))
	for from := 0; ; {
		kind := z.Next()
		raw := string(z.Raw())
		if from == at {
			if kind != html.StartTagToken || raw != probe {
				return false
			}
			return true
		}
		if from += len(raw); kind == html.ErrorToken || from > at {
			return false
		}
	}
}

// disputed are documents of which that tokenizer leaves a script's comment at a "<" that begins nothing, which the standard does not
// ("Script data escaped less-than sign state").
var disputed = regexp.MustCompile(`(?is)<script.*<!--.*<[^a-z/]`)

// A page that is made of pieces that confuse gets its links where another tokenizer finds the end of the body.
func TestAnotherTokenizerFindsTheSamePlace(t *testing.T) {
	pieces := []string{
		"<script>", "</script>", "<script", "</script", "<!--", "-->", "--!>", "--", "<!", "<", ">", "</", "/", "/>", " ", "\n", "=", "\"", "'", "a", "a=\"", "b='", "c=d",
		"</body>", "</body>", "</body", "</bod", "<body>", "</BODY x>", "<style>", "</style>", "<title>", "</title >", "<textarea>", "</textarea/>", "<p>", "<p ", "<?", "!", "-",
		"<iframe>", "</iframe>", "<xmp>", "</xmp>", "<plaintex", "<em>", "</script></body>", "<!doctype html>", "<b a='>' c=\">\">",
	}
	var r rand.PCG
	r.Seed(1, 2)
	with := 0
	for range 50_000 {
		document := "<html>"
		for range 2 + below(&r, 14) {
			document += pick(&r, pieces)
		}
		if document += " "; disputed.MatchString(document) {
			continue
		}
		want := -1
		for _, rest := range []string{"", ">", "'>", "\">"} { // the tokenizer does not see a tag that is cut off
			if want < 0 {
				want = endOfBody(document + rest)
			}
		}
		got := strings.Index(inserted(t, document), mark)
		if got == len(document) { // at the end, where there is no such tag
			got = -1
		}
		if got != want {
			t.Fatalf("%q: links at %d, the end of the body at %d", document, got, want)
		}
		if want >= 0 {
			with++
		}
	}
	if with < 5_000 {
		t.Errorf("only %d documents had an end of the body", with)
	}
}

// endOfBody is where the first end tag of a body begins, -1 if there is none.
func endOfBody(document string) int {
	z := html.NewTokenizer(strings.NewReader(document))
	for from := 0; ; {
		kind := z.Next()
		raw := z.Raw()
		if kind == html.ErrorToken {
			return -1
		}
		if kind == html.EndTagToken {
			if name, _ := z.TagName(); string(name) == "body" {
				return from
			}
		}
		from += len(raw)
	}
}
