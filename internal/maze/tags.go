package maze

import "github.com/quickthorn/quickthorn/internal/likeness"

// tags are the opening tags of what is in the text, with the classes that the site gives them.
type tags struct {
	h1, p, h3, ul, ol, li, table, quote, pre string
	h2, a                                    string // without their end
}

func plainTags() tags { return tagsOf(nil) }

// tagsOf makes tags with the classes by element, which were checked.
func tagsOf(classes likeness.Classes) tags {
	open := func(element string) string {
		if c := classes[element]; c != "" {
			return "<" + element + ` class="` + c + `"`
		}
		return "<" + element
	}
	return tags{
		h1: open("h1") + ">", p: open("p") + ">", h2: open("h2"), h3: open("h3") + ">", ul: open("ul") + ">", ol: open("ol") + ">",
		li: open("li") + ">", table: open("table") + ">", quote: open("blockquote") + ">", pre: open("pre") + ">", a: open("a"),
	}
}
